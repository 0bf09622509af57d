//! The messages of version 1, and the values that a program hands to a session to send them.
//!
//! A header is one [`Header`] in the encoding of [`crate::codec`]; its discriminant is its place
//! in the enum, so variants are only ever added at the end. `tests/golden/v1/` has the bytes of
//! every one.
//!
//! Calls are numbered by the side that makes them, from 1 upwards; each side has its own numbers.
//! A message about a call says which one by its [`Direction`] where both could be meant.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::payload::{Encoding, Payload};

/// The header of a frame after `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header<'a> {
    /// Asks the peer to run a method. The body is the argument, or its first piece.
    Call {
        /// The caller's number for it, above all its earlier ones.
        id: u64,
        /// `service/method`, or a plain method.
        #[serde(borrow)]
        method: Cow<'a, str>,
        /// How to read the body.
        encoding: Encoding,
        /// Bytes of the body that follow in [`Header::More`] frames.
        rest: u32,
        /// Milliseconds that the caller will wait, counted from the receipt of this frame.
        timeout: Option<u64>,
        /// The trace that the call belongs to.
        trace: Option<TraceContext>,
        /// The acting person, for the audit.
        #[serde(borrow)]
        on_behalf_of: Option<Cow<'a, str>>,
        /// Which streams go with it.
        streams: Streams,
    },
    /// Answers a call of the receiver's. Exactly one for every call, cancelled ones included.
    Reply {
        /// The caller's number.
        id: u64,
        /// Whether the body is a result or an error.
        outcome: Outcome,
        /// Bytes of the body that follow in [`Header::More`] frames.
        rest: u32,
    },
    /// The next piece of the body that the last `Call`, `Reply` or `Event` began. Only the control
    /// frames may come between the pieces.
    More,
    /// Withdraws a call of the sender's. It is still replied to.
    Cancel {
        /// The caller's number.
        id: u64,
    },
    /// One-way news on a topic. The body is its payload, or its first piece.
    Event {
        /// What it is about.
        #[serde(borrow)]
        topic: Cow<'a, str>,
        /// How to read the body.
        encoding: Encoding,
        /// Bytes of the body that follow in [`Header::More`] frames.
        rest: u32,
        /// The trace that it belongs to.
        trace: Option<TraceContext>,
    },
    /// Part of a stream, see [`StreamPart`].
    Stream {
        /// The call that the stream goes with: the caller's number.
        call: u64,
        /// Which of its two streams.
        direction: Direction,
        /// What happens to it.
        part: StreamPart,
    },
    /// Asks for a [`Header::Pong`] with the same token.
    Ping {
        /// Chosen by the sender.
        token: u64,
    },
    /// Answers a [`Header::Ping`].
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// No new calls will come from the sender; finish what is in flight and say `Goodbye`.
    Drain {
        /// Milliseconds that the receiver has.
        budget: u64,
        /// `disable`, `shutdown`, `upgrade`, ...
        #[serde(borrow)]
        reason: Cow<'a, str>,
        /// Whether to save state first.
        save_state: bool,
        /// The sender's last call: those after it will not come, those up to it may be on the way.
        last_call: u64,
    },
    /// The sender's last frame.
    Goodbye {
        /// Why.
        cause: GoodbyeCause,
        /// Why, for a person.
        #[serde(borrow)]
        reason: Cow<'a, str>,
    },
}

impl Header<'_> {
    /// The name of the variant, for texts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Call { .. } => "Call",
            Self::Reply { .. } => "Reply",
            Self::More => "More",
            Self::Cancel { .. } => "Cancel",
            Self::Event { .. } => "Event",
            Self::Stream { .. } => "Stream",
            Self::Ping { .. } => "Ping",
            Self::Pong { .. } => "Pong",
            Self::Drain { .. } => "Drain",
            Self::Goodbye { .. } => "Goodbye",
        }
    }

    /// The same header without borrowed parts.
    pub fn into_owned(self) -> Header<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Call { id, method, encoding, rest, timeout, trace, on_behalf_of, streams } => {
                let (method, on_behalf_of) = (own(method), on_behalf_of.map(own));
                Header::Call { id, method, encoding, rest, timeout, trace, on_behalf_of, streams }
            }
            Self::Reply { id, outcome, rest } => Header::Reply { id, outcome, rest },
            Self::More => Header::More,
            Self::Cancel { id } => Header::Cancel { id },
            Self::Event { topic, encoding, rest, trace } => {
                Header::Event { topic: own(topic), encoding, rest, trace }
            }
            Self::Stream { call, direction, part } => Header::Stream { call, direction, part },
            Self::Ping { token } => Header::Ping { token },
            Self::Pong { token } => Header::Pong { token },
            Self::Drain { budget, reason, save_state, last_call } => {
                Header::Drain { budget, reason: own(reason), save_state, last_call }
            }
            Self::Goodbye { cause, reason } => Header::Goodbye { cause, reason: own(reason) },
        }
    }

    /// Whether the frame may come between the pieces of a body.
    pub fn is_control(&self) -> bool {
        match self {
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Drain { .. }
            | Self::Goodbye { .. }
            | Self::Cancel { .. }
            | Self::Stream { part: StreamPart::Credit { .. } | StreamPart::Stop, .. } => true,
            Self::Call { .. }
            | Self::Reply { .. }
            | Self::More
            | Self::Event { .. }
            | Self::Stream { .. } => false,
        }
    }
}

/// Which way a stream of a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// From the caller to the callee.
    Upload,
    /// From the callee to the caller.
    Download,
}

/// The streams that go with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streams {
    /// The caller sends one.
    pub upload: bool,
    /// The callee sends one.
    pub download: bool,
}

impl Streams {
    /// None.
    pub const NONE: Self = Self { upload: false, download: false };
    /// The caller sends.
    pub const UPLOAD: Self = Self { upload: true, download: false };
    /// The callee sends.
    pub const DOWNLOAD: Self = Self { upload: false, download: true };
    /// Both send.
    pub const BOTH: Self = Self { upload: true, download: true };
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamPart {
    /// The body is the next piece: 1 byte to [`crate::frame::FRAGMENT`]. From the sending end.
    Chunk,
    /// The sending end is done, and all of it was sent.
    End,
    /// The sending end gave up: what was sent is not all.
    Reset,
    /// The receiving end allows this many more bytes. A stream starts with none.
    Credit {
        /// Bytes, on top of those allowed before.
        bytes: u32,
    },
    /// The receiving end wants no more. The sending end answers with `Reset`, unless it is done.
    Stop,
}

/// Whether a reply is a result or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The body is the result.
    Done(Encoding),
    /// The body is an encoded [`crate::CallError`].
    Failed,
}

/// Why a peer takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoodbyeCause {
    /// It has nothing more to do.
    Done,
    /// It saw the receiver break the protocol; the reason says how.
    Violation,
}

/// W3C trace context (<https://www.w3.org/TR/trace-context/>), without its vendor state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

/// A call to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `service/method`, or a plain method. At most [`MAX_NAME`] bytes.
    pub method: String,
    /// The argument.
    pub payload: Payload,
    /// How long to wait for the reply, all queueing included; `None` waits for as long as the
    /// session lasts. Sent in milliseconds, rounded up.
    pub timeout: Option<Duration>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The acting person, for the audit. At most [`MAX_NAME`] bytes.
    pub on_behalf_of: Option<String>,
}

/// The longest method, topic or acting person, in bytes.
pub const MAX_NAME: usize = 1024;

impl Call {
    /// A call without deadline, trace or acting person.
    pub fn new(method: impl Into<String>, payload: Payload) -> Self {
        Self { method: method.into(), payload, timeout: None, trace: None, on_behalf_of: None }
    }

    /// The same call with a deadline that starts when it is made.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Asks the peer to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long it has. Sent in milliseconds, rounded down.
    pub budget: Duration,
    /// `disable`, `shutdown`, `upgrade`, ... At most [`MAX_NAME`] bytes are sent.
    pub reason: String,
    /// Whether to save its state first.
    pub save_state: bool,
}
