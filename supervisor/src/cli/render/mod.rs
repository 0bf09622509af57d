//! What a person reads: tables, sizes, times, and the measured compartment.

mod archive;
mod layers;
mod measure;
mod plugin;
mod record;
mod review;
mod schedule;
mod stop;
mod table;
mod usage;

use std::io::{self, IsTerminal as _, StderrLock, StdoutLock, Write};

use serde_json::Value;

pub(super) use archive::{archives, total};
pub(super) use layers::{brief, enforcement, machine};
pub(super) use measure::{bytes, short_bytes, short_span, span};
pub(super) use plugin::{Plugin, list, standing};
pub(super) use record::{audit, death, event, log, state};
pub(super) use review::{asks, review};
pub(super) use schedule::{runs, schedules};
pub(super) use stop::stop;
pub(super) use table::{Cell, table};
pub(super) use usage::usage;

/// Standard output, and how it is to be written.
pub(super) struct Screen<W = StdoutLock<'static>> {
    to: W,
    terminal: bool,
    colour: bool,
    json: bool,
}

/// What a word means, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Doubtful,
    Bad,
}

impl Screen {
    /// Tables and colour only on a terminal, colour not where `NO_COLOR` is set and not empty
    /// (no-color.org) or the terminal is `dumb`.
    pub(super) fn stdout(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { to: io::stdout().lock(), terminal, colour: terminal && colourful(), json }
    }
}

/// Whether a terminal is to have colour.
pub(super) fn colourful() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && !dumb()
}

/// Whether the terminal can do nothing but write line after line.
pub(super) fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Screen<StderrLock<'static>> {
    /// Standard error, for a question to whoever sits there; it is asked on terminals only.
    pub(super) fn stderr() -> Self {
        Self { to: io::stderr().lock(), terminal: true, colour: colourful(), json: false }
    }
}

impl Screen<Vec<u8>> {
    /// A page to be shown elsewhere, with the colours of a terminal.
    pub(super) fn page() -> Self {
        Self { to: Vec::new(), terminal: true, colour: true, json: false }
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.to).into_owned()
    }
}

impl<W: Write> Screen<W> {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// One document: indented on a terminal, one line elsewhere.
    pub(super) fn document(&mut self, value: &Value) -> io::Result<()> {
        if self.terminal { writeln!(self.to, "{value:#}") } else { writeln!(self.to, "{value}") }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
impl Screen<Vec<u8>> {
    pub(super) fn of_test(terminal: bool) -> Self {
        Self { to: Vec::new(), terminal, colour: false, json: false }
    }

    pub(super) fn text(self) -> String {
        String::from_utf8(self.to).expect("only text was written")
    }
}
