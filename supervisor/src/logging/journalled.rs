//! Events of our own as entries of systemd's journal.
//!
//! Not by the crate tracing-journald: it waits where the journal is full, which the launcher must
//! never do, and its messages lack the fields, without which `journalctl` alone says too little.

use std::fmt::{Debug, Write as _};
use std::io::Stderr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{MsgFlags, send};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::journal::{Entry, Journal, Priority};

/// Of a line on standard error, in bytes. A socket takes as much as a whole or not at all, and journald
/// does not part it into lines.
const MOST_OF_A_LINE: usize = 4096;

/// Each event is an entry, its fields as `BULKHEAD_…`. One that the journal does not take goes to
/// standard error, which is a stream to the same journal; and one that is not taken there either is
/// counted, which the journal is told when it takes entries again.
pub(super) struct Journalled<S = Stderr> {
    journal: Journal,
    stream: S,
    lost: AtomicU64,
}

impl Journalled {
    pub(super) fn new(journal: Journal) -> Self {
        Self::beside(journal, std::io::stderr())
    }
}

impl<S: AsFd> Journalled<S> {
    fn beside(journal: Journal, stream: S) -> Self {
        Self { journal, stream, lost: AtomicU64::new(0) }
    }

    /// Whether the stream took it at once. Not by `eprintln!`, which waits where a journal hangs, and
    /// panics where it is gone.
    fn streamed(&self, text: &str, priority: Priority) -> bool {
        let line = line(text, priority);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.stream.as_fd().as_raw_fd(), line.as_bytes(), flags).is_ok()
    }

    fn tell_what_was_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let text = format!("the journal was full or away: {lost} entries before this one are lost");
        let entry = Entry::new(&text, Priority::Warning, "bulkhead")
            .with("BULKHEAD_LOST", &lost.to_string());
        if self.journal.send(&entry).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// With its level, as journald reads it at the beginning of each line (sd-daemon(3)): so nothing in
/// the text may begin another.
fn line(text: &str, priority: Priority) -> String {
    let mut line = format!("<{}>", priority as u8);
    for char in text.chars() {
        let before = line.len();
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
        if line.len() >= MOST_OF_A_LINE {
            line.truncate(before);
            break;
        }
    }
    line.push('\n');
    line
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<T: Subscriber, S: AsFd + 'static> Layer<T> for Journalled<S> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, T>) {
        let Fields { message, fields } = {
            let mut fields = Fields::default();
            event.record(&mut fields);
            fields
        };
        let mut text = message;
        for (name, value) in &fields {
            if !text.is_empty() {
                text.push(' ');
            }
            // Writing to a String does not fail.
            let _ = write!(text, "{name}={value}");
        }
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Info,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        };
        let mut entry = Entry::new(&text, priority, "bulkhead");
        for (name, value) in &fields {
            entry = entry.with(&format!("BULKHEAD_{}", name.to_uppercase()), value);
        }
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry = entry.with("CODE_FILE", file).with("CODE_LINE", &line.to_string());
        }
        self.tell_what_was_lost();
        if self.journal.send(&entry).is_err() && !self.streamed(&text, priority) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::Path;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::journal::tests::{journal, next};

    #[test]
    fn an_event_is_an_entry_with_its_fields() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, socket) = journal(directory.path());
        let subscriber = tracing_subscriber::registry().with(Journalled::new(journal));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(plugin = %"clinic", attempts = 3, error = ?"a\nb", "not started");
            tracing::info!(event = "plugin:enabled", body = "{}");
        });
        let entry = next(&socket);
        assert_eq!(entry["MESSAGE"], "not started plugin=clinic attempts=3 error=\"a\\nb\"");
        assert_eq!(entry["PRIORITY"], "4");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "bulkhead");
        assert_eq!(entry["BULKHEAD_PLUGIN"], "clinic");
        assert_eq!(entry["BULKHEAD_ATTEMPTS"], "3");
        assert!(entry["CODE_FILE"].ends_with("journalled.rs"), "{entry:?}");
        let entry = next(&socket);
        assert_eq!(entry["MESSAGE"], "event=plugin:enabled body={}");
        assert_eq!((entry["PRIORITY"].as_str(), entry["BULKHEAD_BODY"].as_str()), ("6", "{}"));
    }

    /// A journal that is away, with a stream to it, and where it will be.
    fn away(directory: &Path, stream: UnixStream) -> tracing::subscriber::DefaultGuard {
        let (journal, socket) = journal(directory);
        drop(socket);
        std::fs::remove_file(directory.join("journal")).unwrap();
        let journalled = Journalled::beside(journal, stream);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(journalled))
    }

    #[test]
    fn what_the_journal_does_not_take_is_one_line_of_its_stream() {
        let directory = tempfile::tempdir().unwrap();
        let (mut reader, stream) = UnixStream::pair().unwrap();
        let guard = away(directory.path(), stream);
        tracing::warn!("one\n<0>two\u{1b}[31m");
        tracing::info!("{}", "é".repeat(MOST_OF_A_LINE));
        drop(guard);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r"<4>one\n<0>two\u{1b}[31m");
        assert!(lines[1].starts_with("<6>éé") && lines[1].len() < MOST_OF_A_LINE, "{}", lines[1]);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_stream_that_is_full_or_gone_neither_waits_nor_panics_and_the_journal_is_told_later() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, mut stream) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 1]).is_ok() {}
        // As standard error is: whoever writes waits.
        stream.set_nonblocking(false).unwrap();
        let _guard = away(directory.path(), stream);
        tracing::warn!("full");
        drop(reader);
        tracing::warn!("gone");
        let socket = UnixDatagram::bind(directory.path().join("journal")).unwrap();
        tracing::info!("back");
        let told = next(&socket);
        assert_eq!((told["BULKHEAD_LOST"].as_str(), told["PRIORITY"].as_str()), ("2", "4"));
        assert_eq!(next(&socket)["MESSAGE"], "back");
    }
}
