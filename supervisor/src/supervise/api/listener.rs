//! The listening socket, as axum wants one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use interprocess::local_socket::tokio::{Listener as LocalListener, Stream, prelude::*};

use super::caller::{Caller, Roles};

/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin socket, and who may do what on it.
pub(super) struct AdminListener {
    listener: LocalListener,
    roles: Roles,
}

impl AdminListener {
    pub(super) fn new(listener: OwnedFd, roles: Roles) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = LocalListener::UdSocket(OwnedFd::from(listener).try_into()?);
        Ok(Self { listener, roles })
    }
}

impl Listener for AdminListener {
    type Io = Stream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Stream, Caller) {
        loop {
            match self.listener.accept().await {
                Ok(stream) => {
                    let caller = match &stream {
                        Stream::UdSocket(socket) => self.roles.caller(socket.inner().as_fd()),
                    };
                    return (stream, caller);
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the admin API could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller::nobody())
    }
}

impl Connected<IncomingStream<'_, AdminListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, AdminListener>) -> Self {
        stream.remote_addr().clone()
    }
}
