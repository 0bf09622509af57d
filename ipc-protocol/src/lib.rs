//! Frames, messages, versions and the session state machine of the Bulkhead protocol.
//!
//! # Theory of operation
//!
//! Two peers, a supervisor and a plugin, share one ordered byte stream. What travels on it is a
//! sequence of [frames](frame), each a header (one [`message::Header`]) and a body of raw bytes.
//! The first frame each way is a [`hello::Hello`], whose layout never changes; from it both sides
//! work out the version and the features that they share. From then on the protocol is
//! symmetric: either side calls, replies, cancels, publishes events and streams bulk data. Only a
//! plugin's log takes another way: its records are [lines](log_line) on standard error.
//!
//! Nothing here does input or output and nothing here reads a clock. A [`session::Session`] is
//! given the bytes that arrived, the time, and what the local side wants to say; it answers with
//! the bytes to write, the events that happened and the moment at which it wants to be asked
//! again. `bulkhead-ipc-driver` puts a session on a tokio stream; a test puts two of them back to
//! back.
//!
//! The peer is not trusted. Every length is checked before memory is reserved for it, every table
//! is bounded, and whatever breaks the rules ends the session with a [`Violation`] that says which
//! rule and by how much. `docs/protocol.md` describes the bytes for other languages.
#![warn(missing_docs)]

pub mod codec;
pub mod frame;
pub mod hello;
pub mod host;
pub mod lifecycle;
pub mod limits;
pub mod log_line;
pub mod message;
pub mod metrics;
mod octets;
pub mod outcome;
pub mod payload;
pub mod session;
pub mod violation;

pub use hello::{Features, Hello, HelloError, Negotiated, PROTOCOL_VERSION};
pub use limits::Limits;
pub use log_line::{Level, LogRecord};
pub use message::{Call, Drain, TraceContext};
pub use outcome::{CallFailure, EndReason};
pub use payload::{CallError, Encoding, Payload, PayloadError};
pub use violation::Violation;
