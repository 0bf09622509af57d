//! Reading a package: the one place that understands its bytes.
//!
//! Everything is streamed: what is held in memory is the frame's window, two buffers and the names.
//! Whatever the bytes are, the reader ends, with the whole package or with the first thing that is
//! wrong with it.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::rc::Rc;

use zstd::stream::read::Decoder;

use super::fault::{Fault, ReadError, Reason};
use super::header::{BLOCK, decode};
use super::limits;
use super::member::{Kind, Member, Members};
use super::sink::Sink;

/// How a zstd frame begins (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Blocks of zeros after the two that end an archive: tar(1) fills a record of 20.
const FILLING: usize = 18;
const BUFFER: usize = 64 << 10;

/// What a package holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) files: usize,
    /// Of all files together.
    pub(crate) bytes: u64,
}

/// Reads a package to its end and gives its members to `sink`.
///
/// # Errors
/// Whatever of it reached the sink until then is worth nothing.
pub(crate) fn read(source: impl Read, sink: &mut impl Sink) -> Result<Contents, ReadError> {
    let mut archive = Archive::open(source)?;
    let mut members = Members::default();
    let mut contents = Contents::default();
    let mut buffer = vec![0; BUFFER];
    while let Some(member) = archive.member()? {
        for directory in members.add(&member)? {
            sink.directory(&directory).map_err(failed(&directory))?;
        }
        if let Kind::File { size, executable } = member.kind {
            check_size(&member, size, &contents)?;
            contents.files += 1;
            contents.bytes += size;
            sink.file(&member.path, executable).map_err(failed(&member.path))?;
            let mut left = size;
            while left > 0 {
                let piece = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
                archive.fill(&mut buffer[..piece])?;
                sink.content(&buffer[..piece]).map_err(failed(&member.path))?;
                left -= piece as u64;
            }
            archive.padding(&member, size)?;
        }
    }
    members.check_complete()?;
    Ok(contents)
}

fn failed(member: &str) -> impl FnOnce(io::Error) -> ReadError {
    move |error| ReadError::Sink { member: member.to_owned(), error }
}

/// By the size that the header claims, before any of the content is read.
pub(super) fn check_size(member: &Member, size: u64, so_far: &Contents) -> Result<(), Fault> {
    if size > limits::FILE_BYTES {
        let reason = Reason::FileTooLarge { size, limit: limits::FILE_BYTES };
        return Err(reason.of(member.path.as_bytes()));
    }
    if so_far.bytes + size > limits::TREE_BYTES {
        return Err(Reason::TreeTooLarge { limit: limits::TREE_BYTES }.into());
    }
    Ok(())
}

/// Counts what is read of the compressed bytes.
struct Counted<R> {
    source: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// The compressed bytes, with those first that were looked at already.
type Compressed<R> = BufReader<io::Chain<Cursor<[u8; 4]>, Counted<R>>>;

/// The blocks inside the frame.
struct Archive<R: Read> {
    frame: Decoder<'static, Compressed<R>>,
    compressed: Rc<Cell<u64>>,
    expanded: u64,
}

impl<R: Read> Archive<R> {
    fn open(source: R) -> Result<Self, ReadError> {
        let compressed = Rc::new(Cell::new(0));
        let mut source = Counted { source, count: compressed.clone() };
        let mut magic = [0; 4];
        source.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Reason::Truncated.into(),
            _ => ReadError::Source(error),
        })?;
        // Skippable frames, which zstd would skip, are refused here.
        if magic != MAGIC {
            return Err(Reason::NotCompressed.into());
        }
        let source = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(source));
        let mut frame = Decoder::with_buffer(source).map_err(ReadError::Source)?.single_frame();
        frame.window_log_max(limits::WINDOW_LOG).map_err(ReadError::Source)?;
        Ok(Self { frame, compressed, expanded: 0 })
    }

    /// The next member; none at the end, after which there is nothing else.
    fn member(&mut self) -> Result<Option<Member>, ReadError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        if !is_zero(&block) {
            return Ok(Some(decode(&block)?));
        }
        self.fill(&mut block)?;
        if !is_zero(&block) {
            return Err(Reason::BadEnd.into());
        }
        self.end()?;
        Ok(None)
    }

    /// Exactly that many bytes of the archive.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.some(&mut buffer[filled..])? {
                0 => return Err(Reason::Truncated.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let read = self.frame.read(buffer).map_err(|error| broken(&error))?;
        self.expanded += read as u64;
        let compressed = self.compressed.get();
        if compressed > limits::PACKAGE_BYTES {
            return Err(Reason::PackageTooLarge { limit: limits::PACKAGE_BYTES }.into());
        }
        if self.expanded > limits::RATIO_FREE && self.expanded / limits::RATIO > compressed {
            return Err(Reason::Bomb { limit: limits::RATIO }.into());
        }
        Ok(read)
    }

    /// What fills the last block of a file's content.
    fn padding(&mut self, member: &Member, size: u64) -> Result<(), ReadError> {
        let over = (size % BLOCK as u64) as usize;
        if over == 0 {
            return Ok(());
        }
        let mut rest = [0; BLOCK];
        let rest = &mut rest[over..];
        self.fill(rest)?;
        if is_zero(rest) { Ok(()) } else { Err(Reason::Padding.of(member.path.as_bytes()).into()) }
    }

    /// After the two blocks: zeros to the end of the record, then the end of the frame, then nothing.
    fn end(&mut self) -> Result<(), ReadError> {
        let mut rest = [0; BLOCK];
        let mut filling = 0;
        loop {
            match self.some(&mut rest)? {
                0 => break,
                read => {
                    filling += read;
                    if filling > FILLING * BLOCK || !is_zero(&rest[..read]) {
                        return Err(Reason::TrailingMember.into());
                    }
                }
            }
        }
        let after = self.frame.get_mut().fill_buf().map_err(ReadError::Source)?;
        if after.is_empty() { Ok(()) } else { Err(Reason::TrailingData.into()) }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The source's own errors have a number, zstd's have not.
fn broken(error: &io::Error) -> ReadError {
    match error.raw_os_error() {
        Some(number) => ReadError::Source(io::Error::from_raw_os_error(number)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Reason::Truncated.into(),
        None => Reason::BadFrame { cause: error.to_string().to_lowercase() }.into(),
    }
}
