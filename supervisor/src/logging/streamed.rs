//! Records as lines on standard error, whatever that is.

use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::write;

/// What a pipe takes without waiting when it says that it takes anything (pipe(7), PIPE_BUF).
const PIECE: usize = 4096;

/// A journal that hangs, a pipe that nobody reads, or a terminal that was stopped must not hold up the launcher,
/// so nothing here waits: a record that the stream does not take at once is counted, and the next that it takes comes after a line which tells the count. One of which
/// it took a part is ended before the next, so that a line is never of two records.
pub(super) struct Streamed<S = Stderr> {
    stream: S,
    json: bool,
    /// Of a record of which the beginning was taken.
    rest: Vec<u8>,
    lost: u64,
}

impl Streamed {
    pub(super) fn new(json: bool) -> Self {
        Self::on(io::stderr(), json)
    }
}

impl<S: AsFd> Streamed<S> {
    fn on(stream: S, json: bool) -> Self {
        Self { stream, json, rest: Vec::new(), lost: 0 }
    }

    /// Sends what is left of the record before, and how many were lost since; whether another can follow.
    fn is_free(&mut self) -> bool {
        let sent = self.send(&self.rest);
        self.rest.drain(..sent);
        if !self.rest.is_empty() {
            return false;
        }
        if self.lost == 0 {
            return true;
        }
        let lost = self.lost;
        let text = format!(
            "what takes this log was full or away: {lost} records before this one are lost"
        );
        let line = if self.json {
            format!("{}\n", serde_json::json!({ "level": "WARN", "message": text }))
        } else {
            format!(" WARN {text}\n")
        };
        let sent = self.send(line.as_bytes());
        if sent == 0 {
            return false;
        }
        self.lost = 0;
        self.rest = line.as_bytes()[sent..].to_vec();
        self.rest.is_empty()
    }

    /// How many bytes of these the stream takes at once.
    fn send(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.send_piece(&bytes[sent..]) {
                Ok(0) => break,
                Ok(more) => sent += more,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        sent
    }

    fn send_piece(&self, bytes: &[u8]) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_fd().as_raw_fd(), bytes, flags) {
            // Others share the pipe or terminal, so it cannot be made one that does not wait.
            Err(Errno::ENOTSOCK) => {
                let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut polled, PollTimeout::ZERO)? {
                    0 => Ok(0),
                    _ => write(&self.stream, &bytes[..bytes.len().min(PIECE)]),
                }
            }
            sent => sent,
        }
    }
}

impl<S: AsFd> Write for Streamed<S> {
    /// A whole record, as the formatter gives it. Never an error: there is no other place to tell it.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        match if self.is_free() { self.send(record) } else { 0 } {
            0 => self.lost += 1,
            sent => self.rest = record[sent..].to_vec(),
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use super::*;

    /// Reads until nothing more is there.
    fn read(reader: &mut UnixStream) -> String {
        reader.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let ended = reader.read_to_end(&mut bytes).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(io::ErrorKind::WouldBlock)), "{ended:?}");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stream_that_is_full_or_gone_keeps_nobody_waiting_and_is_told_what_was_lost() {
        for json in [false, true] {
            let (mut reader, stream) = UnixStream::pair().unwrap();
            let mut streamed = Streamed::on(stream, json);
            let record = format!("{{\"a\":\"{}\"}}\n", "x".repeat(60_000));
            let mut written = 0;
            while streamed.lost < 3 {
                streamed.write_all(record.as_bytes()).unwrap();
                written += 1;
            }
            let before = read(&mut reader);
            streamed.write_all(b"{\"b\":1}\n").unwrap();
            let text = before + &read(&mut reader);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), written - 3 + 2, "each that was taken, the notice, the last");
            assert!(lines[..written - 3].iter().all(|line| *line == record.trim_end()), "whole");
            assert!(lines[written - 3].contains("3 records"), "{}", lines[written - 3]);
            assert_eq!(lines[written - 2], "{\"b\":1}");
            if json {
                let notice: serde_json::Value = serde_json::from_str(lines[written - 3]).unwrap();
                assert_eq!(notice["level"], "WARN");
            }
            drop(reader);
            streamed.write_all(b"gone\n").unwrap();
            assert_eq!(streamed.lost, 1);
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_keeps_nobody_waiting() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let mut streamed = Streamed::on(pipe, false);
        let record = format!("{}\n", "x".repeat(9_999));
        let mut written = 0;
        while streamed.lost < 3 {
            streamed.write_all(record.as_bytes()).unwrap();
            written += 1;
        }
        let mut text = vec![0; (written - 3) * record.len() - streamed.rest.len()];
        reader.read_exact(&mut text).unwrap();
        streamed.write_all(b"last\n").unwrap();
        drop(streamed);
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[..written - 3].iter().all(|line| *line == record.trim_end()), "whole");
        assert!(lines[written - 3].contains("3 records"), "{}", lines[written - 3]);
        assert_eq!(&lines[written - 2..], ["last"]);
        // A file takes all.
        let file = tempfile::NamedTempFile::new().unwrap();
        Streamed::on(file.reopen().unwrap(), false).write_all(record.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), record);
    }

    #[test]
    fn a_record_is_written_in_one_piece() {
        let (mut reader, stream) = UnixStream::pair().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Mutex::new(Streamed::on(stream, true)))
            .json()
            .flatten_event(true)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(plugin = %"clinic", "not started");
            tracing::info!("two");
        });
        let text = read(&mut reader);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["plugin"], &lines[1]["message"]), (&"clinic".into(), &"two".into()));
    }
}
