//! Landlock: what files, ports and processes the compartment may reach, whatever is mounted.
//!
//! The rules are planned as data before the clone. The ruleset itself is built in the child once the
//! private root exists, because a rule binds to an inode: one made earlier would not know the fresh
//! `/tmp`. The landlock crate does not allocate on the way to success; on failure only its error's
//! errno is kept.

use std::error::Error;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;

use crate::floors::FloorViolation;
use crate::policy::{Access, Network, Policy};
use crate::report::LandlockStatus;
use crate::root::terminated;
use crate::seccomp::Profile;
use crate::syscall::{self, Call};

/// The newest ABI whose rights were vetted here. Older kernels get what they know.
const VETTED: ABI = ABI::V10;

/// The rules of one compartment.
#[derive(Debug)]
pub(crate) struct Rules {
    files: Vec<(CString, BitFlags<AccessFs>)>,
    /// Of the program's own descriptor, where it has one.
    entry: BitFlags<AccessFs>,
    /// Handled rights on ports; empty where the network is not ours to restrict.
    network: BitFlags<AccessNet>,
    ports: Vec<(u16, BitFlags<AccessNet>)>,
}

/// Where the dynamic loader may be. It is executed by the kernel for the program, so Landlock must
/// allow it by name; listing the known ones spares a parser of program headers in the launcher.
pub const LOADERS: [&str; 6] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-x86-64.so.2",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
    "/lib/ld64.so.1",
];

/// What of /etc a program that is no shell may read: its libraries' cache, names, time zone, trust roots.
pub const CONFIGURATION: [&str; 9] = [
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

impl Rules {
    /// `real` says where a path of the compartment lies on the machine, when there is no private root.
    pub(crate) fn plan(
        policy: &Policy,
        program: Option<&Path>,
        real: impl Fn(&Path) -> PathBuf,
        private_root: bool,
    ) -> Result<Rules, FloorViolation> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let execute: BitFlags<AccessFs> = AccessFs::Execute.into();
        let anything = policy.profile == Profile::Program;
        let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
        // Sockets of its own are reached without that right, wherever they are; it is of those of others.
        let write = AccessFs::from_write(VETTED) & !(devices | AccessFs::ResolveUnix);
        let system = if anything { read | execute } else { read };
        let mut wanted: Vec<(PathBuf, BitFlags<AccessFs>)> = Vec::new();
        let filesystem = &policy.filesystem;
        if filesystem.system {
            for directory in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
                // Links lead into /usr, for which there is a rule.
                if std::fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
                    wanted.push((directory.into(), system));
                }
            }
            if anything {
                wanted.push(("/etc".into(), read));
            } else {
                wanted.extend(CONFIGURATION.map(|path| (path.into(), read)));
                wanted.extend(LOADERS.map(|path| (path.into(), execute | AccessFs::ReadFile)));
            }
        }
        if private_root {
            wanted.push((
                "/dev".into(),
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir,
            ));
            if filesystem.tmp_bytes > 0 {
                wanted.push(("/tmp".into(), read | write));
            }
            if filesystem.proc {
                wanted.push(("/proc".into(), read));
            }
            if anything {
                wanted.push(("/".into(), AccessFs::ReadDir.into()));
            }
        } else {
            for device in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"] {
                wanted.push((device.into(), AccessFs::ReadFile | AccessFs::WriteFile));
            }
        }
        for mount in &filesystem.mounts {
            let access = match filesystem.access(mount, private_root) {
                Access::ReadOnly => system,
                Access::ReadData => read,
                Access::ReadWrite => read | write,
            };
            wanted.push((real(&mount.target), access));
        }
        if let Some(program) = program {
            wanted.push((real(program), execute | AccessFs::ReadFile));
        }
        let mut files = Vec::with_capacity(wanted.len());
        for (path, access) in wanted {
            files.push((terminated(&path)?, access));
        }
        let (network, ports) = match &policy.network {
            Network::Host => (BitFlags::EMPTY, Vec::new()),
            Network::None => (AccessNet::from_all(VETTED), Vec::new()),
            Network::Ports { connect, bind } => {
                let connect = connect.iter().map(|&port| (port, AccessNet::ConnectTcp.into()));
                let bind = bind.iter().map(|&port| (port, AccessNet::BindTcp.into()));
                (AccessNet::from_all(VETTED), connect.chain(bind).collect())
            }
        };
        Ok(Rules { files, entry: execute | AccessFs::ReadFile, network, ports })
    }

    /// For a program that confines itself: it reads and writes beneath these paths and executes nothing;
    /// it connects anywhere and listens nowhere.
    pub(crate) fn of_ourselves(
        read: &[PathBuf],
        write: &[PathBuf],
        sockets: &[PathBuf],
    ) -> Result<Rules, FloorViolation> {
        let reading = AccessFs::ReadFile | AccessFs::ReadDir;
        let making = AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::MakeSym | AccessFs::Refer;
        let removing = AccessFs::RemoveFile | AccessFs::RemoveDir;
        let writing = AccessFs::WriteFile | AccessFs::Truncate | making | removing;
        let readable = read.iter().map(|path| (path, reading));
        let writable = write.iter().map(|path| (path, reading | writing));
        let reached = sockets.iter().map(|path| (path, AccessFs::ResolveUnix.into()));
        let files = readable
            .chain(writable)
            .chain(reached)
            .map(|(path, access)| Ok((terminated(path)?, access)))
            .collect::<Result<_, FloorViolation>>()?;
        let network = AccessNet::BindTcp.into();
        Ok(Rules { files, entry: BitFlags::EMPTY, network, ports: Vec::new() })
    }

    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len() + self.ports.len()
    }

    /// With no new privileges set: puts the rules in force for the calling thread, for good. A path that is not
    /// there is passed over.
    pub(crate) fn restrict(&self, program: Option<BorrowedFd<'_>>) -> Call<LandlockStatus> {
        let number = |error: RulesetError| errno(&error);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(VETTED))
            .and_then(|ruleset| ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal))
            .map_err(number)?;
        if !self.network.is_empty() {
            ruleset = ruleset.handle_access(self.network).map_err(number)?;
        }
        let mut created = ruleset.create().map_err(number)?;
        for (path, access) in &self.files {
            let file = match syscall::open(path, libc::O_PATH) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                other => other?,
            };
            // A rule on a file cannot have rights of a directory.
            let possible = if syscall::is_directory(file.as_fd())? {
                *access
            } else {
                *access & AccessFs::from_file(VETTED)
            };
            created = created.add_rule(PathBeneath::new(file, possible)).map_err(number)?;
        }
        if let Some(program) = program {
            created =
                created.add_rule(PathBeneath::new(program.as_fd(), self.entry)).map_err(number)?;
        }
        for &(port, access) in &self.ports {
            created = created.add_rule(NetPort::new(port, access)).map_err(number)?;
        }
        // Without it denials after the exec are not audited (ABI 7).
        let status =
            created.log_new_exec(true).and_then(RulesetCreated::restrict_self).map_err(number)?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => LandlockStatus::Full,
            RulesetStatus::PartiallyEnforced => LandlockStatus::Partial,
            RulesetStatus::NotEnforced => LandlockStatus::None,
        })
    }
}

/// Where a path of the compartment comes from on the machine.
pub(crate) fn source_of(policy: &Policy, path: &Path) -> PathBuf {
    policy
        .filesystem
        .mounts
        .iter()
        .rev()
        .find_map(|mount| {
            let rest = path.strip_prefix(&mount.target).ok()?;
            // Joining an empty rest would add a slash.
            Some(if rest.as_os_str().is_empty() {
                mount.source.clone()
            } else {
                mount.source.join(rest)
            })
        })
        .unwrap_or_else(|| path.to_owned())
}

/// The errno at the bottom of an error; EINVAL where the crate itself refused.
fn errno(error: &RulesetError) -> Errno {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(code) =
            error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
        {
            return Errno::from_raw(code);
        }
        source = error.source();
    }
    Errno::EINVAL
}
