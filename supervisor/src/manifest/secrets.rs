//! Settings that are secret: `secret = true` in the schema of a configuration.
//!
//! Their values go to the plugin and to the store, and nowhere else: wherever a configuration is
//! shown they are replaced ([`REDACTED`]), and no error quotes one. Instead of the value itself an
//! operator can give `{"credential": "name"}`, a credential of the service (systemd.exec(5),
//! LoadCredential=): then the value is not even in the store.

use serde_json::{Value, json};

use super::schema::Node;
use super::{Config, Schema};

/// What is shown in the place of a secret.
pub(crate) const REDACTED: &str = "<redacted>";

/// Marks what is to be left out; with a NUL, which no configuration in a file can have.
const LEFT_OUT: &str = "\0left out";

/// A credential's name where a secret is wanted: `{"credential": "name"}` and nothing else.
pub(crate) fn credential(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get("credential")?.as_str()
}

impl Config {
    /// A configuration as it can be shown.
    pub(crate) fn redacted(&self, config: &Value) -> Value {
        let mut shown = config.clone();
        self.each_secret(&mut shown, &mut |secret| {
            // Which credential it is, is no secret.
            if credential(secret).is_none() {
                *secret = json!(REDACTED);
            }
        });
        shown
    }

    /// A configuration as it can be kept in other hands: without its secrets. A credential's name is
    /// none.
    pub(crate) fn without_secrets(&self, config: &Value) -> Value {
        let mut marked = config.clone();
        self.each_secret(&mut marked, &mut |secret| {
            if credential(secret).is_none() {
                *secret = json!(LEFT_OUT);
            }
        });
        leave_out(&mut marked);
        marked
    }

    /// A configuration as another version of the plugin can have it: without what is a secret here and
    /// would be shown there.
    pub(crate) fn handed_to(&self, other: &Config, config: &Value) -> Value {
        let marked = |by: &Config| {
            let mut marked = config.clone();
            by.each_secret(&mut marked, &mut |secret| {
                if credential(secret).is_none() {
                    *secret = json!(LEFT_OUT);
                }
            });
            marked
        };
        let mut handed = hand(config, &marked(self), &marked(other));
        leave_out(&mut handed);
        handed
    }

    /// A configuration of which nobody knows what is a secret, as this version can have it: what it
    /// hides, and nothing that it would show.
    pub(crate) fn hidden_of(&self, config: &Value) -> Value {
        let mut marked = config.clone();
        self.each_secret(&mut marked, &mut |secret| *secret = json!(LEFT_OUT));
        let mut handed = hand(config, &all_marked(config), &marked);
        leave_out(&mut handed);
        handed
    }

    /// A configuration that was shown and is given back: what was hidden is what it was before.
    pub(crate) fn unredacted(&self, mut given: Value, before: &Value) -> Value {
        let mut hidden = given.clone();
        self.each_secret(&mut hidden, &mut |secret| {
            *secret = if *secret == json!(REDACTED) { Value::Null } else { json!(true) };
        });
        put_back(&mut given, &hidden, before);
        given
    }

    /// Whether a configuration can have secrets.
    pub(crate) fn has_secrets(&self) -> bool {
        self.schema.as_ref().is_some_and(|schema| schema.root.has_secrets())
    }

    /// The secrets that are in a configuration, to be changed or looked at.
    pub(crate) fn each_secret(&self, config: &mut Value, act: &mut dyn FnMut(&mut Value)) {
        if let Some(schema) = &self.schema {
            schema.each_secret(config, act);
        }
    }
}

impl Schema {
    fn each_secret(&self, config: &mut Value, act: &mut dyn FnMut(&mut Value)) {
        self.root.each_secret(config, act);
    }
}

impl Node {
    pub(super) fn each_secret(&self, value: &mut Value, act: &mut dyn FnMut(&mut Value)) {
        if self.secret {
            return act(value);
        }
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    if let Some(node) = self.property(name) {
                        node.each_secret(value, act);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for item in items {
                    node.each_secret(item, act);
                }
            }
            _ => {}
        }
    }
}

/// What of `config` is not marked in `here`, or also is in `there`.
fn hand(config: &Value, here: &Value, there: &Value) -> Value {
    match (config, here, there) {
        (_, _, there) if *there == json!(LEFT_OUT) => config.clone(),
        (Value::Object(config), Value::Object(here), Value::Object(there)) => config
            .iter()
            .map(|(name, value)| (name.clone(), hand(value, &here[name], &there[name])))
            .collect(),
        (Value::Array(config), Value::Array(here), Value::Array(there)) => {
            let both = here.iter().zip(there);
            config.iter().zip(both).map(|(value, (here, there))| hand(value, here, there)).collect()
        }
        (_, here, _) => here.clone(),
    }
}

/// A configuration with all of its values marked.
fn all_marked(config: &Value) -> Value {
    match config {
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), all_marked(value))).collect()
        }
        Value::Array(items) => items.iter().map(all_marked).collect(),
        _ => json!(LEFT_OUT),
    }
}

fn leave_out(value: &mut Value) {
    let is_marked = |value: &Value| *value == json!(LEFT_OUT);
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !is_marked(value));
            object.values_mut().for_each(leave_out);
        }
        Value::Array(items) => {
            items.retain(|item| !is_marked(item));
            items.iter_mut().for_each(leave_out);
        }
        _ => {}
    }
}

/// Where `hidden` is null and `given` is not, `given` gets what `before` has there.
fn put_back(given: &mut Value, hidden: &Value, before: &Value) {
    match (given, hidden) {
        (given, Value::Null) if *given == json!(REDACTED) => *given = before.clone(),
        (Value::Object(given), Value::Object(hidden)) => {
            for (name, value) in given {
                put_back(value, &hidden[name], &before[name]);
            }
        }
        (Value::Array(given), Value::Array(hidden)) => {
            for (index, value) in given.iter_mut().enumerate() {
                put_back(value, &hidden[index], &before[index]);
            }
        }
        _ => {}
    }
}

/// All values replaced, where no manifest says which are secret.
pub(crate) fn blank(config: &Value) -> Value {
    match config {
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), blank(value))).collect()
        }
        Value::Null => Value::Null,
        _ => json!(REDACTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_there() {
        let text = "[schema]\ntype = 'object'\n[schema.properties.token]\nsecret = true\n\
                    [schema.properties.key]\nsecret = true\n\
                    [schema.properties.db]\ntype = 'object'\n\
                    [schema.properties.db.properties.password]\nsecret = true\n";
        let config: Config = toml::from_str(text).unwrap();
        let given = json!({
            "token": "t", "key": {"credential": "c"}, "db": {"host": "h", "password": "p"}, "n": 1
        });
        let kept = json!({"key": {"credential": "c"}, "db": {"host": "h"}, "n": 1});
        assert_eq!(config.without_secrets(&given), kept);
        assert_eq!(Config::default().without_secrets(&given), given, "no schema says so");
    }

    #[test]
    fn a_version_that_would_show_a_secret_does_not_get_it() {
        let config = |secrets: &[&str]| -> Config {
            let mut text = "[schema]\ntype = 'object'\n".to_owned();
            for name in secrets {
                text.extend(["[schema.properties.", name, "]\nsecret = true\n"]);
            }
            toml::from_str(&text).unwrap()
        };
        let given = json!({
            "token": "t", "db": {"host": "h", "password": "p"}, "key": {"credential": "c"}, "n": 1
        });
        let (one, db) = (config(&["token", "key"]), config(&["db"]));
        assert_eq!(one.handed_to(&one, &given), given);
        assert_eq!(
            Config::default().handed_to(&one, &given),
            given,
            "what was shown may be secret"
        );
        let without = json!({
            "db": {"host": "h", "password": "p"}, "key": {"credential": "c"}, "n": 1
        });
        assert_eq!(one.handed_to(&Config::default(), &given), without);
        assert_eq!(one.handed_to(&db, &given), without);
        assert_eq!(
            db.handed_to(&one, &given),
            json!({
                "token": "t", "key": {"credential": "c"}, "n": 1
            })
        );
    }

    #[test]
    fn of_what_nobody_can_read_only_what_is_hidden_is_handed_on() {
        let given = json!({
            "url": "u", "password": "canary", "limit": 7, "none": null,
            "users": [{ "name": "n", "key": "k" }], "db": { "password": "p" },
        });
        let handed = json!({ "password": "canary", "users": [{ "key": "k" }], "db": {} });
        assert_eq!(config().hidden_of(&given), handed);
        assert_eq!(Config::default().hidden_of(&json!({ "password": "canary" })), json!({}));
        assert_eq!(config().redacted(&handed)["password"], REDACTED);
    }

    #[test]
    fn whether_there_can_be_secrets() {
        let has = |schema: Value| {
            let schema = Some(serde_json::from_value(schema).unwrap());
            Config { schema, ..Config::default() }.has_secrets()
        };
        assert!(!Config::default().has_secrets());
        assert!(!has(json!({ "properties": { "a": { "items": { "secret": false } } } })));
        let secret = json!({ "secret": true });
        assert!(has(secret.clone()));
        assert!(has(json!({ "properties": { "a": { "items": secret } } })));
        assert!(has(json!({ "additionalProperties": { "properties": { "a": secret } } })));
    }

    fn config() -> Config {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["url", "password"],
            "properties": {
                "url": { "type": "string" },
                "password": { "type": "string", "secret": true, "minLength": 8, "pattern": "^[a-z]+$" },
                "users": { "type": "array", "uniqueItems": true, "items": {
                    "type": "object",
                    "properties": { "name": { "type": "string" }, "key": { "secret": true } }
                } },
                "tokens": { "type": "object", "additionalProperties": { "type": "string", "secret": true } },
            }
        });
        let schema = serde_json::from_value(schema).unwrap();
        Config { schema: Some(schema), ..Config::default() }
    }

    #[test]
    fn secrets_are_replaced_wherever_they_are_and_nothing_else_is() {
        let given = json!({
            "url": "u", "password": "canary",
            "users": [{ "name": "n", "key": { "deep": "canary" } }, { "name": "m" }],
            "tokens": { "a": "canary", "b": { "credential": "b-token" } },
        });
        let shown = config().redacted(&given);
        assert_eq!(
            shown,
            json!({
                "url": "u", "password": REDACTED,
                "users": [{ "name": "n", "key": REDACTED }, { "name": "m" }],
                "tokens": { "a": REDACTED, "b": { "credential": "b-token" } },
            })
        );
        let changed = json!({ "url": "other", "password": REDACTED, "users": shown["users"] });
        let kept = config().unredacted(changed, &given);
        assert_eq!(kept, json!({ "url": "other", "password": "canary", "users": given["users"] }));
        let literal = json!({ "url": REDACTED, "password": "new" });
        assert_eq!(config().unredacted(literal.clone(), &given), literal, "that is no secret");
    }

    #[test]
    fn no_fault_quotes_a_secret() {
        for (given, path) in [
            (json!({ "url": "u", "password": "Canary" }), "password"),
            (json!({ "url": "u", "password": 1_234_567 }), "password"),
            (
                json!({ "url": "u", "password": "canaries", "tokens": { "a": ["canary"] } }),
                "tokens.a",
            ),
            (
                json!({ "url": "u", "password": "canaries",
                        "users": [{ "key": "canary" }, { "key": "canary" }] }),
                "users",
            ),
            (json!({ "url": { "password": "canary" }, "password": "canaries" }), "url"),
            (json!([{ "password": "canary" }]), ""),
        ] {
            let failure = config().check(&given).unwrap_err();
            let text = format!("{failure} {}", failure.details);
            assert_eq!(failure.details["path"], path, "{text}");
            assert!(!text.contains("anary") && !text.contains("1234567"), "{text}");
        }
        let plain = config().check(&json!({ "url": 7, "password": "canaries" })).unwrap_err();
        assert!(plain.message.contains('7'), "the control: what is no secret is quoted: {plain}");
    }

    #[test]
    fn a_credential_stands_for_a_secret_and_for_nothing_else() {
        let check = |given: Value| config().check(&given);
        let name = json!({ "credential": "db-password" });
        assert_eq!(check(json!({ "url": "u", "password": name })), Ok(()));
        assert!(check(json!({ "url": name, "password": "canaries" })).is_err());
        for bad in [json!({ "credential": 7 }), json!({ "credential": "a", "more": 1 }), json!({})]
        {
            assert!(check(json!({ "url": "u", "password": bad })).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_manifest_nothing_is_shown() {
        let given = json!({ "a": "x", "b": { "c": 1 }, "d": [1], "e": null });
        let hidden = json!({ "a": REDACTED, "b": { "c": REDACTED }, "d": REDACTED, "e": null });
        assert_eq!(blank(&given), hidden);
    }
}
