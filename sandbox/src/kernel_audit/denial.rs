//! What a layer did not let pass.

use std::path::PathBuf;

/// A refusal and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Of the process, in the initial user namespace: the compartment's own.
    pub uid: u32,
    /// What was refused.
    pub refusal: Refusal,
}

/// What was refused, and by which layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A system call, of which the process died.
    Seccomp {
        /// The call's name, or what there is instead: `number 1000`, `getpid by int 0x80`.
        call: String,
    },
    /// An access, which failed with EACCES or EPERM.
    Landlock {
        /// The rights that were lacking, by the kernel's names (Documentation/admin-guide/LSM/landlock.rst),
        /// with commas: `fs.read_file`, `net.connect_tcp`.
        access: String,
        /// What they were lacking on, where the kernel says it.
        object: Option<Object>,
    },
}

/// What an access was to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// As the process sees it. Its bytes are of the program's choice.
    Path(PathBuf),
    /// A TCP port.
    Port(u16),
}

impl Refusal {
    /// Whether it is one on this path.
    pub(super) fn is_on(&self, path: &str) -> bool {
        let Refusal::Landlock { object: Some(Object::Path(found)), .. } = self else {
            return false;
        };
        found.as_os_str() == path
    }
}
