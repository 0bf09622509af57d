//! How calls and sessions end.

use std::time::Duration;

use semver::Version;

use crate::payload::CallError;
use crate::violation::Violation;

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The peer said goodbye, with its reason.
    #[error("the peer ended the session: {0}")]
    Goodbye(String),
    /// We said goodbye, with our reason.
    #[error("we ended the session: {0}")]
    Finished(String),
    /// The stream ended without a goodbye: the peer died or closed it.
    #[error("the peer closed the stream without a goodbye")]
    Closed,
    /// Reading or writing the stream failed.
    #[error("the stream failed: {0}")]
    Stream(String),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The peer says that we broke the protocol.
    #[error("the peer says that we broke the protocol: {0}")]
    PeerReportsViolation(String),
    /// The peer speaks another major version.
    #[error("we speak protocol {ours}, the peer speaks {theirs}: use versions of the same major")]
    VersionIncompatible {
        /// What we speak.
        ours: Version,
        /// What the peer speaks.
        theirs: Version,
    },
    /// No `Hello` within the deadline.
    #[error("the peer sent no hello within {} ms", .limit.as_millis())]
    HandshakeTimeout {
        /// [`crate::Limits::handshake_deadline`].
        limit: Duration,
    },
    /// A message began and was not continued within the deadline.
    #[error("a message of the peer stood still at {have} bytes for {} ms", .limit.as_millis())]
    SlowFrame {
        /// Bytes of the frame that had come.
        have: usize,
        /// [`crate::Limits::frame_deadline`].
        limit: Duration,
    },
    /// The peer took no bytes within the deadline, though some waited.
    #[error("the peer took none of {queued} waiting bytes for {} ms", .limit.as_millis())]
    PeerUnresponsive {
        /// Bytes that waited.
        queued: usize,
        /// [`crate::Limits::write_deadline`].
        limit: Duration,
    },
    /// What drove the session was dropped, or panicked, on our side.
    #[error("the session's driver was dropped on this side")]
    Dropped,
}

/// Why a call, or something else that was asked of a session, did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The peer answered with an error.
    #[error(transparent)]
    Remote(CallError),
    /// No reply within the call's timeout, which counts from the moment the call was made.
    #[error("no reply within {} ms", .limit.as_millis())]
    Timeout {
        /// The call's timeout.
        limit: Duration,
    },
    /// A bound of our own was met: wait for earlier calls to end.
    #[error("RESOURCE_EXHAUSTED: {resource}: {used} of {limit} in use; wait for earlier calls")]
    Exhausted {
        /// `outstanding calls`, `outstanding bytes` or `queued bytes`.
        resource: &'static str,
        /// The bound.
        limit: usize,
        /// What is in use, with what was asked for.
        used: usize,
    },
    /// A part of it is longer than a message may have.
    #[error("the {part} has {length} bytes, the limit is {limit}: send long data as a stream")]
    TooLong {
        /// `body`, `method`, `topic` or `acting person`.
        part: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most bytes there may be.
        limit: usize,
    },
    /// We asked the peer to drain, so it takes no new calls.
    #[error("the peer is draining and takes no new calls")]
    Draining,
    /// The session ended first.
    #[error("the session is over: {0}")]
    Ended(EndReason),
}
