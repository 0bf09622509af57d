//! A configuration as its plugin gets it: with the credentials in it that the operator named.
//!
//! It is made each time that a plugin is given one, and forgotten after that. Its secrets are kept for as
//! long as that process lives: what is told of it must not quote them.

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
    pub(super) secrets: Secrets,
}

/// Texts that are shown to nobody, in each form in which a program may quote them.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Vec<String>);

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
        let mut secrets = Secrets::default();
        rules.each_secret(&mut config, &mut |secret| {
            if let Some(text) = credential(secret).and_then(|name| credentials.get(name)) {
                *secret = Value::String(text.clone());
            }
            secrets.gather(secret);
        });
        if !credentials.is_empty() {
            rules.check(&config)?;
        }
        Ok(Effective { text: config.to_string(), secrets })
    }
}

/// The forms in which programs quote a text: as it is, escaped as JSON and as Rust do,
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
    forms
}

impl Secrets {
    /// Adds all texts of a value that are long enough to be told from others.
    pub(super) fn gather(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() >= LEAST => self.extend(forms(text)),
            Value::Array(items) => items.iter().for_each(|item| self.gather(item)),
            Value::Object(object) => object.values().for_each(|value| self.gather(value)),
            _ => {}
        }
    }

    pub(super) fn add(&mut self, others: &Self) {
        self.extend(others.0.iter().cloned());
    }

    /// The longest stays first: what begins or ends with another secret is replaced as a whole.
    fn extend(&mut self, forms: impl IntoIterator<Item = String>) {
        self.0.extend(forms);
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
    }

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

    pub(super) fn mask_text(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Code;

    #[test]
    fn a_failure_quotes_no_secret() {
        let of = |value: Value| {
            let mut secrets = Secrets::default();
            secrets.gather(&value);
            secrets
        };
        let secrets = of(json!({ "key": "canary-1", "more": ["canary-2", "abc"] }));
        assert_eq!(secrets.0, ["canary-1", "canary-2"]);
        let longer = of(json!(["canary", "canary-and-more"])).mask_text("canary-and-more".into());
        assert_eq!(longer, "<redacted>");
        let key = "-----BEGIN\nc2VjcmV0LWtleQ==\t\"\n}\n";
        for quoted in [
            key.to_owned(),
            json!({ "key": key }).to_string(),
            format!("{:?}", Some(key)),
            "read c2VjcmV0LWtleQ==\t\" of it".to_owned(),
        ] {
            let masked = of(json!(key)).mask_text(quoted);
            assert!(!masked.contains("c2VjcmV0LWtleQ"), "{masked}");
        }
        let failure = Failure::new(Code::ConfigInvalid, "abc: canary-1 is wrong")
            .with("pluginDetails", "{\"value\":\"canary-2\"}")
            .with("lastLogLines", ["got canary-1", "abc"]);
        let masked = secrets.mask(failure);
        assert_eq!(masked.message, "abc: <redacted> is wrong");
        assert_eq!(
            masked.details,
            json!({ "pluginDetails": "{\"value\":\"<redacted>\"}",
                    "lastLogLines": ["got <redacted>", "abc"] })
        );
    }
}
