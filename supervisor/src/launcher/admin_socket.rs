//! The admin socket: made here, so that no supervisor needs a right on its directory; served there.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{
    GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, Stream, ToFsName as _,
};
use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
use nix::unistd::{Gid, chown};

/// The listening socket. Its path is removed when it is dropped.
pub(super) struct AdminSocket {
    listener: OwnedFd,
    path: PathBuf,
}

/// Who may connect. What a peer may then do is decided by its credentials, in the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) admin_gid: Option<u32>,
    pub(super) reader_gid: Option<u32>,
}

impl Access {
    /// One file has one group: with two of them everybody may connect, and the supervisor refuses.
    fn mode_and_group(self) -> (u32, Option<u32>) {
        match (self.admin_gid, self.reader_gid) {
            (Some(admin), Some(reader)) if admin != reader => (0o666, Some(admin)),
            (None, Some(_)) => (0o666, None),
            (admin, _) => (0o660, admin),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error(
        "another service answers on {path}; stop it, or set another `socket` in the configuration"
    )]
    Served { path: PathBuf },
    #[error("{path} exists and is no socket; remove it, or set another `socket`")]
    NoSocket { path: PathBuf },
    #[error("cannot listen on {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

impl AdminSocket {
    /// Listens on `path`. A socket that a dead launcher left is replaced; one that answers is not.
    pub(super) fn bind(path: &Path, access: Access) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        reclaim(path)?;
        let (mode, group) = access.mode_and_group();
        let name = path.to_fs_name::<GenericFilePath>().map_err(io)?;
        let listener = ListenerOptions::new()
            .name(name)
            .nonblocking(ListenerNonblockingMode::Accept)
            .mode(mode & 0o660)
            .reclaim_name(false)
            .create_sync()
            .map_err(io)?;
        let Listener::UdSocket(listener) = listener;
        let socket = Self { listener: listener.into(), path: path.to_owned() };
        if let Some(gid) = group {
            chown(path, None, Some(Gid::from_raw(gid))).map_err(|errno| io(errno.into()))?;
        }
        // The mode that was given to the listener is narrowed by the umask.
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io)?;
        Ok(socket)
    }
}

impl AsFd for AdminSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "the admin socket stays behind");
            }
            _ => {}
        }
    }
}

/// Removes the socket of a dead launcher.
fn reclaim(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match Stream::connect(path.to_fs_name::<GenericFilePath>().map_err(io)?) {
        Ok(_) => Err(SocketError::Served { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_fresh_socket_is_closed_to_others_and_gone_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = AdminSocket::bind(&path, Access::default()).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn the_group_is_the_administrators() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let gid = nix::unistd::getgid().as_raw();
        let access = Access { admin_gid: Some(gid), reader_gid: None };
        let _socket = AdminSocket::bind(&path, access).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().gid(), gid);
        let both = Access { admin_gid: Some(1), reader_gid: Some(2) };
        assert_eq!(both.mode_and_group(), (0o666, Some(1)));
        let same = Access { admin_gid: Some(1), reader_gid: Some(1) };
        assert_eq!(same.mode_and_group(), (0o660, Some(1)));
    }

    #[test]
    fn what_a_dead_launcher_left_is_replaced_and_what_answers_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(
            AdminSocket::bind(&path, Access::default()),
            Err(SocketError::Served { .. })
        ));
        drop(other);
        assert!(path.exists());
        let _socket = AdminSocket::bind(&path, Access::default()).unwrap();
        UnixStream::connect(&path).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(
            AdminSocket::bind(&file, Access::default()),
            Err(SocketError::NoSocket { .. })
        ));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
