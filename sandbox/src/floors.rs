//! What no request can lower.
//!
//! A policy reaches the privileged launcher from a process that parses what strangers wrote. So the
//! launcher holds each request against these floors, which come from its own configuration and from
//! this file, and from nothing in the request.

mod ceilings;

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::launch::Identity;
use crate::policy::{Access, Mount, Network, Policy};
use crate::root::is_system;
use crate::seccomp;

pub use ceilings::Ceilings;

/// Which directories of the machine may be made visible. An empty list allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedSources {
    /// A mount may show these or what is beneath them, read-only.
    pub read_only: Vec<PathBuf>,
    /// A mount may show these or what is beneath them, writable.
    pub read_write: Vec<PathBuf>,
}

impl AllowedSources {
    /// Whether that mount may be made, by the name of its source.
    pub fn allows(&self, mount: &Mount) -> bool {
        let beneath = |allowed: &[PathBuf]| allowed.iter().any(|it| mount.source.starts_with(it));
        beneath(&self.read_write) || mount.access != Access::ReadWrite && beneath(&self.read_only)
    }
}

/// A request that would lower a floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FloorViolation {
    /// The uid or gid is that of the superuser.
    #[error("{what} 0 can never be leased; lease one from the configured range")]
    Superuser {
        /// `uid` or `gid`.
        what: &'static str,
    },
    /// A system call that can never be allowed, or no system call at all.
    #[error("{0}")]
    Syscall(#[from] seccomp::CompileError),
    /// A source that the configuration does not allow.
    #[error("{} cannot be mounted {}: it lies beneath none of the allowed sources; add its directory to `[mounts]` in the service's configuration", path.display(), if *writable { "writable" } else { "read-only" })]
    Source {
        /// The path that was asked for.
        path: PathBuf,
        /// Whether it was to be writable.
        writable: bool,
    },
    /// A path that is not plain and absolute.
    #[error("{} must be an absolute path without `.` and `..`", path.display())]
    Path {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A target that would hide or replace what the compartment itself provides.
    #[error("{} is the compartment's own and cannot be mounted over", target.display())]
    Target {
        /// The target that was asked for.
        target: PathBuf,
    },
    /// The machine's network without rules, which only a person at `exec` may ask for.
    #[error("the machine's network without rules can never be requested; grant ports")]
    HostNetwork,
    /// More descriptors than the launcher gives.
    #[error("{asked} open descriptors exceed the {limit} that can be requested")]
    OpenFiles {
        /// What was asked for.
        asked: u64,
        /// What can be had.
        limit: u64,
    },
    /// A resource without a limit that every compartment of a plugin has.
    #[error("{what} must have a limit: no plugin is started without")]
    Unlimited {
        /// The limit, as a manifest's `[limits]` names it.
        what: &'static str,
    },
    /// More than the configuration gives to one plugin.
    #[error(
        "{what} of {asked} exceeds the {limit} that a plugin can have; lower it in the manifest, or raise `{what}` in `[limits]` of the service's configuration"
    )]
    TooMuch {
        /// The limit, as a manifest's `[limits]` names it.
        what: &'static str,
        /// What was asked for: bytes, operations, or percent of one CPU.
        asked: u64,
        /// What can be had.
        limit: u64,
    },
    /// A limit of one block device, which would take the place of that of all.
    #[error("limits of a single block device can never be requested; `disks` is of each")]
    Devices,
}

/// The most open descriptors that a request can have.
pub const MAX_NOFILE: u64 = 65_536;

/// Targets that the compartment makes itself.
const RESERVED: &[&str] = &[
    "/", "/dev", "/proc", "/sys", "/tmp", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64",
    "/etc",
];

/// Holds `policy` against the floors.
///
/// Mount sources are compared by name; the launcher opens what it allows beneath its own
/// directories, in which no plugin can make a link.
pub fn check(
    policy: &Policy,
    sources: &AllowedSources,
    ceilings: &Ceilings,
) -> Result<(), FloorViolation> {
    for mount in &policy.filesystem.mounts {
        plain(&mount.source)?;
        plain(&mount.target)?;
        if is_reserved(&mount.target) {
            return Err(FloorViolation::Target { target: mount.target.clone() });
        }
        if !sources.allows(mount) {
            let writable = mount.access == Access::ReadWrite;
            return Err(FloorViolation::Source { path: mount.source.clone(), writable });
        }
    }
    if policy.network == Network::Host {
        return Err(FloorViolation::HostNetwork);
    }
    if policy.limits.nofile > MAX_NOFILE {
        return Err(FloorViolation::OpenFiles { asked: policy.limits.nofile, limit: MAX_NOFILE });
    }
    ceilings.check(&policy.limits)?;
    // Names that only some machines refuse are refused by the start, which knows the machine.
    seccomp::check_extra(&policy.allow_syscalls, &seccomp::Facts::WIDEST)?;
    Ok(())
}

/// Whether the compartment makes that itself, so that nothing can be mounted there.
pub fn is_reserved(target: &Path) -> bool {
    RESERVED.iter().any(|reserved| Path::new(reserved) == target)
        || ["/dev", "/proc", "/sys"].iter().any(|tree| target.starts_with(tree))
}

/// Whether the compartment shows that of itself, as it is on the machine: libraries, programs, their
/// configuration. Nothing else may take its place there.
pub fn is_shown(target: &Path) -> bool {
    target.starts_with("/etc") || is_system(target)
}

/// Holds an identity against the floors.
pub fn check_identity(identity: Identity) -> Result<(), FloorViolation> {
    match identity {
        Identity::Leased { uid: 0, .. } => Err(FloorViolation::Superuser { what: "uid" }),
        Identity::Leased { gid: 0, .. } => Err(FloorViolation::Superuser { what: "gid" }),
        Identity::Leased { .. } | Identity::Invoker => Ok(()),
    }
}

pub(crate) fn plain(path: &Path) -> Result<(), FloorViolation> {
    let mut components = path.components();
    let rooted = components.next() == Some(Component::RootDir);
    // `components` swallows `.` and doubled slashes, so compare with what it would rebuild.
    let normal = components.all(|part| matches!(part, Component::Normal(_)));
    let rebuilt: PathBuf = path.components().collect();
    if rooted && normal && rebuilt.as_os_str() == path.as_os_str() {
        Ok(())
    } else {
        Err(FloorViolation::Path { path: path.to_owned() })
    }
}
