//! The listening socket, as axum wants one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use interprocess::local_socket::tokio::{Listener as LocalListener, Stream, prelude::*};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::caller::{Caller, Role, Roles};
use crate::supervise::audit::Audit;

/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many strangers are told at a time that they may do nothing here; more are hung up on. So
/// nobody without a role can take the descriptors of those who have one.
const STRANGERS: usize = 16;
/// How long a stranger may take to send a request and to read the refusal.
const PATIENCE: Duration = Duration::from_secs(1);

/// The admin socket, and who may do what on it.
pub(super) struct AdminListener {
    listener: LocalListener,
    roles: Roles,
    strangers: Arc<Semaphore>,
    audit: Audit,
}

impl AdminListener {
    pub(super) fn new(listener: OwnedFd, roles: Roles, audit: Audit) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = LocalListener::UdSocket(OwnedFd::from(listener).try_into()?);
        Ok(Self { listener, roles, strangers: Arc::new(Semaphore::new(STRANGERS)), audit })
    }
}

impl AdminListener {
    /// Answers whatever a stranger asks with the refusal, and hangs up.
    fn turn_away(&self, mut stream: Stream, caller: &Caller) {
        let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() else { return };
        tracing::warn!(uid = caller.uid, pid = caller.pid, "refused on the admin socket");
        let body = super::caller::refusal(caller, Role::Reader).to_string();
        let response = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let (audit, entry) = (self.audit.clone(), super::caller::refused(caller, Role::Reader));
        tokio::spawn(async move {
            audit.refused(entry).await;
            let answered = tokio::time::timeout(PATIENCE, async {
                // What is asked does not matter; a response before a request would.
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(response.as_bytes()).await
            });
            // A stranger who does not listen misses it.
            let _ = answered.await;
            drop(place);
        });
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
                    if caller.role > Role::None {
                        return (stream, caller);
                    }
                    self.turn_away(stream, &caller);
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
