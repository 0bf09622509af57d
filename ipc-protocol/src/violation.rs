//! What a peer may do wrong. Each ends the session, and each has its numbers.

use crate::codec::DecodeError;
use crate::message::Direction;

/// A rule of the protocol that the peer broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    // Frames.
    /// A frame announces more bytes than any may have.
    #[error("a frame of {length} bytes; the limit is {limit}")]
    FrameTooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// A frame announces fewer bytes than its header needs.
    #[error("a frame of {length} bytes; the minimum is {minimum}")]
    FrameTooShort {
        /// Announced.
        length: usize,
        /// Needed.
        minimum: usize,
    },
    /// A frame without a header.
    #[error("a frame with a header of 0 bytes")]
    HeaderEmpty,
    /// A header that goes past the end of its frame.
    #[error("a header of {header} bytes in a frame of {frame}")]
    HeaderTooLong {
        /// The header's length.
        header: usize,
        /// The frame's length.
        frame: usize,
    },
    /// A header that does not decode, or a discriminant that nobody knows.
    #[error("header of {length} bytes, discriminant {discriminant}: {reason}")]
    HeaderMalformed {
        /// Its length.
        length: usize,
        /// Its first byte.
        discriminant: u8,
        /// What is wrong.
        reason: DecodeError,
    },
    /// A discriminant that no message has.
    #[error("unknown message discriminant {discriminant}; the highest known is {highest}")]
    UnknownMessage {
        /// The first byte of the header.
        discriminant: u8,
        /// The highest that this version has.
        highest: u8,
    },
    /// Bytes after the value in a header.
    #[error("{trailing} bytes follow the {used} bytes of a header, discriminant {discriminant}")]
    HeaderTrailing {
        /// The first byte of the header.
        discriminant: u8,
        /// Bytes of the value.
        used: usize,
        /// Bytes after it.
        trailing: usize,
    },
    /// A body longer than this message may have.
    #[error("a body of {length} bytes; the limit is {limit}")]
    BodyTooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// A body where there must be none.
    #[error("a {message} frame with a body of {length} bytes; it has none")]
    BodyUnexpected {
        /// Which message.
        message: &'static str,
        /// The body's length.
        length: usize,
    },
    /// A body that does not decode.
    #[error("the body of a {message}: {reason}")]
    BodyMalformed {
        /// Which message.
        message: &'static str,
        /// What is wrong.
        reason: DecodeError,
    },
    /// A name (method, topic, acting person, reason) longer than allowed.
    #[error("a {part} of {length} bytes; the limit is {limit}")]
    NameTooLong {
        /// Which name.
        part: &'static str,
        /// Its length.
        length: usize,
        /// Allowed.
        limit: usize,
    },

    // Bodies in pieces.
    /// A piece of a body when none is open.
    #[error("a piece of {length} bytes, but no body is open")]
    PieceUnexpected {
        /// The piece's length.
        length: usize,
    },
    /// A piece without bytes.
    #[error("an empty piece, {missing} bytes of the body are missing")]
    PieceEmpty {
        /// Bytes still to come.
        missing: usize,
    },
    /// A piece longer than what is missing.
    #[error("a piece of {length} bytes, only {missing} bytes of the body are missing")]
    PieceTooLong {
        /// The piece's length.
        length: usize,
        /// Bytes still to come.
        missing: usize,
    },
    /// Something else than a control frame between the pieces of a body.
    #[error("a {message} frame while {missing} bytes of a body are missing")]
    PieceInterrupted {
        /// Which message.
        message: &'static str,
        /// Bytes still to come.
        missing: usize,
    },

    // Hello.
    /// The first frame is something else.
    #[error("the first frame is no hello, its header starts with {first}")]
    HelloMissing {
        /// The first byte of its header.
        first: u8,
    },
    /// A second `Hello`.
    #[error("a second hello")]
    HelloTwice,
    /// A `Hello` that ends too early.
    #[error("a hello of {length} bytes ends inside its field {field}")]
    HelloTooShort {
        /// The field that is cut.
        field: &'static str,
        /// The `Hello`'s length.
        length: usize,
    },
    /// A first frame longer than any `Hello`.
    #[error("a first frame of {length} bytes; a hello has at most {limit}")]
    HelloTooLong {
        /// Announced.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// A field of a `Hello` that is not what it should be.
    #[error("the {field} in the hello: {reason}")]
    HelloMalformed {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Bytes after the last field.
    #[error("{trailing} bytes follow the last field of the hello")]
    HelloTrailing {
        /// Bytes after it.
        trailing: usize,
    },

    // Calls.
    /// A call number that is not above the earlier ones.
    #[error("call {id} reuses a number; the highest so far is {highest}")]
    CallIdReused {
        /// The number.
        id: u64,
        /// The highest before.
        highest: u64,
    },
    /// Too many unanswered calls.
    #[error("call {id} is one more than the {limit} that may be unanswered")]
    TooManyCalls {
        /// The call.
        id: u64,
        /// Allowed.
        limit: usize,
    },
    /// Too many bytes in unanswered calls.
    #[error("call {id} makes it {used} bytes in unanswered calls; the limit is {limit}")]
    TooManyBytes {
        /// The call.
        id: u64,
        /// With this call.
        used: usize,
        /// Allowed.
        limit: usize,
    },
    /// A call after a `Drain` that it should have come before.
    #[error("call {id} after a drain that announced {last} as the last")]
    CallAfterDrain {
        /// The call.
        id: u64,
        /// The last call, by the drain.
        last: u64,
    },
    /// A reply to a call that was never made.
    #[error("a reply to call {id}, which was never made; the last was {last}")]
    ReplyUnknown {
        /// The call.
        id: u64,
        /// Our last call.
        last: u64,
    },
    /// A second reply.
    #[error("a second reply to call {id}")]
    ReplyTwice {
        /// The call.
        id: u64,
    },
    /// A cancel of a call that was never made.
    #[error("a cancel of call {id}, which was never made; the last was {last}")]
    CancelUnknown {
        /// The call.
        id: u64,
        /// The peer's last call.
        last: u64,
    },
    /// A reply while the download of its call is neither ended nor reset.
    #[error("a reply to call {id} before the end of its download")]
    ReplyBeforeStreamEnd {
        /// The call.
        id: u64,
    },

    // Streams.
    /// A part of a stream that was never opened.
    #[error("the {direction:?} of call {call} does not exist")]
    StreamUnknown {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
    },
    /// A part of a stream after its end.
    #[error("the {direction:?} of call {call} goes on after its end")]
    StreamEnded {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
    },
    /// A chunk without bytes.
    #[error("an empty chunk in the {direction:?} of call {call}")]
    ChunkEmpty {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
    },
    /// A chunk longer than allowed.
    #[error("a chunk of {length} bytes in the {direction:?} of call {call}; the limit is {limit}")]
    ChunkTooLong {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
        /// Its length.
        length: usize,
        /// Allowed.
        limit: usize,
    },
    /// More bytes than the receiver allowed.
    #[error("{length} bytes in the {direction:?} of call {call}, where {credit} are allowed")]
    CreditExceeded {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
        /// The chunk's length.
        length: usize,
        /// What was allowed.
        credit: u64,
    },
    /// More credit than a stream may have.
    #[error("credit of {credit} bytes in the {direction:?} of call {call}; the limit is {limit}")]
    CreditOverflow {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
        /// What it would be.
        credit: u64,
        /// Allowed.
        limit: u64,
    },
    /// Credit of nothing.
    #[error("credit of 0 bytes in the {direction:?} of call {call}")]
    CreditEmpty {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
    },
    /// A second `Stop` of a stream.
    #[error("a second stop of the {direction:?} of call {call}")]
    StopTwice {
        /// The call.
        call: u64,
        /// Which stream.
        direction: Direction,
    },

    // Control.
    /// Too many pings without waiting for their answers.
    #[error("more than {limit} pings are unanswered")]
    TooManyPings {
        /// Allowed.
        limit: usize,
    },
    /// An answer to a ping that nobody sent.
    #[error("a pong with token {token}, which answers no ping")]
    PongUnexpected {
        /// Its token.
        token: u64,
    },
    /// A second `Drain`.
    #[error("a second drain")]
    DrainTwice,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_numbers() {
        let text = Violation::FrameTooLong { length: 4_294_967_295, limit: 1_114_112 }.to_string();
        assert_eq!(text, "a frame of 4294967295 bytes; the limit is 1114112");
        let text = Violation::StreamUnknown { call: 7, direction: Direction::Upload }.to_string();
        assert_eq!(text, "the Upload of call 7 does not exist");
    }
}
