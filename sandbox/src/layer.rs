//! The layers of a compartment, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of a compartment. The serialised names are stable: they appear in errors, in
/// `inspect` and in `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it; Layer::purpose has the words")]
pub enum Layer {
    Uid,
    Groups,
    UserNamespace,
    PidNamespace,
    MountNamespace,
    IpcNamespace,
    UtsNamespace,
    NetNamespace,
    PrivateRoot,
    Proc,
    Cgroup,
    Memory,
    Pids,
    Cpu,
    Io,
    OpenFiles,
    FileSize,
    OomScore,
    Capabilities,
    NoNewPrivs,
    LandlockFiles,
    LandlockNetwork,
    LandlockScopes,
    Seccomp,
    Audit,
}

impl Layer {
    /// Those of a compartment, all of which it has or none.
    pub(crate) const NAMESPACES: [Self; 6] = [
        Layer::UserNamespace,
        Layer::PidNamespace,
        Layer::MountNamespace,
        Layer::IpcNamespace,
        Layer::UtsNamespace,
        Layer::NetNamespace,
    ];

    /// The serialised name, for example `landlock-files`.
    pub const fn name(self) -> &'static str {
        match self {
            Layer::Uid => "uid",
            Layer::Groups => "groups",
            Layer::UserNamespace => "user-namespace",
            Layer::PidNamespace => "pid-namespace",
            Layer::MountNamespace => "mount-namespace",
            Layer::IpcNamespace => "ipc-namespace",
            Layer::UtsNamespace => "uts-namespace",
            Layer::NetNamespace => "net-namespace",
            Layer::PrivateRoot => "private-root",
            Layer::Proc => "proc",
            Layer::Cgroup => "cgroup",
            Layer::Memory => "memory",
            Layer::Pids => "pids",
            Layer::Cpu => "cpu",
            Layer::Io => "io",
            Layer::OpenFiles => "open-files",
            Layer::FileSize => "file-size",
            Layer::OomScore => "oom-score",
            Layer::Capabilities => "capabilities",
            Layer::NoNewPrivs => "no-new-privs",
            Layer::LandlockFiles => "landlock-files",
            Layer::LandlockNetwork => "landlock-network",
            Layer::LandlockScopes => "landlock-scopes",
            Layer::Seccomp => "seccomp",
            Layer::Audit => "audit",
        }
    }

    /// Whether [`crate::Strictness::Strict`] refuses a machine without it, whatever the policy asks.
    /// The others are refused only where the policy needs them.
    pub const fn is_required(self) -> bool {
        matches!(
            self,
            Layer::UserNamespace
                | Layer::PidNamespace
                | Layer::MountNamespace
                | Layer::IpcNamespace
                | Layer::UtsNamespace
                | Layer::NetNamespace
                | Layer::PrivateRoot
                | Layer::Cgroup
                | Layer::Memory
                | Layer::Pids
                | Layer::Cpu
                | Layer::Capabilities
                | Layer::NoNewPrivs
                | Layer::LandlockFiles
                | Layer::Seccomp
        )
    }

    /// What the layer is for, in a few words for a person.
    pub const fn purpose(self) -> &'static str {
        match self {
            Layer::Uid => "own user id, so that files and signals of others are out of reach",
            Layer::Groups => "no supplementary group",
            Layer::UserNamespace => {
                "own user namespace, in which the compartment is built without privilege"
            }
            Layer::PidNamespace => "own process ids; all of it dies with its init",
            Layer::MountNamespace => "own mount table",
            Layer::IpcNamespace => "own System V and POSIX message queues",
            Layer::UtsNamespace => "own host name",
            Layer::NetNamespace => "no network device, no abstract socket of others",
            Layer::PrivateRoot => "own root directory, in which only what was granted exists",
            Layer::Proc => "a private /proc",
            Layer::Cgroup => "own cgroup: seen, frozen and killed as a whole",
            Layer::Memory => "bound on memory",
            Layer::Pids => "bound on processes and threads",
            Layer::Cpu => "bound on CPU time",
            Layer::Io => "bound on disk bandwidth",
            Layer::OpenFiles => "bound on open descriptors",
            Layer::FileSize => "bound on the size of a file",
            Layer::OomScore => "killed before the supervisor when memory runs out",
            Layer::Capabilities => "no capability, and none to be gained",
            Layer::NoNewPrivs => "executing a set-user-id program gains nothing",
            Layer::LandlockFiles => "rules on files beneath the granted directories",
            Layer::LandlockNetwork => "rules on ports",
            Layer::LandlockScopes => "no signal and no abstract socket to the outside",
            Layer::Seccomp => "only the system calls of its profile",
            Layer::Audit => "the kernel's audit messages, which name a denied call or path",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
