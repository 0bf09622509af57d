//! The plugin whose calls are watched and not refused: what `bulkhead learn` starts a service of its own for.
//!
//! Only the command line says so, beside the process whose child the service is: neither a request nor the
//! configuration can.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use crate::failure::{Code, Failure};
use crate::id::PluginId;

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
        let connected = UnixStream::connect(&self.socket);
        connected.map(|stream| Some(stream.into())).map_err(|error| {
            let socket = self.socket.display();
            Failure::new(
                Code::SandboxFailed,
                format!("nobody learns from {id} at {socket}: {error}"),
            )
        })
    }
}
