//! What a plugin wrote before it ended, as it goes into errors, events and the service's own log.
//!
//! Theory of operation. The log book keeps what a plugin writes as it is, for those who may read it.
//! An error goes further, so the lines in it are masked with every secret that the plugin was given,
//! from its start to its end: [`Given`] gathers them before each is handed over. A supervisor that took
//! a plugin over does not know what the one before it had handed over; where the configuration has
//! secrets it then shows no line at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_ipc_protocol::log_line;
use serde_json::{Value, json};

use super::Context;
use super::effective::{Secrets, whole_characters};
use crate::failure::{Code, Failure};
use crate::manifest::Manifest;
use crate::supervise::logs::{Record, Stream};

/// How many lines are shown, and how many bytes of each.
const LINES: usize = 10;
const LINE: usize = 400;
/// How many records are looked at for them: another stream's may be among them.
const RECORDS: usize = 64;
/// How long after a death its pipes may take to be read out. They are read without waiting for
/// anybody, so this is for a machine that is very busy.
const READ_OUT: Duration = Duration::from_secs(2);

const WITHHELD: &str = "a supervisor before this one had started it, so it is not known which secrets it \
                        was given, and its lines could quote one; `bulkhead logs` has them";

/// The secrets that the newest start of a plugin was given, as far as that is known.
#[derive(Clone, Default)]
pub(crate) struct Given(Arc<Mutex<Option<(u64, Secrets)>>>);

impl Given {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, Secrets)>> {
        // A panic while it was held leaves a list that may be one secret longer.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process was started, and was given nothing yet.
    pub(super) fn begin(&self, generation: u64) {
        *self.lock() = Some((generation, Secrets::default()));
    }

    /// It is about to be given these. Nothing becomes known of a process that was taken over.
    pub(super) fn add(&self, generation: u64, secrets: &Secrets) {
        if let Some((of, known)) = self.lock().as_mut()
            && *of == generation
        {
            known.add(secrets);
        }
    }

    /// `None` if it is not known.
    fn to(&self, generation: u64) -> Option<Secrets> {
        let known = self.lock();
        known.as_ref().filter(|(of, _)| *of == generation).map(|(_, secrets)| secrets.clone())
    }
}

/// What a start's words are to be told without. None: it had secrets, and they are not known any more.
fn secrets(context: &Context, manifest: &Manifest, generation: u64) -> Option<Secrets> {
    let unknown = || (!manifest.config.has_secrets()).then(Secrets::default);
    context.given.to(generation).or_else(unknown)
}

/// What that start says of itself while it runs, as others may be told it.
pub(super) fn masked(
    context: &Context,
    manifest: &Manifest,
    generation: u64,
    failure: Failure,
) -> Failure {
    match secrets(context, manifest, generation) {
        Some(secrets) => secrets.mask(failure),
        // The words are its own only where it has answered.
        None if failure.code == Code::CallFailed => Failure {
            message: "it says that it is not well; as a supervisor before this one had started it, it is \
                      not known which secrets it was given, and its words could quote one"
                .to_owned(),
            ..failure
        },
        None => failure,
    }
}

/// What that start wrote last, as one detail of an error: its key and its value. Waits until what was
/// in the pipes when it ended is in the book, for a bounded time.
pub(super) async fn last_lines(
    context: &Context,
    manifest: &Manifest,
    generation: u64,
) -> (&'static str, Value) {
    let Some(secrets) = secrets(context, manifest, generation) else {
        return ("lastLogLinesWithheld", json!(WITHHELD));
    };
    // Then what is there by now is shown.
    let _ = tokio::time::timeout(READ_OUT, context.book.read_out(generation)).await;
    let records = context.book.tail(RECORDS).unwrap_or_default();
    ("lastLogLines", json!(shown(&records, generation, &secrets)))
}

/// What the next record of a stream can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Line,
    /// The rest of a line, which may begin with the end of a secret.
    Rest,
    /// As some output is lost, any of them can be two lines in one, without the end of a secret.
    Holed,
}

/// The last lines of a start among the newest records of a book.
fn shown(records: &[Record], generation: u64, secrets: &Secrets) -> Vec<String> {
    // Otherwise the first record of a stream can be the rest of a line, with the end of a secret.
    let from_the_start = records.len() < RECORDS || records[0].generation != generation;
    let of_it = records.iter().filter(|record| record.generation == generation);
    let first = if from_the_start { Next::Line } else { Next::Rest };
    let mut next = [Stream::Stdout, Stream::Stderr].map(|stream| (stream, first));
    let mut lines = Vec::new();
    for record in of_it {
        for (_, next) in next.iter_mut().filter(|(stream, _)| *stream == record.stream) {
            let ours = record.dropped.is_some() || record.is_lost();
            if ours || *next == Next::Line {
                lines.extend(line(record, secrets));
            }
            *next = match next {
                Next::Holed => Next::Holed,
                _ if record.is_lost() => Next::Holed,
                _ if record.cut || ours => Next::Rest,
                _ => Next::Line,
            };
        }
    }
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}

/// A line as it is shown; none of one that says nothing.
fn line(record: &Record, secrets: &Secrets) -> Option<String> {
    // What it was cut in the midst of may be a secret.
    let mut text = if record.cut || log_line::is_shortened(&record.message) {
        secrets.mask_cut(&record.message)
    } else {
        secrets.mask_text(&record.message)
    };
    for (key, value) in &record.fields {
        text = secrets.mask_text(&format!("{text} {key}={:?}", secrets.mask_text(value)));
    }
    if text.len() > LINE {
        text.truncate(whole_characters(&text, LINE));
        text.push('…');
    }
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::logs::{Dropped, Level, Source, lost};

    fn record(generation: u64, stream: Stream, message: &str) -> Record {
        Record {
            sequence: 0,
            time: String::new(),
            stream,
            level: Level::Info,
            target: None,
            message: message.to_owned(),
            fields: Vec::new(),
            cut: false,
            dropped: None,
            generation,
            at: 0,
        }
    }

    fn secrets(value: &Value) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.gather(value);
        secrets
    }

    #[test]
    fn the_last_lines_of_that_start_and_no_secret_of_it() {
        let with_fields = Record {
            fields: vec![("key".to_owned(), "canary\"1".to_owned())],
            ..record(2, Stream::Stderr, "refused")
        };
        let records = [
            record(1, Stream::Stdout, "of the start before"),
            record(2, Stream::Stdout, "the key is canary\"1"),
            record(2, Stream::Stdout, "  "),
            with_fields,
        ];
        let lines = shown(&records, 2, &secrets(&json!("canary\"1")));
        assert_eq!(lines, ["the key is <redacted>", "refused key=\"<redacted>\""]);
        assert_eq!(shown(&records, 3, &Secrets::default()), [""; 0]);
    }

    #[test]
    fn lines_are_few_and_short() {
        let records: Vec<Record> = (0..64)
            .map(|n| record(2, Stream::Stdout, &format!("{n} {}", "ä".repeat(900))))
            .collect();
        let lines = shown(&records, 2, &Secrets::default());
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|line| line.len() <= LINE + '…'.len_utf8()), "{lines:?}");
        assert!(lines[LINES - 1].starts_with("63 ä"), "the newest is the last: {lines:?}");
    }

    #[test]
    fn half_a_secret_is_not_shown_where_a_long_line_was_cut() {
        let secret = "canary-".repeat(3000);
        let cut = |message: &str| Record { cut: true, ..record(2, Stream::Stdout, message) };
        // One secret is longer than a record. Of the other two are in one, and what stands for them leaves
        // room for a part of a third; one so small that it is nothing elsewhere.
        let short = "canary,".repeat(1000);
        for (secret, first, begin) in [
            (&secret, format!("the key is {}", &secret[..16_373]), "<redacted>"),
            (&short, format!("{}{short}{short}{}", "x".repeat(300), &short[..2000]), "xxxxxx"),
            (&short, format!("{short}:{short} {}", &short[..5]), "<redacted>:<redacted>"),
        ] {
            let records = [
                record(2, Stream::Stderr, "plain"),
                cut(&first),
                record(2, Stream::Stdout, &secret[7..]),
                record(2, Stream::Stdout, "after"),
            ];
            let lines = shown(&records, 2, &secrets(&json!(secret)));
            assert_eq!((lines.len(), &*lines[0], &*lines[2]), (3, "plain", "after"), "{lines:?}");
            assert!(lines[1].starts_with(begin) && !lines[1].contains("can"), "{lines:?}");
            // The control: without a secret its beginning is shown.
            let lines = shown(&records, 2, &Secrets::default());
            assert!(lines[1].starts_with(&first[..LINE]), "{lines:?}");
        }
        // The same where the records before it are not looked at.
        let mut records = vec![record(2, Stream::Stdout, &secret[7..])];
        records.extend((1..RECORDS).map(|_| record(2, Stream::Stderr, "plain")));
        let lines = shown(&records, 2, &secrets(&json!(secret)));
        assert_eq!(lines, ["plain"; LINES]);
        records.truncate(LINES / 2);
        records[0].message = "all of it".to_owned();
        assert_eq!(shown(&records, 2, &secrets(&json!(secret)))[0], "all of it");
    }

    #[test]
    fn half_a_secret_is_not_shown_where_the_sdk_shortened_a_record() {
        let secret = "canary-".repeat(600);
        let written = bulkhead_ipc_protocol::LogRecord {
            level: bulkhead_ipc_protocol::Level::Info,
            target: "a".to_owned(),
            message: format!("the key is {secret}{}", "\u{1}".repeat(3000)),
            fields: Vec::new(),
        };
        let shortened = log_line::decode(&log_line::encode(&written)).unwrap().message;
        assert!(shortened.len() < secret.len(), "the control: {shortened}");
        let records = [record(2, Stream::Stderr, &shortened), record(2, Stream::Stderr, "after…")];
        assert_eq!(shown(&records, 2, &secrets(&json!(secret))), ["<redacted>", "after…"]);
    }

    #[test]
    fn half_a_secret_is_not_shown_where_lines_are_missing() {
        let dropped = Record {
            dropped: Some(Dropped { lines: 1, bytes: 16_384 }),
            ..record(2, Stream::Stdout, "1 lines dropped")
        };
        let lost = lost(7, Source { stream: Stream::Stdout, generation: 2 }, 0);
        let told = |missing: &Record| {
            let after = ["half", "whole"].map(|text| record(2, Stream::Stdout, text));
            let records = [&[missing.clone()][..], &after, &[record(2, Stream::Stderr, "other")]];
            shown(&records.concat(), 2, &secrets(&json!("canary half")))
        };
        assert_eq!(told(&dropped), ["1 lines dropped", "whole", "other"]);
        // Where the hole is, nobody knows.
        assert_eq!(told(&lost), [&*lost.message, "other"]);
    }

    #[test]
    fn what_a_start_was_given_is_known_of_that_start_and_to_who_began_it() {
        let given = Given::default();
        let (old, new) = (secrets(&json!("canary-old")), secrets(&json!("canary-new")));
        given.add(1, &old);
        assert!(given.to(1).is_none(), "it was taken over");
        given.begin(2);
        given.add(2, &old);
        given.add(2, &new);
        given.add(1, &secrets(&json!("of another")));
        assert!(given.to(1).is_none());
        let known = given.to(2).unwrap();
        let masked = known.mask_text("canary-old canary-new of another");
        assert_eq!(masked, "<redacted> <redacted> of another");
    }
}
