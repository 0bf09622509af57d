//! The cgroup v2 tree (Documentation/admin-guide/cgroup-v2.rst).
//!
//! Theory of operation. Some directory of the v2 hierarchy is ours: systemd delegated it, or it is
//! the root of a container's own cgroup namespace. [`Tree::discover`] finds it from
//! `/proc/self/cgroup`, moves us into a leaf of it (a cgroup that holds processes cannot give
//! controllers to its children) and enables the controllers that exist. Each compartment is then a
//! [`Cgroup`] beneath `plugins/`: limits are written before its first process is cloned into it,
//! every file written is read back, and it is torn down by `cgroup.kill`, `populated 0`, rmdir.
//!
//! Few files are involved, so they are written here, with plain file I/O, rather than by a crate.

mod disks;
mod group;
pub(crate) mod limits;
mod location;
mod tree;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use group::Cgroup;
pub(crate) use limits::Written;
pub(crate) use location::mounted;
pub use tree::Tree;

/// A v2 controller that limits are set with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// `memory.max` and its kin.
    Memory,
    /// `pids.max`.
    Pids,
    /// `cpu.max`.
    Cpu,
    /// `io.max`.
    Io,
}

impl Controller {
    /// All that are used here.
    pub const ALL: [Controller; 4] =
        [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Io];

    /// The name in `cgroup.controllers`.
    pub const fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
            Controller::Io => "io",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a cgroup could not be had or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted; mount one at /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NotMounted,
    /// The cgroup that we run in was not given to us.
    #[error("the cgroup {} is not delegated to this process: {why}; {remedy}", path.display())]
    NotDelegated {
        /// Our own cgroup's directory.
        path: PathBuf,
        /// What shows it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A file could not be read or written.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// `reading`, `writing 64 to`, …
        action: String,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A file holds something else than what was written to it.
    #[error("{} holds {found:?} after {wanted:?} was written to it", path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What was read back.
        found: String,
    },
    /// A name that cannot be a cgroup's.
    #[error(
        "{name:?} cannot name a compartment: use letters, digits, `-`, `_` and `.`, at most 64 bytes, not beginning with a dot"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A compartment of that name exists and is not empty.
    #[error("{} already holds processes; stop what runs there first", path.display())]
    Occupied {
        /// Its directory.
        path: PathBuf,
    },
}

impl CgroupError {
    /// What a person can do about it, in a few words.
    pub fn remedy(&self) -> &str {
        match self {
            CgroupError::NotMounted => {
                "mount a cgroup v2 hierarchy at /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
            }
            CgroupError::NotDelegated { remedy, .. } => remedy,
            _ => "look at the file that it names, and at who may write it",
        }
    }

    pub(crate) fn io(
        action: impl Into<String>,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> Self {
        CgroupError::Io { action: action.into(), path: path.into(), source }
    }
}

#[cfg(test)]
mod tests;
