//! Archives as a table.

use std::io::{self, Write};

use serde_json::Value;

use super::measure::bytes;
use super::table::{Cell, table};
use super::{Screen, Tone};

/// A row for each archive.
pub(in crate::cli) fn archives<W: Write>(screen: &mut Screen<W>, all: &[Value]) -> io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|one| {
            let record = &one["record"];
            vec![
                (text(&one["name"]), Tone::Strong),
                (text(&record["id"]), Tone::Plain),
                (text(&record["version"]), Tone::Plain),
                (text(&record["archivedAt"]), Tone::Plain),
                (one["bytes"].as_u64().map_or_else(|| "-".to_owned(), bytes), Tone::Plain),
            ]
        })
        .collect();
    if rows.is_empty() && screen.terminal() {
        return screen
            .line("there are no archives; `bulkhead uninstall --preserve-data` makes one");
    }
    table(screen, &["NAME", "PLUGIN", "VERSION", "ARCHIVED", "SIZE"], &rows)
}

/// What all take, for a person.
pub(in crate::cli) fn total<W: Write>(
    screen: &mut Screen<W>,
    used: u64,
    limit: u64,
) -> io::Result<()> {
    if !screen.terminal() {
        return Ok(());
    }
    screen.line(&format!("{} of {}", bytes(used), bytes(limit)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_that_cannot_be_read_has_its_name_and_size() {
        let all = [
            json!({"name": "a-1-t.tar.zst", "bytes": 2048, "record": {
                "id": "a", "version": "1.0.0", "archivedAt": "then"}}),
            json!({"name": "b-1-t.tar.zst", "bytes": 1024, "record": null}),
        ];
        let mut screen = Screen::of_test(false);
        archives(&mut screen, &all).unwrap();
        total(&mut screen, 1, 2).unwrap();
        let text = "a-1-t.tar.zst\ta\t1.0.0\tthen\t2 KiB\nb-1-t.tar.zst\t-\t-\t-\t1 KiB\n";
        assert_eq!(screen.text(), text);
    }
}
