//! How deep JSON of others may be nested that is kept, or told, within JSON of ours.
//!
//! A reader of JSON gives up at 128 levels, our own too. What somebody else wrote is read up to there, and
//! with a few levels of ours around it could be read no more: not by a client, and not from the journal.

use serde_json::Value;

/// The levels that it may have.
pub(crate) const DEEPEST: usize = 100;

/// Whether it has more than [`DEEPEST`] levels.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    exceeds(value, DEEPEST)
}

fn exceeds(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(all) => all.iter().any(|value| exceeds(value, left)),
        Value::Object(all) => all.values().any(|value| exceeds(value, left)),
        _ => false,
    }
}

#[cfg(test)]
pub(crate) fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |value, _| serde_json::json!({ "a": value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted() {
        assert!(!is_too_deep(&Value::Null));
        assert!(!is_too_deep(&nested(DEEPEST)));
        assert!(is_too_deep(&nested(DEEPEST + 1)));
        assert!(is_too_deep(&Value::Array(vec![Value::Null, nested(DEEPEST)])));
    }
}
