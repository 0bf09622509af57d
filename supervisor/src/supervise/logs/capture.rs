//! From a plugin's pipe through the spool into the book.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::pin;

use bulkhead_ipc_protocol::log_line;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Book, Level, Record, Stream};
use crate::supervise::timestamp;

/// How much one splice moves: the whole of a pipe of ordinary size.
const CHUNK: usize = 64 * 1024;
/// A line longer than this becomes several records.
const MAX_LINE: usize = log_line::MAX_LINE;
/// A spool that is longer than this and accounted for is begun anew.
const SPOOL_ROTATE_AT: u64 = 1 << 20;

/// A spool: the bytes of one stream of one start, from position `base` on.
struct Spool {
    path: PathBuf,
    file: File,
    base: u64,
    length: u64,
}

/// Copies the pipe into the book until `ended`, and then what the pipe still holds.
pub(crate) async fn capture(
    pipe: OwnedFd,
    stream: Stream,
    generation: u64,
    book: Book,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
    fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for types that close early: OwnedFd does not"
    )]
    let pipe = AsyncFd::with_interest(pipe, Interest::READABLE)?;
    let mut ended = pin!(ended);
    let mut spool = Spool::open(&book.directory(), stream, generation)?;
    // A supervisor before this one may have moved bytes that it did not get to write down.
    spool.account(stream, generation, &book, false)?;
    let mut lost = Lost::default();
    loop {
        tokio::select! {
            biased;
            ready = pipe.readable() => {
                let mut ready = ready?;
                match spool.fill(pipe.get_ref()) {
                    Ok(0) => break,
                    Ok(_) => lost.note(&book, &mut spool, stream, generation),
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(Errno::EINTR) => {}
                    // What cannot be kept is thrown away and counted: a plugin that waits for its
                    // output to be read would stand still for ever.
                    Err(error) => match lost.discard(pipe.get_ref(), &book, error) {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(Errno::EAGAIN) => ready.clear_ready(),
                        Err(error) => return Err(error.into()),
                    },
                }
                // A plugin that never stops writing must not keep its siblings from being heard.
                tokio::task::yield_now().await;
            }
            () = &mut ended => {
                // What it wrote before it died. A left-over process that still writes is killed by
                // now; the bound is for one that the kernel is still taking apart.
                for _ in 0..64 {
                    match spool.fill(pipe.get_ref()) {
                        Ok(0) | Err(_) => break,
                        Ok(_) => lost.note(&book, &mut spool, stream, generation),
                    }
                }
                break;
            }
        }
    }
    spool.account(stream, generation, &book, true)?;
    std::fs::remove_file(&spool.path)
}

/// Output that could not be kept.
#[derive(Default)]
struct Lost {
    bytes: u64,
    /// Whether the log of the service has been told already.
    told: bool,
}

impl Lost {
    /// Takes what the pipe holds and counts it; 0 at its end.
    fn discard(&mut self, pipe: &OwnedFd, book: &Book, cause: Errno) -> Result<usize, Errno> {
        let mut scratch = [0; 16 * 1024];
        let length = nix::unistd::read(pipe, &mut scratch)?;
        self.bytes += length as u64;
        book.lost(length as u64);
        self.tell(&cause);
        Ok(length)
    }

    fn tell(&mut self, cause: &dyn std::fmt::Display) {
        if !self.told {
            self.told = true;
            tracing::error!(%cause, "a plugin's output cannot be kept");
        }
    }

    /// Writes the new lines down, and once that works again, how much was lost before them. What
    /// cannot be written now is still in the spool and is tried again with the next line.
    fn note(&mut self, book: &Book, spool: &mut Spool, stream: Stream, generation: u64) {
        if self.bytes > 0 {
            let at = book.position(stream, generation).max(spool.base);
            let message =
                format!("{} bytes of output are lost: they could not be kept", self.bytes);
            let text = Line { text: message.as_bytes(), end: 0, cut: false };
            let mut record = record(&text, stream, generation, at);
            record.level = Level::Error;
            match book.tell(record) {
                Ok(()) => *self = Self::default(),
                Err(error) => return self.tell(&error),
            }
        }
        if let Err(error) = spool.account(stream, generation, book, false) {
            self.tell(&error);
        }
    }
}

/// Accounts for the spools that a supervisor before this one left behind of starts that have
/// ended, and removes them.
pub(crate) fn finish_spools(book: &Book, running: Option<u64>) -> io::Result<()> {
    let directory = book.directory();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let mut generations: Vec<u64> = find(&directory, stream)?.iter().map(|s| s.0).collect();
        generations.dedup();
        for generation in generations.into_iter().filter(|g| Some(*g) != running) {
            let mut spool = Spool::open(&directory, stream, generation)?;
            spool.account(stream, generation, book, true)?;
            std::fs::remove_file(&spool.path)?;
        }
    }
    Ok(())
}

/// The spools of a stream: generation, base and path, in order.
fn find(directory: &Path, stream: Stream) -> io::Result<Vec<(u64, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let mut parts = name.split('.');
        if parts.next() == Some(stream.name())
            && let Some(Ok(generation)) = parts.next().map(str::parse)
            && let Some(Ok(base)) = parts.next().map(str::parse)
            && parts.next() == Some("spool")
            && parts.next().is_none()
        {
            found.push((generation, base, path));
        }
    }
    found.sort();
    Ok(found)
}

impl Spool {
    fn open(directory: &Path, stream: Stream, generation: u64) -> io::Result<Self> {
        let mut found = find(directory, stream)?;
        found.retain(|(of, ..)| *of == generation);
        let (base, path) = match found.pop() {
            Some((_, base, path)) => (base, path),
            None => (0, directory.join(format!("{}.{generation}.0.spool", stream.name()))),
        };
        // A crash between making a new spool and removing the old one leaves both.
        for (.., old) in found {
            std::fs::remove_file(old)?;
        }
        let file =
            OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file, base, length })
    }

    /// Moves what the pipe holds; 0 at its end. One system call: it happens or it does not.
    fn fill(&mut self, pipe: &OwnedFd) -> Result<usize, Errno> {
        let mut offset = self.length as i64;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let moved = splice(pipe, None, &self.file, Some(&mut offset), CHUNK, flags)?;
        self.length += moved as u64;
        Ok(moved)
    }

    /// Writes the whole lines that the book does not have yet into it; with `last`, the rest too.
    fn account(
        &mut self,
        stream: Stream,
        generation: u64,
        book: &Book,
        last: bool,
    ) -> io::Result<()> {
        let from = book.position(stream, generation).max(self.base);
        let end = self.base + self.length;
        let mut bytes = vec![0; end.saturating_sub(from) as usize];
        self.file.read_exact_at(&mut bytes, from - self.base)?;
        let records = lines(&bytes, last)
            .map(|line| record(&line, stream, generation, from + line.end as u64))
            .collect();
        book.append(records)?;
        if self.length > SPOOL_ROTATE_AT {
            self.rotate(stream, generation, book)?;
        }
        Ok(())
    }

    /// A new spool that holds only what the book does not have yet, put in place before the old
    /// one goes.
    fn rotate(&mut self, stream: Stream, generation: u64, book: &Book) -> io::Result<()> {
        let base = book.position(stream, generation).max(self.base);
        let mut rest = vec![0; (self.base + self.length - base) as usize];
        self.file.read_exact_at(&mut rest, base - self.base)?;
        let directory = book.directory();
        let path = directory.join(format!("{}.{generation}.{base}.spool", stream.name()));
        if path == self.path {
            return Ok(());
        }
        let draft = directory.join(format!("{}.{generation}.draft", stream.name()));
        std::fs::write(&draft, &rest)?;
        std::fs::rename(&draft, &path)?;
        std::fs::remove_file(&self.path)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        *self = Self { path, file, base, length: rest.len() as u64 };
        Ok(())
    }
}

/// A line as a record: what the SDK wrote, or else text.
fn record(line: &Line<'_>, stream: Stream, generation: u64, at: u64) -> Record {
    let text = Record {
        time: timestamp(),
        stream,
        level: if stream == Stream::Stderr { Level::Warn } else { Level::Info },
        target: None,
        message: String::new(),
        fields: Vec::new(),
        cut: line.cut,
        generation,
        at,
    };
    match log_line::decode(line.text) {
        Some(written) if stream == Stream::Stderr => Record {
            level: written.level.into(),
            target: Some(written.target),
            message: written.message,
            fields: written.fields,
            ..text
        },
        _ => Record { message: String::from_utf8_lossy(line.text).into_owned(), ..text },
    }
}

struct Line<'a> {
    text: &'a [u8],
    /// Where in the bytes it ends, its line feed included.
    end: usize,
    cut: bool,
}

/// The lines of `bytes`, long ones in pieces; the unfinished last one only if asked for.
fn lines(bytes: &[u8], last: bool) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[start..];
        if rest.is_empty() {
            return None;
        }
        let line = match rest.iter().take(MAX_LINE + 1).position(|byte| *byte == b'\n') {
            Some(length) => Line { text: &rest[..length], end: start + length + 1, cut: false },
            None if rest.len() > MAX_LINE => {
                Line { text: &rest[..MAX_LINE], end: start + MAX_LINE, cut: true }
            }
            None if last => Line { text: rest, end: bytes.len(), cut: false },
            None => return None,
        };
        start = line.end;
        let text = line.text.strip_suffix(b"\r").unwrap_or(line.text);
        Some(Line { text, ..line })
    })
}
