//! `[sandbox]`: what the plugin asks for beyond the default compartment. An operator's grant can
//! only narrow it.

use bulkhead_sandbox::MAX_MOUNTS;
use bulkhead_sandbox::seccomp::{self, Profile};
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

/// The plugin's own tree and `/data` are mounts as well.
const MAX_PLACES: usize = MAX_MOUNTS - 2;

impl Sandboxing {
    /// What no machine could start it with. The field at fault, and why.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        for (index, call) in self.allow_syscalls.iter().enumerate() {
            seccomp::check_name(call)
                .map_err(|error| (format!("allow_syscalls[{index}]"), error.to_string()))?;
        }
        let (read, write) = (self.read.len(), self.write.len());
        if read + write > MAX_PLACES {
            let field = if read >= write { "read" } else { "write" };
            let why = format!(
                "read and write name {} places, and at most {MAX_PLACES} can be shown; name a \
                 directory that several of them are in",
                read + write
            );
            return Err((field.to_owned(), why));
        }
        Ok(())
    }

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
