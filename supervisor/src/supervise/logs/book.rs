//! The book of a plugin: its log records, one JSON object a line, bounded on disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::Journalled;
use super::rate::{Bucket, Dropped, Rate};
use super::reading::{self, Found, Selection};
use crate::clock::Monotonic;

/// The current file is set aside at this length; with the one before it this bounds the disk.
const ROTATE_AT: u64 = 8 << 20;
/// The records since the last rotation, and those before it.
const CURRENT: &str = "current.jsonl";
const PREVIOUS: &str = "previous.jsonl";
/// How far a follower may fall behind; then it reads on from the book.
const LIVE_BUFFER: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    /// With the SDK's log records among the lines.
    Stderr,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) const ALL: [Self; 5] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

impl From<bulkhead_ipc_protocol::Level> for Level {
    fn from(level: bulkhead_ipc_protocol::Level) -> Self {
        use bulkhead_ipc_protocol::Level as Written;
        match level {
            Written::Trace => Level::Trace,
            Written::Debug => Level::Debug,
            Written::Info => Level::Info,
            Written::Warn => Level::Warn,
            Written::Error => Level::Error,
        }
    }
}

/// One line of a plugin's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Grows by one from record to record, whatever restarts; begins at 1. Given by the book.
    #[serde(default)]
    pub(crate) sequence: u64,
    /// RFC 3339, UTC, milliseconds: when it was read.
    pub(crate) time: String,
    pub(crate) stream: Stream,
    pub(crate) level: Level,
    /// Where in the plugin it comes from; only the SDK's records say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fields: Vec<(String, String)>,
    /// The line was longer than the limit and is cut here; the rest follows as the next record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cut: bool,
    /// It stands in the place of lines that were over the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dropped: Option<Dropped>,
    /// Which start of the plugin wrote it.
    pub(crate) generation: u64,
    /// The position in the stream after this record, in bytes.
    pub(crate) at: u64,
}

/// What is kept of what comes, and who is told.
#[derive(Default)]
pub(crate) struct Rules {
    /// More than this is dropped.
    pub(crate) rate: Option<Rate>,
    /// Told when a flood begins, with what was dropped so far.
    pub(crate) on_flood: Option<OnFlood>,
    /// Gets each record as well.
    pub(crate) journal: Option<Journalled>,
}

type OnFlood = Box<dyn Fn(Dropped, Rate) + Send + Sync>;

/// A handle on the book; cheap to clone.
#[derive(Clone)]
pub(crate) struct Book {
    inner: Arc<Mutex<Inner>>,
    on_flood: Arc<Option<OnFlood>>,
    journal: Arc<Option<Journalled>>,
    live: broadcast::Sender<Arc<Record>>,
    /// The starts whose pipes are being read, each as often as it has pipes.
    read: watch::Sender<Vec<u64>>,
}

/// A pipe of a start is being read into the book, for as long as this lives.
pub(crate) struct Reading {
    generation: u64,
    read: watch::Sender<Vec<u64>>,
}

struct Inner {
    directory: PathBuf,
    file: File,
    length: u64,
    /// The number of the newest record; 0 if there was none.
    sequence: u64,
    /// Up to where each stream of each generation is accounted for.
    positions: HashMap<(Stream, u64), u64>,
    bucket: Option<Bucket>,
    counts: LogCounts,
    /// Of the plugin that writes.
    version: String,
}

/// What was written since the book was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogCounts {
    /// By the name of the level.
    pub(crate) lines: [(&'static str, u64); 5],
    /// Output that could not be kept.
    pub(crate) lost_bytes: u64,
    /// Over the limit.
    pub(crate) dropped: Dropped,
    /// Lines that the journal did not take.
    pub(crate) unjournalled: u64,
}

impl Default for LogCounts {
    fn default() -> Self {
        let lines = Level::ALL.map(|level| (level.name(), 0));
        Self { lines, lost_bytes: 0, dropped: Dropped::default(), unjournalled: 0 }
    }
}

impl Book {
    /// Opens the book in `directory`, making it. A last line that a crash tore is removed: its
    /// bytes are still in the spool.
    pub(crate) fn open(directory: &Path, rules: Rules) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(CURRENT);
        let mut positions = HashMap::new();
        let mut sequence = 0;
        let mut note = |record: Record| {
            positions.insert((record.stream, record.generation), record.at);
            sequence = record.sequence.max(sequence);
        };
        reading::scan(reading::open(&directory.join(PREVIOUS))?, &mut note)?;
        let length = reading::scan(reading::open(&path)?, &mut note)?;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(length)?;
        let counts = LogCounts::default();
        let directory = directory.to_owned();
        let bucket = rules.rate.map(|rate| Bucket::new(rate, Monotonic::now()));
        let inner = Inner {
            directory,
            file,
            length,
            sequence,
            positions,
            bucket,
            counts,
            version: String::new(),
        };
        let (live, _) = broadcast::channel(LIVE_BUFFER);
        let (on_flood, journal) = (Arc::new(rules.on_flood), Arc::new(rules.journal));
        let read = watch::Sender::default();
        Ok(Self { inner: Arc::new(Mutex::new(inner)), on_flood, journal, live, read })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves a book whose file is still a sequence of whole lines.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.lock().directory.clone()
    }

    /// Up to where this stream of this start is accounted for; 0 if nothing is.
    pub(crate) fn position(&self, stream: Stream, generation: u64) -> u64 {
        self.lock().positions.get(&(stream, generation)).copied().unwrap_or(0)
    }

    /// Writes the records down with one write(2), then shows them to those who follow. Records
    /// that the book accounts for already are passed over.
    pub(crate) fn append(&self, records: Vec<Record>) -> io::Result<()> {
        let inner = self.lock();
        let fresh = records
            .into_iter()
            .filter(|r| {
                inner.positions.get(&(r.stream, r.generation)).is_none_or(|known| r.at > *known)
            })
            .collect();
        self.write(inner, fresh)
    }

    /// Writes down a record of our own about a stream, at the position where it stands.
    pub(crate) fn tell(&self, record: Record) -> io::Result<()> {
        self.write(self.lock(), vec![record])
    }

    fn write(&self, mut inner: MutexGuard<'_, Inner>, mut fresh: Vec<Record>) -> io::Result<()> {
        let mut text = Vec::new();
        for (record, sequence) in fresh.iter_mut().zip(inner.sequence + 1..) {
            record.sequence = sequence;
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        if let Err(error) = inner.file.write_all(&text) {
            // Half a batch may be on disk: cut it off, so that a later try starts on a new line.
            inner.file.set_len(inner.length)?;
            return Err(error);
        }
        inner.length += text.len() as u64;
        inner.sequence += fresh.len() as u64;
        for record in &fresh {
            inner.positions.insert((record.stream, record.generation), record.at);
            inner.counts.lines[record.level as usize].1 += 1;
        }
        if let Some(journal) = self.journal.as_ref() {
            let version = std::mem::take(&mut inner.version);
            let missed = fresh.iter().filter(|record| !journal.send(record, &version)).count();
            inner.version = version;
            inner.counts.unjournalled += missed as u64;
        }
        if inner.length > ROTATE_AT {
            inner.rotate()?;
        }
        drop(inner);
        for record in fresh {
            // Nobody may be following.
            let _ = self.live.send(Arc::new(record));
        }
        Ok(())
    }

    /// The version of the plugin that writes from now on.
    pub(crate) fn is_of(&self, version: &str) {
        version.clone_into(&mut self.lock().version);
    }

    /// Output could not be kept.
    pub(super) fn lost(&self, bytes: u64) {
        self.lock().counts.lost_bytes += bytes;
    }

    pub(crate) fn counts(&self) -> LogCounts {
        self.lock().counts
    }

    /// What may come now, where there is a limit; what was taken of it is put back when the lines
    /// are written.
    pub(super) fn bucket(&self) -> Option<Bucket> {
        self.lock().bucket
    }

    /// Lines were over the limit, or not; `bucket` is what is left of it.
    pub(super) fn passed(&self, bucket: Option<Bucket>, dropped: Dropped) {
        let mut inner = self.lock();
        inner.bucket = bucket;
        inner.counts.dropped.lines += dropped.lines;
        inner.counts.dropped.bytes += dropped.bytes;
    }

    /// A record of what was dropped is written.
    pub(super) fn told(&self, dropped: Dropped) {
        let begun = self
            .lock()
            .bucket
            .as_mut()
            .and_then(|bucket| bucket.begins_flood(Monotonic::now()).then(|| bucket.rate()));
        if let (Some(rate), Some(tell)) = (begun, self.on_flood.as_ref()) {
            tell(dropped, rate);
        }
    }

    /// The last `count` records, oldest first. Reads from the end, so a few cost little however
    /// long the log is.
    pub(crate) fn tail(&self, count: usize) -> io::Result<Vec<Record>> {
        let selection = Selection { newest: Some(count), ..Selection::default() };
        Ok(self.select(&selection)?.records)
    }

    /// The records that are asked for. May read all that is kept: not for the thread that serves.
    pub(crate) fn select(&self, selection: &Selection) -> io::Result<Found> {
        let (previous, current, newest) = {
            // Under the lock, so that no rotation comes between the two.
            let inner = self.lock();
            let open = |name| reading::open(&inner.directory.join(name));
            (open(PREVIOUS)?, open(CURRENT)?, inner.sequence)
        };
        reading::select(previous, current, newest, selection)
    }

    /// A pipe of this start is going to be read.
    pub(crate) fn reading(&self, generation: u64) -> Reading {
        self.read.send_modify(|read| read.push(generation));
        Reading { generation, read: self.read.clone() }
    }

    /// Waits until no pipe of this start is read any more. They are read until it has ended, and then
    /// as far as they are filled.
    pub(crate) async fn read_out(&self, generation: u64) {
        // The sender is our own.
        let _ = self.read.subscribe().wait_for(|read| !read.contains(&generation)).await;
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Record>> {
        self.live.subscribe()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.read.send_modify(|read| {
            if let Some(at) = read.iter().position(|generation| *generation == self.generation) {
                read.swap_remove(at);
            }
        });
    }
}

impl Inner {
    fn rotate(&mut self) -> io::Result<()> {
        let current = self.directory.join(CURRENT);
        std::fs::rename(&current, self.directory.join(PREVIOUS))?;
        self.file = OpenOptions::new().create(true).append(true).open(&current)?;
        self.length = 0;
        // Positions of starts long gone are of no use to anybody.
        if let Some(newest) = self.positions.keys().map(|(_, generation)| *generation).max() {
            self.positions.retain(|(_, generation), _| *generation == newest);
        }
        Ok(())
    }
}
