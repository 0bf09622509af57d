//! Rows in columns on a terminal; elsewhere fields that `cut` and `awk` can take apart.

use std::io::{self, Write};

use super::{Screen, Tone};
use crate::cli::problem::printable;

/// A field and its tone.
pub(in crate::cli) type Cell = (String, Tone);

/// On a terminal a head and aligned columns; elsewhere no head and one tab between the fields.
pub(in crate::cli) fn table<W: Write>(
    screen: &mut Screen<W>,
    head: &[&str],
    rows: &[Vec<Cell>],
) -> io::Result<()> {
    let clean = |text: &str| printable(text).replace(['\n', '\t'], " ");
    if !screen.terminal() {
        for row in rows {
            let fields: Vec<String> = row.iter().map(|(text, _)| clean(text)).collect();
            screen.line(&fields.join("\t"))?;
        }
        return Ok(());
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|(text, _)| clean(text).chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |title| title.len()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let titles: Vec<Cell> = head.iter().map(|title| ((*title).to_owned(), Tone::Faint)).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for ((text, tone), width) in row.iter().zip(&widths) {
            let text = clean(text);
            let space = " ".repeat(width.saturating_sub(text.chars().count()) + 2);
            line.push_str(&screen.paint(*tone, &text));
            line.push_str(&space);
        }
        screen.line(line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(terminal: bool) -> String {
        let mut screen = Screen::of_test(terminal);
        let cell = |text: &str| (text.to_owned(), Tone::Plain);
        let rows =
            vec![vec![cell("a"), cell("enabled")], vec![cell("änders"), cell("x\u{1b}[2J\ty")]];
        table(&mut screen, &["ID", "STATE"], &rows).unwrap();
        screen.text()
    }

    #[test]
    fn columns_on_a_terminal() {
        assert_eq!(rendered(true), "ID      STATE\na       enabled\nänders  x\u{fffd}[2J y\n");
    }

    #[test]
    fn fields_elsewhere() {
        assert_eq!(rendered(false), "a\tenabled\nänders\tx\u{fffd}[2J y\n");
    }
}
