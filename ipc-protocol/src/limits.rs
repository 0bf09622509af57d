//! The bounds of a session.
//!
//! Those that one peer enforces on the other are constants of the protocol, since both must know
//! them; what a side only imposes on itself is a field of [`Limits`].

use std::time::Duration;

use crate::frame;

/// Calls that one side may have unanswered. The receiver ends a session that exceeds it.
pub const MAX_OUTSTANDING_CALLS: usize = 1024;

/// Bytes in the bodies of the calls that one side has unanswered. The receiver ends a session that
/// exceeds it.
pub const MAX_OUTSTANDING_BYTES: usize = 32 * frame::MAX_BODY;

/// Bytes of one stream that may be allowed and not yet sent. A receiver allows less; a sender ends
/// a session that exceeds it.
pub const MAX_CREDIT: u64 = 64 * 1024 * 1024;

/// Pings that one side may have unanswered. The receiver ends a session that exceeds it.
pub const MAX_PINGS: usize = 16;

/// What a side imposes on itself, and how patient it is with its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Calls of our own that may be unanswered; one more is refused as exhausted. Values above
    /// [`MAX_OUTSTANDING_CALLS`] count as that. Default: that.
    pub max_outstanding_calls: usize,
    /// Bytes that may wait to be written, in our calls and events together; more are refused as
    /// exhausted. A reply that does not fit is replaced by an error. Default: 8 MiB.
    pub max_queued_bytes: usize,
    /// Bytes of one stream that we allow ahead of their consumption. Default: 256 KiB; less while
    /// many streams are open, never below 64 KiB.
    pub stream_window: u32,
    /// How long 64 KiB of a message, or the rest of it, may take from its first byte. Default: 10 s.
    pub frame_deadline: Duration,
    /// How long the peer's `Hello` may take from the start. Default: 5 s.
    pub handshake_deadline: Duration,
    /// How long the peer may take no byte while some wait for it. Default: 30 s.
    pub write_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_outstanding_calls: MAX_OUTSTANDING_CALLS,
            max_queued_bytes: 8 * 1024 * 1024,
            stream_window: 256 * 1024,
            frame_deadline: Duration::from_secs(10),
            handshake_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(30),
        }
    }
}
