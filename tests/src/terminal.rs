//! A program on a terminal of its own: a pseudo-terminal, pty(7), and what is to be seen on it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, ttyname};

use crate::process::{DEADLINE, Program};

/// How often it is looked whether a program that writes nothing has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A program on its terminal. Dropped, it is killed.
pub struct Terminal {
    child: Child,
    /// Our end: what is written to it are keys.
    keys: File,
    /// The program's end, until the program has ended; and its modes before the program had it.
    line: Option<OwnedFd>,
    before: Termios,
    output: Receiver<Vec<u8>>,
    screen: Screen,
    /// All that the program wrote.
    written: Vec<u8>,
}

/// A program that has ended, and what it left on its terminal.
#[derive(Clone, Debug)]
pub struct Left {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Whether the terminal has its modes again: an echo, whole lines, signals by keys.
    pub modes_are_back: bool,
    /// All that was written, with what draws.
    pub written: String,
    /// What is to be seen in the end.
    pub screen: String,
}

impl Program {
    /// Starts it on a terminal of this size, as all three of its standard streams.
    pub fn on_terminal(mut self, columns: u16, rows: u16) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // Copies that no program inherits which is started meanwhile.
        let (master, slave) = (pty.master.try_clone().unwrap(), pty.slave.try_clone().unwrap());
        drop(pty);
        let end = || slave.try_clone().unwrap();
        let before = tcgetattr(&slave).unwrap();
        let command = self.command.env("TERM", "xterm-256color");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // The command keeps copies of the program's end.
        drop(self);
        let keys = File::from(master);
        let (mut reader, (sender, output)) = (keys.try_clone().unwrap(), channel());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO once nobody has the other end.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = Screen::new(columns, rows);
        let (line, written) = (Some(slave), Vec::new());
        Terminal { child, keys, line, before, output, screen, written }
    }
}

impl Terminal {
    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Gives the terminal another size, and tells the program.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.screen = Screen::new(columns, rows);
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let line = ttyname(self.line.as_ref().unwrap()).unwrap();
        let stty = Program::new("stty").arg("-F").arg(line);
        stty.args(["cols", &columns, "rows", &rows]).run().expect(0);
        self.signal(Signal::SIGWINCH);
    }

    /// Waits until the screen, as lines of text, is as `wanted`.
    ///
    /// # Panics
    /// Where it is not at the [`DEADLINE`], or the program ends before.
    pub fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let shown = self.screen.text();
            if wanted(&shown) {
                return shown;
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => panic!("it was not to be seen ({error}); on the screen is\n{shown}"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        self.screen.write(bytes);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// Where it has not at the [`DEADLINE`].
    pub fn wait(mut self) -> Left {
        use std::os::unix::process::ExitStatusExt as _;
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match self.output.recv_timeout(LOOK) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => panic!("nobody has the terminal"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it has not ended:\n{}", self.screen.text());
        };
        let line = self.line.take().unwrap();
        let modes_are_back = tcgetattr(&line).unwrap() == self.before;
        // Nobody has it any more: behind all that was written comes the end.
        drop(line);
        while let Ok(bytes) = self.output.recv_timeout(DEADLINE) {
            self.take(&bytes);
        }
        Left {
            code: status.code(),
            signal: status.signal(),
            modes_are_back,
            written: String::from_utf8_lossy(&self.written).into_owned(),
            screen: self.screen.text(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After `wait` it is gone, and this an error that says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows: as much of ECMA-48 as the programs under test use. Colours are not kept.
struct Screen {
    cells: Vec<Vec<char>>,
    column: usize,
    row: usize,
    /// A character or a sequence that has not all come yet.
    pending: Vec<u8>,
}

impl Screen {
    fn new(columns: u16, rows: u16) -> Self {
        let cells = vec![vec![' '; usize::from(columns)]; usize::from(rows)];
        Self { cells, column: 0, row: 0, pending: Vec::new() }
    }

    fn text(&self) -> String {
        let rows = self.cells.iter().map(|row| row.iter().collect::<String>());
        rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let whole = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let mut text = std::str::from_utf8(&pending[..whole]).unwrap();
        while let Some(character) = text.chars().next() {
            let length = if character == '\u{1b}' {
                let Some(length) = sequence(text) else { break };
                self.obey(&text[..length]);
                length
            } else {
                self.put(character);
                character.len_utf8()
            };
            text = &text[length..];
        }
        self.pending = pending[whole - text.len()..].to_vec();
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' if self.row + 1 < self.cells.len() => self.row += 1,
            '\n' => {
                self.cells.remove(0);
                self.cells.push(vec![' '; self.cells[0].len()]);
            }
            _ => {
                let cell = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column));
                if let Some(cell) = cell {
                    *cell = character;
                }
                self.column += 1;
            }
        }
    }

    /// Moves and erases; what else there is does not change what is read.
    fn obey(&mut self, sequence: &str) {
        let Some(body) = sequence.strip_prefix("\u{1b}[") else { return };
        let (numbers, last) = body.split_at(body.len() - 1);
        let mut numbers = numbers.split(';').map(|number| number.parse::<usize>().unwrap_or(0));
        let first = numbers.next().unwrap_or(0);
        match last {
            "H" => {
                self.row = first.max(1) - 1;
                self.column = numbers.next().unwrap_or(1).max(1) - 1;
            }
            "J" => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            "K" => {
                if let Some(row) = self.cells.get_mut(self.row) {
                    let from = self.column.min(row.len());
                    row[from..].fill(' ');
                }
            }
            _ => {}
        }
    }
}

/// The length of the sequence that a text begins with, if all of it is there.
fn sequence(text: &str) -> Option<usize> {
    match text.as_bytes().get(1)? {
        b'[' => text[2..].find(|last: char| ('@'..='~').contains(&last)).map(|at| at + 3),
        _ => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_where_it_was_put() {
        let mut screen = Screen::new(10, 3);
        let bytes = "\u{1b}[2J\u{1b}[2;3H\u{1b}[38;5;2mhéllo\u{1b}[0m\u{1b}[1;1Hx".as_bytes();
        for byte in bytes {
            screen.write(&[*byte]);
        }
        assert_eq!(screen.text(), "x\n  héllo\n");
        screen.write(b"\x1b[2;5H\x1b[K\x1b[3;1Hend\r\nmore");
        assert_eq!(screen.text(), "  hé\nend\nmore");
    }
}
