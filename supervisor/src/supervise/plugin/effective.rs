//! A configuration as its plugin gets it: with the credentials in it that the operator named.
//!
//! It is made at each start and forgotten after it. Its secrets are also what an error of that start
//! must not quote: a plugin that refuses its configuration can say why in words of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::StartPlan;
use crate::failure::Failure;
use crate::link::{Reply, Request};
use crate::manifest::secrets::{REDACTED, credential};
use crate::supervise::launcher_link::{Launcher, unexpected};

/// What is shorter than this is found in every other word.
const LEAST: usize = 4;
/// The same for a line of a longer secret, of which some say nothing.
const LEAST_LINE: usize = 8;

/// What a plugin is given.
pub(super) struct Effective {
    /// JSON.
    pub(super) text: String,
    secrets: Vec<String>,
}

impl StartPlan {
    /// The configuration with its credentials.
    ///
    /// NOT_FOUND: the service has no such credential. CONFIG_INVALID: one does not fit the schema.
    pub(super) async fn effective(&self, launcher: &Launcher) -> Result<Effective, Failure> {
        let (rules, mut config) = (&self.manifest.config, self.config.clone());
        let mut credentials = BTreeMap::new();
        rules.each_secret(&mut config, &mut |secret| {
            credentials.extend(credential(secret).map(|name| (name.to_owned(), String::new())));
        });
        for (name, text) in &mut credentials {
            *text = match launcher.ask(Request::Credential { name: name.clone() }).await? {
                (Reply::Credential(hidden), _) => hidden.0,
                (other, _) => return Err(unexpected(&other)),
            };
        }
        let mut secrets = Vec::new();
        rules.each_secret(&mut config, &mut |secret| {
            if let Some(text) = credential(secret).and_then(|name| credentials.get(name)) {
                *secret = Value::String(text.clone());
            }
            gather(secret, &mut secrets);
        });
        if !credentials.is_empty() {
            rules.check(&config)?;
        }
        Ok(Effective { text: config.to_string(), secrets })
    }
}

/// The forms in which programs quote a text, longest first: as it is, escaped as JSON and as Rust do,
/// and line by line where it has several, as a log has it.
fn forms(text: &str) -> Vec<String> {
    let mut escaped = vec![Value::from(text).to_string(), format!("{text:?}")];
    for quoted in &mut escaped {
        quoted.pop();
        quoted.remove(0);
    }
    let mut forms = vec![text.to_owned()];
    forms.extend(escaped);
    forms.extend(text.lines().map(|line| line.trim().to_owned()).filter(|l| l.len() >= LEAST_LINE));
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

/// All texts of a value that are long enough to be told from others.
fn gather(value: &Value, to: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= LEAST => to.extend(forms(text)),
        Value::Array(items) => items.iter().for_each(|item| gather(item, to)),
        Value::Object(object) => object.values().for_each(|value| gather(value, to)),
        _ => {}
    }
}

impl Effective {
    /// A failure without the secrets that it quotes.
    pub(super) fn mask(&self, failure: Failure) -> Failure {
        let Failure { code, message, mut details } = failure;
        self.mask_value(&mut details);
        Failure { code, message: self.mask_text(message), details }
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask_text(std::mem::take(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(object) => object.values_mut().for_each(|value| self.mask_value(value)),
            _ => {}
        }
    }

    fn mask_text(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Code;

    #[test]
    fn a_failure_quotes_no_secret() {
        let mut secrets = Vec::new();
        gather(&json!({ "key": "canary-1", "more": ["canary-2", "abc"] }), &mut secrets);
        assert_eq!(secrets, ["canary-1", "canary-2"]);
        let key = "-----BEGIN\nc2VjcmV0LWtleQ==\t\"\n}\n";
        for quoted in [
            key.to_owned(),
            json!({ "key": key }).to_string(),
            format!("{:?}", Some(key)),
            "read c2VjcmV0LWtleQ==\t\" of it".to_owned(),
        ] {
            let mut secrets = Vec::new();
            gather(&json!(key), &mut secrets);
            let masked = Effective { text: String::new(), secrets }.mask_text(quoted);
            assert!(!masked.contains("c2VjcmV0LWtleQ"), "{masked}");
        }
        let effective = Effective { text: String::new(), secrets };
        let failure = Failure::new(Code::ConfigInvalid, "abc: canary-1 is wrong")
            .with("pluginDetails", "{\"value\":\"canary-2\"}")
            .with("lastLogLines", ["got canary-1", "abc"]);
        let masked = effective.mask(failure);
        assert_eq!(masked.message, "abc: <redacted> is wrong");
        assert_eq!(
            masked.details,
            json!({ "pluginDetails": "{\"value\":\"<redacted>\"}",
                    "lastLogLines": ["got <redacted>", "abc"] })
        );
    }
}
