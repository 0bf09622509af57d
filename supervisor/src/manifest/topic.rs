//! `[events]`: the topics that a plugin hears and those that it may publish.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::permission::Permission;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
    pub(crate) subscribes: Vec<TopicPattern>,
    pub(crate) publishes: Vec<TopicPattern>,
    /// What another plugin must be granted to hear this one on a topic; none: any that subscribes may.
    pub(crate) permissions: BTreeMap<TopicPattern, Permission>,
}

impl Events {
    /// All that whoever hears the plugin on `topic` must be granted.
    pub(crate) fn needed<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Permission> {
        let matching = self.permissions.iter().filter(move |(pattern, _)| pattern.matches(topic));
        matching.map(|(_, permission)| permission)
    }
}

/// A topic, `appointments.created` or `plugin:enabled`, or all that begin alike:
/// `appointments.*`. Letters, digits, `-`, `_`, `.`, `:`; a `*` only at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TopicPattern(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a topic: use letters, digits, '-', '_', '.' and ':', at most 128, with '*' only at the end, for example appointments.created or appointments.*"
)]
pub(crate) struct BadTopic(String);

impl TopicPattern {
    pub(crate) fn matches(&self, topic: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == self.0,
        }
    }
}

impl TopicPattern {
    /// Whether it matches any topic with that beginning.
    pub(crate) fn begins_like(&self, beginning: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => prefix.starts_with(beginning) || beginning.starts_with(prefix),
            None => self.0.starts_with(beginning),
        }
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = BadTopic;

    fn try_from(text: String) -> Result<Self, BadTopic> {
        let fixed = text.strip_suffix('*').unwrap_or(&text);
        let valid = (1..=128).contains(&text.len())
            && fixed.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.:".contains(&c));
        if valid { Ok(Self(text)) } else { Err(BadTopic(text)) }
    }
}

impl From<TopicPattern> for String {
    fn from(topic: TopicPattern) -> String {
        topic.0
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_what_begins_alike() {
        let pattern = |text: &str| TopicPattern::try_from(text.to_owned());
        assert!(pattern("appointments.*").unwrap().matches("appointments.created"));
        assert!(!pattern("appointments.*").unwrap().matches("appointment"));
        assert!(pattern("plugin:enabled").unwrap().matches("plugin:enabled"));
        assert!(!pattern("plugin:enabled").unwrap().matches("plugin:enabled2"));
        assert!(pattern("*").unwrap().matches("anything"));
        for (text, begins) in
            [("*", true), ("plu*", true), ("plugin:en*", true), ("plugin:x", true), ("a*", false)]
        {
            assert_eq!(pattern(text).unwrap().begins_like("plugin:"), begins, "{text}");
        }
        for bad in ["", "a*b", "**", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(pattern(bad), Err(BadTopic(bad.into())));
        }
    }
}
