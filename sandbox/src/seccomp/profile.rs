//! The three profiles, and what must be known of the compartment to compile one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::line::Given;

/// A named set of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Memory, threads, time, and the descriptors that it was given. It opens files for reading only
    /// as far as a dynamic loader needs, and makes no sockets.
    Compute,
    /// The default: `compute`, and files in `/data`.
    #[default]
    Plugin,
    /// For `exec`: programs that nobody here wrote. `plugin`, and processes of its own: a shell with its
    /// tools, interpreters, build tools.
    Program,
}

impl Profile {
    /// Every profile, from the narrowest to the broadest.
    pub const ALL: [Self; 3] = [Self::Compute, Self::Plugin, Self::Program];

    /// The name in a policy file and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Plugin => "plugin",
            Self::Program => "program",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no seccomp profile; use `compute`, `plugin` or `program`")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// What the filter must know of the compartment around it. The default knows of nothing that helps, so
/// it gives the narrowest filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Landlock's ABI as the kernel gives it, 0 where there is none. From 3 it governs `truncate`, from 6
    /// signals and abstract sockets, from 9 sockets by path.
    pub landlock_abi: u32,
    /// The compartment has a root of its own, so that no socket of the host has a path in it but by a mount.
    pub private_root: bool,
    /// No place of the machine is mounted in it: what is, is its own, or the system's directories.
    pub no_places: bool,
    /// The compartment has a pid namespace, so that a signal cannot leave it.
    pub pid_namespace: bool,
    /// The uid is of this compartment alone, so that the kernel keeps its signals from all other processes.
    pub own_uid: bool,
    /// The compartment has a network namespace, so that no abstract socket of the host is in reach.
    pub net_namespace: bool,
    /// The sockets that the policy grants.
    pub sockets: SocketGrant,
}

/// Which sockets a compartment may make for itself. Descriptors that it receives need no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketGrant {
    /// TCP over IPv4 and IPv6: connect, bind, listen. The ports are Landlock's to check.
    pub tcp: bool,
    /// UDP over IPv4 and IPv6. No layer checks its ports before Landlock ABI 10.
    pub udp: bool,
}

impl Facts {
    /// The compartment that confines best by other means, in which the filter can be widest: what is refused here
    /// is refused everywhere.
    pub const WIDEST: Self = Self {
        landlock_abi: u32::MAX,
        private_root: true,
        no_places: true,
        pid_namespace: true,
        own_uid: true,
        net_namespace: true,
        sockets: SocketGrant { tcp: true, udp: true },
    };

    /// Whether the compartment is such that a line with this condition counts.
    pub fn meet(&self, given: Given) -> bool {
        match given {
            Given::Always => true,
            Given::TruncateGoverned => self.landlock_abi >= 3,
            Given::TruncateUngoverned => self.landlock_abi < 3,
            Given::SignalsConfined => self.pid_namespace || self.landlock_abi >= 6,
            Given::ThreadSignalsConfined => self.own_uid || self.meet(Given::SignalsConfined),
            Given::PathSocketsConfined => {
                self.private_root && self.no_places || self.landlock_abi >= 9
            }
            Given::LocalSocketsConfined => {
                self.meet(Given::PathSocketsConfined)
                    && (self.net_namespace || self.landlock_abi >= 6)
            }
            Given::Tcp => self.sockets.tcp,
            Given::Udp => self.sockets.udp,
            Given::Internet => self.sockets.tcp || self.sockets.udp,
        }
    }
}
