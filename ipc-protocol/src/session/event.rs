//! What a session tells its driver.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::hello::Negotiated;
use crate::message::{Direction, Drain, Streams, TraceContext};
use crate::outcome::{CallFailure, EndReason};
use crate::payload::Payload;

/// A stream of a call. Seen from one side, the number and the direction are enough: we send on
/// the uploads of our calls and on the downloads of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The caller's number.
    pub call: u64,
    /// Which of the call's two streams.
    pub direction: Direction,
}

/// A call of the peer's that wants an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReceived {
    /// The peer's number, for [`super::Session::reply`].
    pub id: u64,
    /// `service/method`, or a plain method.
    pub method: String,
    /// The argument.
    pub payload: Payload,
    /// When the caller stops waiting, and the session replies by itself.
    pub deadline: Option<Instant>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The acting person, for the audit.
    pub on_behalf_of: Option<String>,
    /// Which streams go with it.
    pub streams: Streams,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Both `Hello`s are there.
    Ready(Negotiated),
    /// The peer calls.
    Call(CallReceived),
    /// The peer withdrew a call of its own, or its deadline passed: the session has replied, and
    /// an answer from the handler would be ignored.
    Withdrawn {
        /// The peer's number.
        id: u64,
    },
    /// A call of ours is over.
    Reply {
        /// Our number.
        id: u64,
        /// How it went: [`CallFailure::Remote`] or [`CallFailure::Timeout`] if badly.
        result: Result<Payload, CallFailure>,
    },
    /// The peer published something.
    Event {
        /// What it is about.
        topic: String,
        /// What it says.
        payload: Payload,
        /// The trace that it belongs to.
        trace: Option<TraceContext>,
    },
    /// The peer wants us to finish.
    Drain(Drain),
    /// After a [`Event::Drain`]: every call that the peer made is answered, and no more will come.
    Drained,
    /// A ping of ours was answered.
    Pong {
        /// Its token.
        token: u64,
        /// From the request to the answer.
        round_trip: Duration,
    },
    /// Data on a stream that we receive. Give credit back with [`super::Session::grant`].
    Chunk {
        /// Which stream.
        stream: StreamId,
        /// 1 byte to 64 KiB.
        data: Bytes,
    },
    /// A stream that we receive is over.
    StreamOver {
        /// Which stream.
        stream: StreamId,
        /// Whether all of it came.
        complete: bool,
    },
    /// A stream on which we send can go on, or is not wanted any more: ask
    /// [`super::Session::room`].
    StreamChanged {
        /// Which stream.
        stream: StreamId,
    },
    /// The out-buffer has room again for all streams that met a full one.
    Writable,
    /// The session is over. The last event.
    Ended(EndReason),
}
