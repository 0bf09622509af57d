//! Reading a book: which of its records are asked for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Level, Record, Stream};

/// Which records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// So many of the newest; all where it is not said.
    pub(crate) newest: Option<usize>,
    /// So many of the oldest; not together with `newest`.
    pub(crate) oldest: Option<usize>,
    /// With greater sequence numbers. One that no record has had yet is of a log before this one, and
    /// means nothing.
    pub(crate) after: Option<u64>,
    /// From this time on, and until that one, as records have their time.
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    /// At least as severe.
    pub(crate) level: Option<Level>,
    pub(crate) stream: Option<Stream>,
}

impl Selection {
    /// Whether the record is asked for, wherever it stands.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        self.after.is_none_or(|after| record.sequence > after)
            && self.since.as_ref().is_none_or(|since| record.time >= *since)
            && self.until.as_ref().is_none_or(|until| record.time <= *until)
            && self.level.is_none_or(|level| record.level >= level)
            && self.stream.is_none_or(|stream| record.stream == stream)
    }

    /// Whether records are left out for what they are, and not only for where they stand.
    pub(crate) fn is_of_some(&self) -> bool {
        let Self { newest: _, oldest: _, after: _, since, until, level, stream } = self;
        since.is_some() || until.is_some() || level.is_some() || stream.is_some()
    }

    fn is_of_all(&self) -> bool {
        self.oldest.is_none() && self.after.is_none() && !self.is_of_some()
    }
}

/// What a selection found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Oldest first.
    pub(crate) records: Vec<Record>,
    /// How many came after the one that was named and are kept no more.
    pub(crate) missed: u64,
    /// There are more, and those are the oldest.
    pub(crate) more: bool,
    /// Up to this number the book was looked through; 0 if it is empty.
    pub(crate) up_to: u64,
}

/// The records of both files, of which `previous` has the older; `newest` is the greatest sequence
/// number that was given.
pub(super) fn select(
    previous: Option<File>,
    current: Option<File>,
    newest: u64,
    selection: &Selection,
) -> io::Result<Found> {
    let after = selection.after.filter(|after| *after <= newest);
    let selection = &Selection { after, ..selection.clone() };
    if let (Some(count), true) = (selection.newest, selection.is_of_all()) {
        let mut records = tail(current, count)?;
        if records.len() < count {
            let mut before = tail(previous, count - records.len())?;
            before.append(&mut records);
            records = before;
        }
        return Ok(Found { records, missed: 0, more: false, up_to: newest });
    }
    let count = selection.newest.unwrap_or(usize::MAX);
    let mut records = VecDeque::new();
    let mut more = false;
    let mut oldest = None;
    let mut take = |record: Record| {
        oldest.get_or_insert(record.sequence);
        if count > 0 && !more && selection.takes(&record) {
            more = selection.oldest == Some(records.len());
            if more {
                return;
            }
            if records.len() == count {
                records.pop_front();
            }
            records.push_back(record);
        }
    };
    scan(previous, &mut take)?;
    scan(current, &mut take)?;
    let missed = match (selection.after, oldest) {
        (Some(after), Some(oldest)) => oldest.saturating_sub(after.saturating_add(1)),
        _ => 0,
    };
    let up_to = match records.back() {
        Some(last) if more => last.sequence,
        _ => newest,
    };
    Ok(Found { records: records.into(), missed, more, up_to })
}

/// A file of a book; `None` if there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the whole records of a file one by one; the length in bytes of what they take.
pub(super) fn scan(file: Option<File>, take: &mut impl FnMut(Record)) -> io::Result<u64> {
    let Some(file) = file else { return Ok(0) };
    let mut reader = BufReader::new(file);
    let mut whole = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok(whole);
        }
        whole += length as u64;
        if let Ok(record) = serde_json::from_slice(&line) {
            take(record);
        }
    }
}

/// The last `count` whole records of a file, oldest first.
fn tail(file: Option<File>, count: usize) -> io::Result<Vec<Record>> {
    let Some(file) = file else { return Ok(Vec::new()) };
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
