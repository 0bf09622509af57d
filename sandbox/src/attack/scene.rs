//! What attacks are made on: a listener, sockets, a file, a process. All of it is ours.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::Target;
use crate::cgroup::mounted;
use crate::{Identity, Mount};

/// What of it is mounted in the compartment.
const SHOWN: &str = "shown";

/// Dropped, nothing of it is left.
#[derive(Debug)]
pub struct Scene {
    directory: PathBuf,
    port: TcpListener,
    udp_port: UdpSocket,
    abstract_name: String,
    victim: Child,
    cgroup: Option<PathBuf>,
    _held: (UnixListener, UnixDatagram, UnixListener, File),
}

impl Scene {
    /// Sets it up, in a new directory beneath that of temporary files.
    ///
    /// # Errors
    /// Those of the machine: no place for files, no loopback.
    pub fn new() -> io::Result<Self> {
        let template = std::env::temp_dir().join("bulkhead-attack-XXXXXX");
        // Without a link in it, as it is shown inside by this path.
        let directory = fs::canonicalize(nix::unistd::mkdtemp(&template)?)?;
        Self::within(directory.clone()).inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })
    }

    fn within(directory: PathBuf) -> io::Result<Self> {
        // What is in it is as open as can be: what stops an attack is to be the compartment and not a mode.
        // But only we can put something there, or another in its place: what is done to these names outside
        // is done as root.
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let open_to_all = Permissions::from_mode(0o777);
        let socket = UnixListener::bind(directory.join("socket"))?;
        fs::set_permissions(directory.join("socket"), open_to_all.clone())?;
        let datagrams = UnixDatagram::bind(directory.join("datagrams"))?;
        fs::set_permissions(directory.join("datagrams"), open_to_all.clone())?;
        let mut file = File::create_new(directory.join("file"))?;
        file.write_all(b"nobody's business\n")?;
        file.set_permissions(open_to_all)?;
        let mut closed = File::create_new(directory.join("closed"))?;
        closed.write_all(b"its owner's business\n")?;
        closed.set_permissions(Permissions::from_mode(0o600))?;
        fs::create_dir(directory.join(SHOWN))?;
        fs::set_permissions(directory.join(SHOWN), Permissions::from_mode(0o755))?;
        File::create_new(directory.join(SHOWN).join("own"))?;
        fs::create_dir(directory.join(SHOWN).join("data"))?;
        let abstract_name = format!("bulkhead-attack-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name)?;
        let abstract_socket = UnixListener::bind_addr(&address)?;
        // Inherited by whatever is started carelessly.
        let held = File::open(directory.join("file"))?;
        fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // It ends with its input, should we end without a word.
        let victim = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            port: TcpListener::bind("127.0.0.1:0")?,
            udp_port: UdpSocket::bind("127.0.0.1:0")?,
            abstract_name,
            victim,
            cgroup: mounted().map(|root| root.join("cgroup.procs")),
            _held: (socket, datagrams, abstract_socket, held),
            directory,
        })
    }

    /// Gives the attacker what is to be its own, and the mount that shows it inside, by the path that it has outside.
    /// The directory of these remains ours, so that the attacker can put nothing else in their place.
    ///
    /// # Errors
    /// Ids cannot be changed.
    pub fn give(&self, identity: Identity) -> io::Result<Mount> {
        let shown = self.directory.join(SHOWN);
        if let Identity::Leased { uid, gid } = identity {
            for name in ["own", "data"] {
                chown(shown.join(name), Some(uid), Some(gid))?;
            }
        }
        Ok(Mount::read_write(&shown, &shown))
    }

    /// What an attack is made on, in its own words; `None` where this machine has no such thing, or a
    /// trial makes none.
    #[must_use]
    pub fn argument(&self, target: Target) -> Option<String> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        match target {
            Target::Kernel => Some(String::new()),
            Target::Process => Some(self.victim.id().to_string()),
            Target::ProcFile => Some(format!("/proc/{}/environ", self.victim.id())),
            Target::Port => Some(self.port.local_addr().ok()?.port().to_string()),
            Target::UdpPort => Some(self.udp_port.local_addr().ok()?.port().to_string()),
            Target::UnixSocket => Some(path("socket")),
            Target::UnixDatagram => Some(path("datagrams")),
            Target::AbstractSocket => Some(self.abstract_name.clone()),
            Target::File => Some(path("file")),
            Target::ClosedFile => Some(path("closed")),
            Target::OwnFile => Some(path("shown/own")),
            Target::FileAndDirectory => Some(format!("{}:{}", path("file"), path("shown/data"))),
            Target::Cgroup => Some(self.cgroup.as_ref()?.display().to_string()),
            Target::Made => None,
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// Else whoever is on this machine has root change a file of their choice.
    #[test]
    fn nobody_else_can_put_something_in_the_place_of_what_is_attacked() {
        let scene = Scene::new().unwrap();
        let directory = fs::symlink_metadata(&scene.directory).unwrap();
        assert_eq!(directory.uid(), nix::unistd::geteuid().as_raw());
        assert_eq!(directory.mode() & 0o7777, 0o755);
        let file = fs::symlink_metadata(scene.directory.join("file")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o777);
        scene.give(Identity::Invoker).unwrap();
        let shown = fs::symlink_metadata(scene.directory.join(SHOWN)).unwrap();
        assert_eq!((shown.uid(), shown.mode() & 0o7777), (directory.uid(), 0o755));
        let path = scene.directory.clone();
        drop(scene);
        assert!(!path.exists());
    }
}
