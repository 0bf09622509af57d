//! The book of a plugin: its log records, one JSON object a line, bounded on disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The current file is set aside at this length; with the one before it this bounds the disk.
const ROTATE_AT: u64 = 8 << 20;
/// How far a follower may fall behind before it is told that it missed some.
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
    /// Which start of the plugin wrote it.
    pub(crate) generation: u64,
    /// The position in the stream after this record, in bytes.
    pub(crate) at: u64,
}

/// A handle on the book; cheap to clone.
#[derive(Clone)]
pub(crate) struct Book {
    inner: Arc<Mutex<Inner>>,
    live: broadcast::Sender<Arc<Record>>,
}

struct Inner {
    directory: PathBuf,
    file: File,
    length: u64,
    /// Up to where each stream of each generation is accounted for.
    positions: HashMap<(Stream, u64), u64>,
    counts: LogCounts,
}

/// What was written since the book was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogCounts {
    /// By the name of the level.
    pub(crate) lines: [(&'static str, u64); 5],
    /// Output that could not be kept.
    pub(crate) lost_bytes: u64,
}

impl Default for LogCounts {
    fn default() -> Self {
        let lines = ["trace", "debug", "info", "warn", "error"].map(|level| (level, 0));
        Self { lines, lost_bytes: 0 }
    }
}

impl Book {
    /// Opens the book in `directory`, making it. A last line that a crash tore is removed: its
    /// bytes are still in the spool.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("current.jsonl");
        let mut positions = HashMap::new();
        let mut length = 0;
        for record in read(&directory.join("previous.jsonl"))?.0 {
            positions.insert((record.stream, record.generation), record.at);
        }
        if path.exists() {
            let (records, whole) = read(&path)?;
            for record in records {
                positions.insert((record.stream, record.generation), record.at);
            }
            length = whole;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(length)?;
        let counts = LogCounts::default();
        let inner = Inner { directory: directory.to_owned(), file, length, positions, counts };
        let (live, _) = broadcast::channel(LIVE_BUFFER);
        Ok(Self { inner: Arc::new(Mutex::new(inner)), live })
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

    fn write(&self, mut inner: MutexGuard<'_, Inner>, fresh: Vec<Record>) -> io::Result<()> {
        let mut text = Vec::new();
        for record in &fresh {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        if let Err(error) = inner.file.write_all(&text) {
            // Half a batch may be on disk: cut it off, so that a later try starts on a new line.
            inner.file.set_len(inner.length)?;
            return Err(error);
        }
        inner.length += text.len() as u64;
        for record in &fresh {
            inner.positions.insert((record.stream, record.generation), record.at);
            inner.counts.lines[record.level as usize].1 += 1;
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

    /// Output could not be kept.
    pub(super) fn lost(&self, bytes: u64) {
        self.lock().counts.lost_bytes += bytes;
    }

    pub(crate) fn counts(&self) -> LogCounts {
        self.lock().counts
    }

    /// The last `count` records, oldest first. Reads from the end, so a few cost little however
    /// long the log is.
    pub(crate) fn tail(&self, count: usize) -> io::Result<Vec<Record>> {
        let directory = self.directory();
        let mut last = tail_of(&directory.join("current.jsonl"), count)?;
        if last.len() < count {
            let mut before = tail_of(&directory.join("previous.jsonl"), count - last.len())?;
            before.append(&mut last);
            last = before;
        }
        Ok(last)
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Record>> {
        self.live.subscribe()
    }
}

impl Inner {
    fn rotate(&mut self) -> io::Result<()> {
        let current = self.directory.join("current.jsonl");
        std::fs::rename(&current, self.directory.join("previous.jsonl"))?;
        self.file = OpenOptions::new().create(true).append(true).open(&current)?;
        self.length = 0;
        // Positions of starts long gone are of no use to anybody.
        if let Some(newest) = self.positions.keys().map(|(_, generation)| *generation).max() {
            self.positions.retain(|(_, generation), _| *generation == newest);
        }
        Ok(())
    }
}

/// The last `count` whole records of a file, oldest first. No file is no records.
fn tail_of(path: &Path, count: usize) -> io::Result<Vec<Record>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let mut taken = (count as u64).saturating_mul(256).clamp(4096, length.max(4096));
    loop {
        let from = length.saturating_sub(taken);
        let mut bytes = vec![0; (length - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        // Where it does not begin at the file's start it begins in the middle of a line.
        let begin = match from {
            0 => 0,
            _ => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(begin, |at| at + 1);
        let lines: Vec<&[u8]> = bytes[begin..whole.max(begin)]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        if lines.len() >= count || from == 0 {
            let last = &lines[lines.len().saturating_sub(count)..];
            return Ok(last.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect());
        }
        taken = taken.saturating_mul(4);
    }
}

/// The whole records of a file, and the length in bytes of what they take. No file is no records.
fn read(path: &Path) -> io::Result<(Vec<Record>, u64)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut records = Vec::new();
    let mut whole = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((records, whole));
        }
        whole += length as u64;
        if let Ok(record) = serde_json::from_slice(&line) {
            records.push(record);
        }
    }
}
