//! Drives a protocol session over a tokio stream, for supervisor and SDK alike.
//!
//! # Theory of operation
//!
//! [`connect`] makes two halves of one thing. The [`Driver`] is a future that owns the stream and
//! the [`Handler`]; whoever connects spawns it (with `spawn_local`: handlers need not be `Send`).
//! The [`Peer`] is a cheap handle, usable from any thread, that makes calls, publishes, streams
//! and says goodbye. Between them is one sans-IO session under a lock, held for one read, one write or one request, never across
//! an await or a handler.
//!
//! A turn of the driver reads what has come, polls each new call's handler once where it stands,
//! puts all that is to be said into one out-buffer, and writes that once. A handler that is not
//! ready at once joins the set of those that wait; it is dropped when its call is cancelled, its
//! deadline passes, or the session ends.
//!
//! # Who ends what
//!
//! - Dropping every [`Peer`] ends nothing: the driver goes on serving.
//! - Dropping the [`Driver`] ends the session: everything that waits gets
//!   [`EndReason::Dropped`].
//! - A handler that panics takes the driver with it, by unwinding; those that wait are released
//!   as if it had been dropped. Catch panics inside the handler if one call is not to end the
//!   session.
#![warn(missing_docs)]

mod driver;
mod handler;
mod pace;
mod peer;
mod shared;
mod socket;
mod stream;
mod tasks;

pub use bulkhead_ipc_protocol as protocol;
pub use bulkhead_ipc_protocol::{CallFailure, EndReason};
pub use driver::{Driver, connect, try_connect};
pub use handler::{Handler, IncomingCall};
pub use pace::Pace;
pub use peer::{Calling, OpenCall, Peer};
pub use socket::Socket;
pub use stream::{StreamError, StreamReader, StreamWriter};
