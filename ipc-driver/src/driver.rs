//! The future that owns the stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bulkhead_ipc_protocol::{EndReason, Hello, Limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Handler, Peer};

/// Starts a session on `stream`. Nothing happens until the driver is polled.
pub fn connect<S, H>(stream: S, hello: Hello, limits: Limits, handler: H) -> (Peer, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let _ = (stream, hello, limits, handler);
    unimplemented!()
}

/// Runs the session to its end. Must be polled for anything to happen: `spawn_local` it.
#[must_use = "nothing happens unless it is polled"]
pub struct Driver {}

impl Future for Driver {
    type Output = EndReason;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<EndReason> {
        unimplemented!()
    }
}
