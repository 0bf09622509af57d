//! Where sessions come from.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bulkhead_sandbox::descriptors::{ReceiveError, recv_with_fds};
use bulkhead_sandbox::unprivileged;

/// The source of sessions.
pub(crate) enum Bootstrap {
    /// The launcher's socket: one session a packet.
    Socket(OwnedFd),
    /// A single session, from standard input; `None` once taken.
    Single(Option<UnixStream>),
}

impl Bootstrap {
    /// Takes descriptor 3, or standard input with `HOSTILE_SESSION=stdin`.
    pub(crate) fn take() -> io::Result<Self> {
        if std::env::var_os("HOSTILE_SESSION").is_some_and(|from| from == "stdin") {
            let session = io::stdin().as_fd().try_clone_to_owned()?;
            return Ok(Self::Single(Some(UnixStream::from(session))));
        }
        Ok(Self::Socket(unprivileged::given()?))
    }

    /// Waits for the next session; `None` when there will be no more.
    pub(crate) fn next(&mut self) -> io::Result<Option<UnixStream>> {
        match self {
            Self::Single(session) => Ok(session.take()),
            Self::Socket(socket) => match recv_with_fds(socket.as_fd(), 64, 1) {
                Ok(packet) => Ok(packet.descriptors.into_iter().next().map(UnixStream::from)),
                Err(ReceiveError::Closed) => Ok(None),
                Err(ReceiveError::Io(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}
