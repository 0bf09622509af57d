//! From bytes to frames.
//!
//! Small frames are parsed in one reused buffer and their bodies copied out, so that a payload of
//! ten bytes never keeps a large buffer alive. A body that is long, or comes in pieces, gets its
//! final buffer as soon as its header is known, and the caller reads straight into that: the bytes
//! are not copied again. Between two pieces there is exactly one header of [`MIN_FRAME`] bytes, so
//! such a read may take that many more than the piece; they are moved to the small buffer.

use bytes::Bytes;

use crate::Violation;
use crate::codec::{self, DecodeError};
use crate::frame::{FRAGMENT, Lengths, MAX_BODY, MIN_FRAME, PREFIX};
use crate::hello::{Hello, MAGIC, MAX_HELLO};
use crate::message::{Header, StreamPart};
use crate::session::body::Body;

/// How much one read of small frames may bring.
const READ: usize = 16 * 1024;

/// Bodies up to this length wait in the small buffer until they are whole.
const SMALL_BODY: usize = 4 * 1024;

/// The discriminant of [`Header::Goodbye`], the last variant.
const HIGHEST_DISCRIMINANT: u8 = 9;

#[derive(Debug)]
pub(super) enum Frame {
    Hello(Hello),
    Message(Header<'static>, Bytes),
}

/// A body on its way into its final buffer.
#[derive(Debug)]
struct Assembly {
    header: Header<'static>,
    body: Body,
    /// The length of the whole body.
    total: usize,
    /// Where in the body the piece of the current frame ends.
    piece_end: usize,
}

/// Bytes that were read and not parsed yet, in a buffer that is all initialized, so that anything
/// that reads into a slice can read into it.
#[derive(Debug, Default)]
struct Small {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Small {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// At least half of [`READ`] to read into.
    fn free(&mut self) -> &mut [u8] {
        if self.buffer.len() - self.end < READ / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
            let wanted = (self.end + READ / 2).max(READ);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    fn append(&mut self, bytes: &[u8]) {
        self.free()[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

#[derive(Debug)]
pub(super) struct Inbox {
    small: Small,
    assembly: Option<Assembly>,
    greeted: bool,
    milestones: u64,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { small: Small::default(), assembly: None, greeted: false, milestones: 0 }
    }

    /// Where the next bytes are to be read to; never empty.
    pub(super) fn target(&mut self) -> &mut [u8] {
        if self.reads_body()
            && let Some(assembly) = &mut self.assembly
        {
            let piece = assembly.piece_end - assembly.body.len();
            let peek = if assembly.piece_end < assembly.total { MIN_FRAME } else { 0 };
            return assembly.body.free(piece + peek);
        }
        self.small.free()
    }

    /// Whether what comes next belongs to the body that is being assembled.
    fn reads_body(&self) -> bool {
        self.small.len() == 0
            && self
                .assembly
                .as_ref()
                .is_some_and(|assembly| assembly.body.len() < assembly.piece_end)
    }

    /// `count` bytes were read into the [`Inbox::target`].
    pub(super) fn received(&mut self, count: usize) {
        let reads_body = self.reads_body();
        match &mut self.assembly {
            Some(Assembly { body, piece_end, .. }) if reads_body => {
                body.fill(count);
                if body.len() > *piece_end {
                    self.small.append(&body.bytes()[*piece_end..]);
                    body.truncate(*piece_end);
                }
            }
            _ => self.small.end += count,
        }
    }

    /// Bytes of the message that has begun and is not whole; 0 between messages.
    pub(super) fn pending(&self) -> usize {
        self.small.len() + self.assembly.as_ref().map_or(0, |assembly| assembly.body.len())
    }

    /// Grows with every message that became whole and every 64 KiB of one that is not.
    pub(super) fn milestones(&self) -> u64 {
        let open = self.assembly.as_ref().map_or(0, |assembly| assembly.body.len() / FRAGMENT);
        self.milestones + open as u64
    }

    /// The next whole frame, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Violation> {
        loop {
            if let Some(assembly) = &mut self.assembly {
                let take = (assembly.piece_end - assembly.body.len()).min(self.small.len());
                assembly.body.append(&self.small.bytes()[..take]);
                self.small.consume(take);
                if assembly.body.len() < assembly.piece_end {
                    return Ok(None);
                }
                if assembly.body.len() == assembly.total {
                    return Ok(self.assembled());
                }
            }
            let Some(lengths) = Lengths::parse(self.small.bytes(), MAX_BODY)? else {
                return Ok(None);
            };
            if !self.greeted {
                return self.hello(lengths);
            }
            let Some(header) = self.small.bytes().get(PREFIX..PREFIX + lengths.header) else {
                return Ok(None);
            };
            let header = decode_header(header)?;
            let begun = PREFIX + lengths.header;
            if let Some(assembly) = &mut self.assembly {
                let missing = assembly.total - assembly.piece_end;
                if header == Header::More {
                    assembly.piece_end += piece(lengths.body, missing)?;
                    self.small.consume(begun);
                    continue;
                }
                if !header.is_control() {
                    let message = header.name();
                    return Err(Violation::PieceInterrupted { message, missing });
                }
            }
            let total = body_length(&header, lengths.body)?;
            if self.small.len() >= lengths.frame() && total == lengths.body {
                let body = Bytes::copy_from_slice(&self.small.bytes()[begun..begun + total]);
                self.small.consume(begun + total);
                self.milestones += u64::from(self.assembly.is_none());
                return Ok(Some(Frame::Message(header, body)));
            }
            if total == lengths.body && total <= SMALL_BODY {
                return Ok(None);
            }
            self.small.consume(begun);
            self.assembly = Some(Assembly {
                header,
                body: Body::new(total + MIN_FRAME),
                total,
                piece_end: lengths.body,
            });
        }
    }

    fn assembled(&mut self) -> Option<Frame> {
        let assembly = self.assembly.take()?;
        self.milestones += 1 + (assembly.total / FRAGMENT) as u64;
        Some(Frame::Message(assembly.header, assembly.body.freeze()))
    }

    fn hello(&mut self, lengths: Lengths) -> Result<Option<Frame>, Violation> {
        let Some(first) = self.small.bytes().get(PREFIX).copied() else { return Ok(None) };
        if first != MAGIC[0] {
            return Err(Violation::HelloMissing { first });
        }
        if lengths.header > MAX_HELLO {
            return Err(Violation::HelloTooLong { length: lengths.header, limit: MAX_HELLO });
        }
        if lengths.body > 0 {
            return Err(Violation::BodyUnexpected { message: "Hello", length: lengths.body });
        }
        let Some(header) = self.small.bytes().get(PREFIX..lengths.frame()) else { return Ok(None) };
        let hello = Hello::decode(header)?;
        self.small.consume(lengths.frame());
        self.greeted = true;
        self.milestones += 1;
        Ok(Some(Frame::Hello(hello)))
    }
}

fn decode_header(bytes: &[u8]) -> Result<Header<'static>, Violation> {
    let discriminant = bytes[0];
    if bytes.starts_with(&MAGIC) {
        return Err(Violation::HelloTwice);
    }
    if discriminant > HIGHEST_DISCRIMINANT {
        return Err(Violation::UnknownMessage { discriminant, highest: HIGHEST_DISCRIMINANT });
    }
    match codec::decode::<Header<'_>>(bytes) {
        Ok(header) => Ok(header.into_owned()),
        Err(DecodeError::Trailing { used, trailing }) => {
            Err(Violation::HeaderTrailing { discriminant, used, trailing })
        }
        Err(reason) => {
            Err(Violation::HeaderMalformed { length: bytes.len(), discriminant, reason })
        }
    }
}

fn piece(length: usize, missing: usize) -> Result<usize, Violation> {
    if length == 0 {
        return Err(Violation::PieceEmpty { missing });
    }
    if length > missing {
        return Err(Violation::PieceTooLong { length, missing });
    }
    Ok(length)
}

/// The length of the whole body, of which this frame has `piece` bytes.
fn body_length(header: &Header<'_>, piece: usize) -> Result<usize, Violation> {
    match *header {
        Header::Call { rest, .. } | Header::Reply { rest, .. } | Header::Event { rest, .. } => {
            let length = piece + rest as usize;
            if length > MAX_BODY {
                return Err(Violation::BodyTooLong { length, limit: MAX_BODY });
            }
            if rest > 0 && piece == 0 {
                return Err(Violation::PieceEmpty { missing: length });
            }
            Ok(length)
        }
        Header::Stream { call, direction, part: StreamPart::Chunk } => match piece {
            0 => Err(Violation::ChunkEmpty { call, direction }),
            1..=FRAGMENT => Ok(piece),
            length => Err(Violation::ChunkTooLong { call, direction, length, limit: FRAGMENT }),
        },
        Header::More => Err(Violation::PieceUnexpected { length: piece }),
        Header::Cancel { .. }
        | Header::Stream { .. }
        | Header::Ping { .. }
        | Header::Pong { .. }
        | Header::Drain { .. }
        | Header::Goodbye { .. } => {
            if piece > 0 {
                return Err(Violation::BodyUnexpected { message: header.name(), length: piece });
            }
            Ok(0)
        }
    }
}
