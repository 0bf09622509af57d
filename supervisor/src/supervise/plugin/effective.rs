//! A configuration as its plugin gets it: with the credentials in it that the operator named.
//!
//! It is made each time that a plugin is given one, and forgotten after that. Its secrets are kept for as
//! long as that process lives: what is told of it must not quote them.

use std::collections::BTreeMap;
use std::ops::Range;

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
/// So much of a secret's beginning gives it away, where a text ends with it.
const BEGINNING: usize = 16;
/// What may stand behind the place where a text was shortened: the mark, and what is left of a character.
const AT_A_CUT: [char; 2] = ['…', char::REPLACEMENT_CHARACTER];

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
    /// Adds all texts and numbers of a value that are long enough to be told from others.
    pub(super) fn gather(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() >= LEAST => self.extend(forms(text)),
            Value::Number(number) => {
                let mut forms = vec![number.to_string()];
                // As programs print 5e8, which JSON has as 500000000.0.
                forms.extend(number.as_f64().filter(|_| number.is_f64()).map(|it| it.to_string()));
                self.extend(forms.into_iter().filter(|form| form.len() >= LEAST));
            }
            Value::Array(items) => items.iter().for_each(|item| self.gather(item)),
            Value::Object(object) => object.values().for_each(|value| self.gather(value)),
            Value::String(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    pub(super) fn add(&mut self, others: &Self) {
        self.extend(others.0.iter().cloned());
    }

    /// The longest stays first.
    fn extend(&mut self, forms: impl IntoIterator<Item = String>) {
        self.0.extend(forms);
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
    }

    /// A failure without the secrets that it quotes.
    pub(super) fn mask(&self, failure: Failure) -> Failure {
        let Failure { code, message, mut details } = failure;
        self.mask_value(&mut details);
        Failure { code, message: self.mask_text(&message), details }
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(object) => object.values_mut().for_each(|value| self.mask_value(value)),
            _ => {}
        }
    }

    /// A text without the secrets in it, also where it ends in the midst of one.
    pub(super) fn mask_text(&self, text: &str) -> String {
        let mut spans = self.found(text);
        let end = text.trim_end_matches(AT_A_CUT);
        let begun = self.0.iter().filter_map(|secret| {
            let starts = end.char_indices().map(|(at, _)| at);
            let mut starts = starts.take_while(|at| end.len() - at >= BEGINNING);
            starts.find(|at| secret.starts_with(&end[*at..]))
        });
        spans.extend(begun.min().map(|at| at..text.len()));
        replace(text, spans)
    }

    /// The same of a text that was cut off: its end, as long as the longest secret, may be part of one,
    /// however small.
    pub(super) fn mask_cut(&self, text: &str) -> String {
        let mut spans = self.found(text);
        if let Some(longest) = self.0.first() {
            let before = text.trim_end_matches(AT_A_CUT).len().saturating_sub(longest.len());
            spans.push(whole_characters(text, before)..text.len());
        }
        replace(text, spans)
    }

    /// Where in a text whole secrets are.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let of = |secret: &String| {
            text.match_indices(secret.as_str())
                .map(|(at, it)| at..at + it.len())
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

/// The length of the longest beginning of a text that has at most `most` bytes.
pub(super) fn whole_characters(text: &str, most: usize) -> usize {
    (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// A text with each of these parts replaced; those that overlap, as one.
fn replace(text: &str, mut spans: Vec<Range<usize>>) -> String {
    spans.sort_by_key(|span| (span.start, span.end));
    let (mut replaced, mut done) = (String::new(), 0);
    for span in spans {
        if span.start >= done {
            replaced.push_str(&text[done..span.start]);
            replaced.push_str(REDACTED);
        }
        done = done.max(span.end);
    }
    replaced.push_str(&text[done..]);
    replaced
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
        let longer = of(json!(["canary", "canary-and-more"])).mask_text("canary-and-more");
        assert_eq!(longer, "<redacted>");
        let key = "-----BEGIN\nc2VjcmV0LWtleQ==\t\"\n}\n";
        for quoted in [
            key.to_owned(),
            json!({ "key": key }).to_string(),
            format!("{:?}", Some(key)),
            "read c2VjcmV0LWtleQ==\t\" of it".to_owned(),
        ] {
            let masked = of(json!(key)).mask_text(&quoted);
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

    #[test]
    fn a_number_is_a_secret_too_and_a_word_of_two_values_is_none() {
        let mut secrets = Secrets::default();
        secrets
            .gather(&json!({ "pin": 48_151_623, "rate": 5e8, "few": 42, "on": true, "no": null }));
        let masked = secrets.mask_text("48151623 -48151623 500000000.0 500000000 42 true null");
        assert_eq!(masked, "<redacted> -<redacted> <redacted> <redacted> 42 true null");
    }

    #[test]
    fn secrets_that_overlap_are_replaced_as_one() {
        let mut secrets = Secrets::default();
        secrets.gather(&json!(["canary-1-end", "end-canary-2"]));
        assert_eq!(secrets.mask_text("a canary-1-end-canary-2 b"), "a <redacted> b");
        assert_eq!(secrets.mask_text("canary-1-endend-canary-2"), "<redacted><redacted>");
    }

    #[test]
    fn a_text_that_ends_in_the_midst_of_a_secret_does_not_have_its_beginning() {
        let mut secrets = Secrets::default();
        secrets.gather(&json!(["canary-canary-ä-canary", "short"]));
        for end in ["", "…", "\u{fffd}"] {
            let masked = secrets.mask_text(&format!("the key is canary-canary-ä-{end}"));
            assert_eq!(masked, "the key is <redacted>");
            // So little of it is in other words as well; unless it is known that the text goes on there.
            let little = format!("short it is: canary-{end}");
            assert_eq!(secrets.mask_text(&little), format!("<redacted> it is: canary-{end}"));
            let cut = secrets.mask_cut(&format!("it is not as long as that one: canary-{end}"));
            assert_eq!(cut, "it is not as lo<redacted>");
            assert_eq!(secrets.mask_cut(&little), "<redacted>");
        }
        assert_eq!(Secrets::default().mask_cut("all of it"), "all of it");
    }
}
