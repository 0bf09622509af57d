//! Where in the file a fault is: from a byte span to line, column and key, and back.

use std::fmt::Write as _;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A place in a TOML text, as a person looks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// The path of the innermost value there: `limits.memory`, `schedule[1].cron`. Empty where the
    /// text cannot be parsed, and at the top.
    pub(super) key: String,
    /// The text of the value, where it is short and on one line.
    pub(super) value: Option<String>,
}

/// The place of the byte span `span` in `source`.
pub(super) fn locate(source: &str, span: Range<usize>) -> Location {
    let start = floor_boundary(source, span.start);
    let before = &source[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let value = source.get(span.clone()).filter(|text| {
        !text.is_empty() && text.len() <= 200 && !text.contains(super::text::is_unsafe)
    });
    let mut key = String::new();
    if let Ok(table) = DeTable::parse(source) {
        descend_table(table.get_ref(), &span, &mut key);
    }
    Location {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
        value: value.map(str::to_owned),
    }
}

/// The span of the value at `key` (`lifecycle.restart.backoff`, `schedule[1].method`), or of the deepest part of the path
/// that is there; none if not even its first part is.
pub(super) fn span_of(source: &str, key: &str) -> Option<Range<usize>> {
    let table = DeTable::parse(source).ok()?;
    let mut parts = key.split(['.', '[', ']']).filter(|part| !part.is_empty());
    let mut value = table.get_ref().get(parts.next()?)?;
    for part in parts {
        let inner = match value.get_ref() {
            DeValue::Array(array) => part.parse().ok().and_then(|index: usize| array.get(index)),
            other => other.as_table().and_then(|table| table.get(part)),
        };
        match inner {
            Some(inner) => value = inner,
            None => break,
        }
    }
    Some(value.span())
}

fn floor_boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0)
}

fn descend_table(table: &DeTable<'_>, span: &Range<usize>, key: &mut String) {
    for (name, value) in table {
        // An unknown key is reported by the span of its name. A table's own span is its header
        // only, so it may be an inner value that contains the fault.
        let before = key.len();
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(name.get_ref());
        if name.span() == *span || descend_value(value, span, key) {
            return;
        }
        key.truncate(before);
    }
}

/// Whether the fault is in `value`; if so `key` is its path.
fn descend_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, key: &mut String) -> bool {
    let before = key.len();
    match value.get_ref() {
        DeValue::Table(table) => descend_table(table, span, key),
        DeValue::Array(array) => {
            for (index, item) in array.iter().enumerate() {
                write!(key, "[{index}]").expect("a String takes all");
                if descend_value(item, span, key) {
                    return true;
                }
                key.truncate(before);
            }
        }
        _ => {}
    }
    let own = value.span();
    key.len() > before || (own.start <= span.start && span.end <= own.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "id = 'ä'\n[limits]\nmemory = '64Q'\npids = 3\n[[schedule]]\ncron = 'x'\n\
        [[schedule]]\ncron = 'ÿ'\n[a]\nb = { c = [1, 22] }\n";

    fn at(text: &str) -> Location {
        let start = SOURCE.rfind(text).unwrap();
        locate(SOURCE, start..start + text.len())
    }

    #[test]
    fn a_value_is_found_by_its_place() {
        let memory = at("'64Q'");
        assert_eq!((memory.line, memory.column), (3, 10));
        assert_eq!(memory.key, "limits.memory");
        assert_eq!(memory.value.as_deref(), Some("'64Q'"));
        assert_eq!(at("'ÿ'").key, "schedule[1].cron");
        assert_eq!(at("'x'").key, "schedule[0].cron");
        assert_eq!(at("22").key, "a.b.c[1]");
        assert_eq!(at("pids").key, "limits.pids");
    }

    #[test]
    fn columns_are_characters() {
        let found = locate("'ää' x", 6..7);
        assert_eq!((found.line, found.column), (1, 5));
        // Inside a character, and past the end: no panic.
        assert_eq!(locate("ä", 1..1).column, 1);
        assert_eq!(locate("ä", 7..9).line, 1);
    }

    #[test]
    fn a_place_is_found_by_its_key() {
        assert_eq!(&SOURCE[span_of(SOURCE, "limits.pids").unwrap()], "3");
        assert!(SOURCE[span_of(SOURCE, "limits.absent").unwrap()].contains("limits"));
        assert_eq!(&SOURCE[span_of(SOURCE, "schedule[1].cron").unwrap()], "'ÿ'");
        assert!(span_of(SOURCE, "schedule[7]").is_some(), "the list that has no such item");
        assert_eq!(span_of(SOURCE, "absent"), None);
    }
}
