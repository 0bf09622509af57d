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
