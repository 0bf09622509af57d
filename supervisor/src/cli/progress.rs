//! How far something is that takes time: one line on standard error, where that is a terminal.

use std::io::{self, IsTerminal as _, Write as _};

/// A line that is written over, and gone at the end.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    shown: String,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        Self { terminal: !quiet && io::stderr().is_terminal(), shown: String::new() }
    }

    pub(super) fn show(&mut self, text: String) {
        if self.terminal && self.shown != text {
            // Nobody misses it.
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K{text}");
            self.shown = text;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}
