//! The plugin whose calls are watched and not refused: what `bulkhead learn` starts a service of its own for.
//!
//! Only the command line says so, beside the process whose child the service is: neither a request nor the
//! configuration can.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// How long the one who learns may take to let a start connect, in seconds. Nothing else is served meanwhile.
const PATIENCE: i64 = 5;

/// `ID=SOCKET`.
#[derive(Clone, Debug)]
pub(crate) struct Learning {
    id: PluginId,
    /// Where the one who learns listens.
    socket: PathBuf,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not ID=SOCKET")]
pub(crate) struct BadLearning(String);

impl FromStr for Learning {
    type Err = BadLearning;

    fn from_str(text: &str) -> Result<Self, BadLearning> {
        let bad = || BadLearning(text.to_owned());
        let (id, socket) = text.split_once('=').ok_or_else(bad)?;
        Ok(Self { id: id.parse().map_err(|_| bad())?, socket: socket.into() })
    }
}

impl Learning {
    /// Whom a start of that plugin puts its calls to.
    pub(super) fn learner(&self, id: &PluginId) -> Result<Option<OwnedFd>, Failure> {
        if self.id != *id {
            return Ok(None);
        }
        connected(&self.socket).map(Some).map_err(|error| {
            let socket = self.socket.display();
            Failure::new(
                Code::SandboxFailed,
                format!("nobody learns from {id} at {socket}: {error}"),
            )
        })
    }
}

/// Neither connecting nor sending blocks for longer than [`PATIENCE`]: then it is `EAGAIN`.
fn connected(to: &Path) -> nix::Result<OwnedFd> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
    connect(stream.as_raw_fd(), &UnixAddr::new(to)?)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn who_lets_nobody_connect_is_not_waited_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("learn.sock");
        assert_eq!(connected(&path).unwrap_err(), Errno::ENOENT);
        let listener = UnixListener::bind(&path).unwrap();
        // A queue of one, which nobody takes anything from.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let first = connected(&path);
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(connected(&path).unwrap_err(), Errno::EAGAIN);
    }
}
