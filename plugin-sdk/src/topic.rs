//! Typed markers for events.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// News that plugins tell each other: its topic, and the type of its data.
///
/// The type of the data can be the marker itself:
///
/// ```
/// use bulkhead_plugin_sdk::Topic;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Changed {
///     id: String,
/// }
///
/// impl Topic for Changed {
///     const NAME: &'static str = "appointments.changed";
///     type Data = Self;
/// }
/// ```
pub trait Topic: 'static {
    /// The topic, as `appointments.changed`; or with a `*` at the end all topics that begin so, to hear them only.
    const NAME: &'static str;

    /// What is told.
    type Data: Serialize + DeserializeOwned;
}

/// Whether who listens to `pattern`, which may end with a `*`, hears `topic`.
pub(crate) fn hears(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => topic.starts_with(beginning),
        None => topic == pattern,
    }
}

/// Whether there can be a topic that both hear.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (_, None) => hears(one, other),
        (None, Some(_)) => hears(other, one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_patterns_overlap_if_a_topic_is_both() {
        for (one, other, both) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "ab", false),
            ("a.*", "a.b.*", true),
            ("*", "a.b", true),
            ("a*", "b*", false),
        ] {
            assert_eq!(overlap(one, other), both, "{one} {other}");
            assert_eq!(overlap(other, one), both, "{other} {one}");
        }
    }
}
