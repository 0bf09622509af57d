//! A page over the whole screen: help, what `inspect` says of a plugin, or its log.

use std::collections::VecDeque;

use super::super::render::Tone;

/// How many lines of a log can be scrolled back to.
const LOG_LINES: usize = 2_000;

/// A line of text, in pieces that mean something.
pub(super) type Text = Vec<(String, Tone)>;

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Help,
    Inspect(String),
    Log(String),
}

#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) subject: Subject,
    lines: VecDeque<Text>,
    /// The first row that is shown; at the end, the page stays there as it grows.
    top: Option<usize>,
    /// Why there is not more.
    pub(super) problem: Option<String>,
}

/// Where to scroll to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scroll {
    By(isize),
    /// By so many pages.
    Pages(isize),
    Begin,
    End,
}

impl Page {
    pub(super) fn new(subject: Subject, lines: impl IntoIterator<Item = Text>) -> Self {
        // Of a log, the end is what is looked for.
        let top = (!matches!(subject, Subject::Log(_))).then_some(0);
        Self { subject, lines: lines.into_iter().collect(), top, problem: None }
    }

    /// Shows other lines at the same place.
    pub(super) fn set(&mut self, lines: impl IntoIterator<Item = Text>) {
        self.lines = lines.into_iter().collect();
        self.problem = None;
    }

    pub(super) fn push(&mut self, line: Text, width: usize) {
        if self.lines.len() >= LOG_LINES
            && let Some(gone) = self.lines.pop_front()
            && let Some(top) = &mut self.top
        {
            *top = top.saturating_sub(fold(&gone, width).len());
        }
        self.lines.push_back(line);
        self.problem = None;
    }

    pub(super) fn scroll(&mut self, by: Scroll, width: usize, height: usize) {
        let most = self.rows(width).len().saturating_sub(height);
        let now = self.top.map_or(most, |top| top.min(most));
        let top = match by {
            Scroll::By(rows) => now.saturating_add_signed(rows),
            Scroll::Pages(pages) => {
                now.saturating_add_signed(pages * height.saturating_sub(1) as isize)
            }
            Scroll::Begin => 0,
            Scroll::End => most,
        };
        let follows = matches!(self.subject, Subject::Log(_)) && top >= most;
        self.top = (!follows).then_some(top.min(most));
    }

    fn rows(&self, width: usize) -> Vec<Text> {
        self.lines.iter().flat_map(|line| fold(line, width)).collect()
    }

    /// The rows that are in sight, and how many there are above and below them.
    pub(super) fn shown(&self, width: usize, height: usize) -> (Vec<Text>, usize, usize) {
        let mut rows = self.rows(width);
        let most = rows.len().saturating_sub(height);
        let top = self.top.map_or(most, |top| top.min(most));
        let shown: Vec<Text> = rows.drain(..).skip(top).take(height).collect();
        (shown, top, most - top)
    }
}

/// Cuts a line into rows, between words where there are some. Those after the first begin below the
/// last column of the line, where it has columns.
pub(super) fn fold(line: &Text, width: usize) -> Vec<Text> {
    let width = width.max(1);
    let indent = column(line).filter(|indent| indent * 2 <= width).unwrap_or_default();
    let mut rows = vec![Text::new()];
    let mut used = 0;
    for (text, tone) in line {
        let mut rest: &str = text;
        while !rest.is_empty() {
            let room = width - used;
            let end = rest.char_indices().nth(room).map(|(at, _)| at);
            let taken = end.map_or(rest.len(), |end| {
                // A word that would leave half of the row empty is cut.
                let space = rest[..end].rfind(' ').map(|at| at + 1);
                space.filter(|at| (*at + used) * 2 > width).unwrap_or(end)
            });
            let (piece, tail) = rest.split_at(taken);
            if let Some(row) = rows.last_mut() {
                row.push((piece.to_owned(), *tone));
            }
            used += piece.chars().count();
            rest = tail;
            if !rest.is_empty() {
                rows.push(vec![(" ".repeat(indent), Tone::Plain)]);
                used = indent;
            }
        }
    }
    rows
}

/// Where the last column of a line begins: columns are two blanks apart, and near the left.
fn column(line: &Text) -> Option<usize> {
    const NEAR: usize = 36;
    let text: Vec<char> = line.iter().flat_map(|(text, _)| text.chars()).take(NEAR).collect();
    text.windows(3)
        .rposition(|three| matches!(three, [' ', ' ', next] if *next != ' '))
        .map(|at| at + 2)
}

/// Takes the colours of a printed page for what they mean; see `Screen::paint`.
pub(super) fn printed(text: &str) -> Vec<Text> {
    text.lines()
        .map(|line| {
            let mut pieces = Text::new();
            for (index, piece) in line.split("\u{1b}[").enumerate() {
                let (code, text) = match piece.split_once('m') {
                    Some((code, text)) if index > 0 => (code, text),
                    _ => ("0", piece),
                };
                let tone = match code {
                    "1" => Tone::Strong,
                    "2" => Tone::Faint,
                    "32" => Tone::Good,
                    "33" => Tone::Doubtful,
                    "31" => Tone::Bad,
                    _ => Tone::Plain,
                };
                if !text.is_empty() {
                    pieces.push((text.replace('\t', "    "), tone));
                }
            }
            pieces
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::Screen;

    fn plain(text: &str) -> Text {
        vec![(text.to_owned(), Tone::Plain)]
    }

    fn text(rows: &[Text]) -> Vec<String> {
        rows.iter().map(|row| row.iter().map(|(text, _)| text.as_str()).collect()).collect()
    }

    #[test]
    fn lines_are_folded_between_words() {
        assert_eq!(text(&fold(&plain("one two three"), 8)), ["one two ", "three"]);
        assert_eq!(text(&fold(&plain("one two"), 7)), ["one two"]);
        assert_eq!(text(&fold(&plain("abcdefghij"), 4)), ["abcd", "efgh", "ij"]);
        assert_eq!(text(&fold(&plain("üüüü"), 2)), ["üü", "üü"]);
        assert_eq!(text(&fold(&Text::new(), 4)), [""]);
        let two = vec![("abc".to_owned(), Tone::Good), ("defg".to_owned(), Tone::Bad)];
        assert_eq!(text(&fold(&two, 5)), ["abcde", "fg"]);
        let columns = plain("  ok  one two three four");
        assert_eq!(text(&fold(&columns, 14)), ["  ok  one two ", "      three ", "      four"]);
    }

    #[test]
    fn a_log_stays_at_its_end_until_it_is_scrolled() {
        let mut page = Page::new(Subject::Log("a".into()), []);
        for number in 0..10 {
            page.push(plain(&number.to_string()), 80);
        }
        let shown = |page: &Page| text(&page.shown(80, 3).0);
        assert_eq!(shown(&page), ["7", "8", "9"]);
        page.scroll(Scroll::By(-1), 80, 3);
        page.push(plain("10"), 80);
        assert_eq!(shown(&page), ["6", "7", "8"]);
        page.scroll(Scroll::Pages(5), 80, 3);
        page.push(plain("11"), 80);
        assert_eq!(shown(&page), ["9", "10", "11"]);
        page.scroll(Scroll::Begin, 80, 3);
        assert_eq!(page.shown(80, 3).1, 0);
        assert_eq!(page.shown(80, 3).2, 9);
    }

    #[test]
    fn what_goes_off_the_top_does_not_move_the_rest() {
        let mut page = Page::new(Subject::Log("a".into()), []);
        for number in 0..LOG_LINES {
            page.push(plain(&number.to_string()), 80);
        }
        page.scroll(Scroll::By(-100), 80, 3);
        let before = text(&page.shown(80, 3).0);
        page.push(plain("more"), 80);
        assert_eq!(text(&page.shown(80, 3).0), before);
        assert_eq!(page.lines.len(), LOG_LINES);
    }

    #[test]
    fn a_printed_page_keeps_what_its_colours_mean() {
        let mut screen = Screen::page();
        let good = screen.paint(Tone::Good, "ok");
        screen.line(&format!("  {good}  seccomp")).unwrap();
        screen.line("").unwrap();
        let lines = printed(&screen.into_text());
        let expected = vec![
            ("  ".to_owned(), Tone::Plain),
            ("ok".to_owned(), Tone::Good),
            ("  seccomp".to_owned(), Tone::Plain),
        ];
        assert_eq!(lines, [expected, vec![]]);
    }
}
