//! A spool: what was moved out of a pipe, until the book accounts for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use super::line::{self, Source};
use super::rate::Dropped;
use super::{Book, Stream};
use crate::clock::Monotonic;

/// How much one splice moves: the whole of a pipe of ordinary size.
const CHUNK: usize = 64 * 1024;
/// A spool that is longer than this and accounted for is begun anew.
const ROTATE_AT: u64 = 1 << 20;

/// The bytes of one stream of one start, from position `base` on.
///
/// Its name is `<stream>.<generation>.<base>.spool`; where lines before `base` were dropped and that
/// is not written in the book yet, their count and bytes stand behind the base.
pub(super) struct Spool {
    pub(super) path: PathBuf,
    file: File,
    of: Source,
    base: u64,
    length: u64,
    /// Up to this position all is in the book or dropped.
    done: u64,
    /// What was dropped and is not in the book yet.
    dropped: Dropped,
}

/// A spool by its name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) generation: u64,
    base: u64,
    lines: u64,
    bytes: u64,
    path: PathBuf,
}

impl Name {
    fn new(directory: &Path, of: Source, base: u64, dropped: Dropped) -> Self {
        let (stream, generation) = (of.stream.name(), of.generation);
        let Dropped { lines, bytes } = dropped;
        let name = match lines {
            0 => format!("{stream}.{generation}.{base}.spool"),
            _ => format!("{stream}.{generation}.{base}.{lines}.{bytes}.spool"),
        };
        Self { generation, base, lines, bytes, path: directory.join(name) }
    }

    fn parse(path: PathBuf, stream: Stream) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".spool")?;
        let numbers = name.strip_prefix(stream.name())?.strip_prefix('.')?;
        let numbers: Vec<u64> =
            numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let (generation, base, lines, bytes) = match numbers[..] {
            [generation, base] => (generation, base, 0, 0),
            [generation, base, lines, bytes] => (generation, base, lines, bytes),
            _ => return None,
        };
        Some(Self { generation, base, lines, bytes, path })
    }
}

/// The spools of a stream, in order.
pub(super) fn find(directory: &Path, stream: Stream) -> io::Result<Vec<Name>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        found.extend(Name::parse(entry?.path(), stream));
    }
    found.sort();
    Ok(found)
}

impl Spool {
    pub(super) fn open(book: &Book, of: Source) -> io::Result<Self> {
        let directory = book.directory();
        let mut found = find(&directory, of.stream)?;
        found.retain(|name| name.generation == of.generation);
        let newest =
            found.pop().unwrap_or_else(|| Name::new(&directory, of, 0, Dropped::default()));
        // A crash between making a new spool and removing the old one leaves both.
        for old in found {
            std::fs::remove_file(old.path)?;
        }
        let Name { base, lines, bytes, path, .. } = newest;
        let file =
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path)?;
        let length = file.metadata()?.len();
        let known = book.position(of.stream, of.generation);
        // What the name tells is in the book if that accounts for the base.
        let dropped = if known < base { Dropped { lines, bytes } } else { Dropped::default() };
        Ok(Self { path, file, of, base, length, done: known.max(base), dropped })
    }

    /// Moves what the pipe holds; 0 at its end. One system call: it happens or it does not.
    pub(super) fn fill(&mut self, pipe: &OwnedFd) -> Result<usize, Errno> {
        let mut offset = self.length as i64;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let moved = splice(pipe, None, &self.file, Some(&mut offset), CHUNK, flags)?;
        self.length += moved as u64;
        Ok(moved)
    }

    /// Up to where all is accounted for.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Whether something was dropped of which the book does not have a word.
    pub(super) fn has_dropped(&self) -> bool {
        self.dropped.lines > 0
    }

    /// Writes the whole lines that are new into the book, as far as they are within the limit; with
    /// `last`, the unfinished one too. Whether any was dropped.
    pub(super) fn account(&mut self, book: &Book, last: bool) -> io::Result<bool> {
        let from = self.done;
        let end = self.base + self.length;
        let mut bytes = vec![0; end.saturating_sub(from) as usize];
        self.file.read_exact_at(&mut bytes, from - self.base)?;
        let (mut bucket, now) = (book.bucket(), Monotonic::now());
        let rate = bucket.map(|bucket| bucket.rate());
        let (mut done, mut untold, mut new) = (from, self.dropped, Dropped::default());
        let (mut records, mut told) = (Vec::new(), Vec::new());
        for line in line::lines(&bytes, last) {
            let at = from + line.end as u64;
            if bucket.as_mut().is_none_or(|bucket| bucket.admit(now, at - done)) {
                if untold.lines > 0 {
                    records.push(line::dropped(untold, rate, self.of, done));
                    told.push(std::mem::take(&mut untold));
                }
                records.push(line::record(&line, self.of, at));
            } else {
                untold.add(at - done);
                new.add(at - done);
            }
            done = at;
        }
        if last && untold.lines > 0 {
            records.push(line::dropped(untold, rate, self.of, done));
            told.push(std::mem::take(&mut untold));
        }
        book.append(records)?;
        (self.done, self.dropped) = (done, untold);
        book.passed(bucket, new);
        for dropped in told {
            book.told(dropped);
        }
        if self.length > ROTATE_AT {
            self.rotate(&book.directory())?;
        }
        Ok(new.lines > 0)
    }

    /// Writes into the book what was dropped so far.
    pub(super) fn tell(&mut self, book: &Book) -> io::Result<()> {
        if self.has_dropped() {
            let record =
                line::dropped(self.dropped, book.bucket().map(|it| it.rate()), self.of, self.done);
            book.append(vec![record])?;
            book.told(std::mem::take(&mut self.dropped));
        }
        Ok(())
    }

    /// A new spool that holds only what is not accounted for yet, put in place before the old one
    /// goes.
    fn rotate(&mut self, directory: &Path) -> io::Result<()> {
        let Name { base, path, .. } = Name::new(directory, self.of, self.done, self.dropped);
        let mut rest = vec![0; (self.base + self.length - base) as usize];
        self.file.read_exact_at(&mut rest, base - self.base)?;
        if path == self.path {
            return Ok(());
        }
        let draft =
            directory.join(format!("{}.{}.draft", self.of.stream.name(), self.of.generation));
        std::fs::write(&draft, &rest)?;
        std::fs::rename(&draft, &path)?;
        std::fs::remove_file(&self.path)?;
        self.file = OpenOptions::new().read(true).write(true).open(&path)?;
        (self.path, self.base, self.length) = (path, base, rest.len() as u64);
        Ok(())
    }
}
