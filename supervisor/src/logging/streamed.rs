//! Records as lines on standard error, where that is a stream to systemd's journal.

use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

/// A journal that hangs must not hold up the launcher, so nothing here waits: a record that the stream does not
/// take at once is counted, and the next that it takes comes after a line which tells the count. One of which
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
        let text = format!("the journal was full or away: {lost} records before this one are lost");
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
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let mut sent = 0;
        while sent < bytes.len() {
            match send(self.stream.as_fd().as_raw_fd(), &bytes[sent..], flags) {
                Ok(more) => sent += more,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        sent
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
