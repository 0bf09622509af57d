//! `[sandbox]`: what the plugin asks for beyond the default compartment. An operator's grant can
//! only narrow it.

use bulkhead_sandbox::seccomp::Profile;
use serde::{Deserialize, Serialize};

use super::path::HostPath;
use super::units::ByteSize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sandboxing {
    /// The list of system calls: `compute`, `plugin` or `program`.
    pub(crate) profile: Profile,
    /// Calls by name beyond the profile's.
    pub(crate) allow_syscalls: Vec<String>,
    /// A `/proc` of its own processes only.
    pub(crate) proc: bool,
    /// The size of `/tmp`, which counts as memory.
    pub(crate) tmp: ByteSize,
    /// Places of the host that appear at the same path, read-only or writable.
    pub(crate) read: Vec<HostPath>,
    pub(crate) write: Vec<HostPath>,
}

impl Sandboxing {
    /// The places of the host, each once, in the order in which they are asked for.
    pub(crate) fn places(&self) -> Vec<HostPath> {
        let mut places: Vec<HostPath> = Vec::new();
        for path in self.read.iter().chain(&self.write) {
            if !places.contains(path) {
                places.push(path.clone());
            }
        }
        places
    }
}

impl Default for Sandboxing {
    fn default() -> Self {
        Self {
            profile: Profile::Plugin,
            allow_syscalls: Vec::new(),
            proc: false,
            tmp: "16M".parse().expect("a size, written here"),
            read: Vec::new(),
            write: Vec::new(),
        }
    }
}
