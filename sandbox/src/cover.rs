//! What Landlock must give, and which layer covers what an older kernel's lacks.
//!
//! Landlock by itself drops in silence what the kernel does not know. Here each right is a line: from
//! which ABI it exists, which layer asks for it, and what covers its lack, if anything does. A layer covers
//! something only in a compartment that has it, so each line looks at what this one has.

use crate::layer::Layer;
use crate::policy::{Network, Policy};
use crate::seccomp::{Facts, Given, Profile};

/// One right, or a few that came together.
struct Right {
    abi: u32,
    layer: Layer,
    what: &'static str,
    /// Which other layer does its work; `None`: nothing does, in this compartment of this policy.
    cover: fn(&Policy, &Facts) -> Option<&'static str>,
}

const RIGHTS: &[Right] = &[
    Right {
        abi: 1,
        layer: Layer::LandlockFiles,
        what: "reading, writing, making and executing files",
        cover: |_, _| None,
    },
    Right {
        abi: 2,
        layer: Layer::LandlockFiles,
        what: "moving files between directories",
        // The kernel's documentation: before this right, moving between directories is always denied.
        cover: |_, _| Some("ABI 1 denies it always"),
    },
    Right {
        abi: 3,
        layer: Layer::LandlockFiles,
        what: "truncating files",
        cover: |_, facts| {
            Some(if facts.private_root {
                "read-only mounts, and seccomp refuses truncate"
            } else {
                "seccomp refuses truncate, and O_TRUNC without writing"
            })
        },
    },
    Right {
        abi: 4,
        layer: Layer::LandlockNetwork,
        what: "TCP ports",
        cover: |policy, facts| match policy.network {
            Network::None if facts.net_namespace => Some("the empty network namespace"),
            Network::None => Some("seccomp refuses TCP sockets"),
            Network::Host => Some("the policy grants the machine's network"),
            Network::Ports { .. } => None,
        },
    },
    Right {
        abi: 5,
        layer: Layer::LandlockFiles,
        what: "ioctl on devices",
        cover: |_, facts| {
            Some(if facts.private_root {
                "the private /dev has no device that obeys one, and seccomp lists the requests"
            } else {
                "seccomp lists the requests"
            })
        },
    },
    Right {
        abi: 6,
        layer: Layer::LandlockScopes,
        what: "signals to the outside",
        cover: |_, facts| {
            Some(match (facts.pid_namespace, facts.own_uid) {
                (true, _) => "the pid namespace",
                (false, true) => "its own uid, and seccomp refuses kill",
                (false, false) => "seccomp refuses all signals to others",
            })
        },
    },
    Right {
        abi: 6,
        layer: Layer::LandlockScopes,
        what: "abstract sockets of others",
        cover: |policy, facts| match policy.network {
            Network::None if facts.net_namespace => Some("the empty network namespace"),
            Network::None => no_local_socket(policy, facts),
            Network::Host => Some("the policy grants the machine's network"),
            // Connecting them needs AF_UNIX sockets and connect, both of which a port grant gives.
            Network::Ports { .. } => None,
        },
    },
    Right {
        abi: 9,
        layer: Layer::LandlockFiles,
        what: "sockets by path",
        cover: |policy, facts| {
            if facts.private_root && facts.no_places {
                Some("the private root holds no socket of others")
            } else {
                no_local_socket(policy, facts)
            }
        },
    },
    Right {
        abi: 10,
        layer: Layer::LandlockNetwork,
        what: "UDP ports",
        cover: |policy, facts| match policy.network {
            Network::None if facts.net_namespace => Some("the empty network namespace"),
            Network::Host => Some("the policy grants the machine's network"),
            Network::None | Network::Ports { .. } => Some("seccomp refuses UDP sockets"),
        },
    },
];

/// The filter makes no local socket for a profile that has none, nor for any where one of the machine's would
/// be in reach by a path.
fn no_local_socket(policy: &Policy, facts: &Facts) -> Option<&'static str> {
    let named = policy.allow_syscalls.iter().any(|call| call == "socket" || call == "socketpair");
    let none = policy.profile != Profile::Program && !named;
    (none || !facts.meet(Given::PathSocketsConfined)).then_some("seccomp refuses local sockets")
}

/// What an ABI lacks of one layer.
pub(crate) struct Lack {
    pub(crate) what: &'static str,
    pub(crate) abi: u32,
    pub(crate) covered_by: Option<&'static str>,
}

/// What the kernel lacks of `layer` in a compartment of `policy`, of which those are the `facts`.
pub(crate) fn lacks(layer: Layer, policy: &Policy, facts: &Facts) -> Vec<Lack> {
    let lacking = RIGHTS.iter().filter(|it| it.layer == layer && it.abi > facts.landlock_abi);
    lacking
        .map(|right| Lack {
            what: right.what,
            abi: right.abi,
            covered_by: (right.cover)(policy, facts),
        })
        .collect()
}

/// What of `layer` the kernel lacks and nothing covers in such a compartment: why, and what to do.
pub(crate) fn uncovered(layer: Layer, policy: &Policy, facts: &Facts) -> Option<(String, String)> {
    let abi = facts.landlock_abi;
    if abi == 0 {
        let why = "the kernel has no Landlock, or does not enable it";
        let remedy = "boot with `landlock` in lsm=, on kernel 5.13 or newer";
        return Some((why.to_owned(), remedy.to_owned()));
    }
    let lacks = lacks(layer, policy, facts);
    let lack = lacks.iter().find(|lack| lack.covered_by.is_none())?;
    let why = format!("Landlock ABI {abi} cannot restrict {}", lack.what);
    Some((why, format!("a kernel with Landlock ABI {} ({})", lack.abi, kernel_of(lack.abi))))
}

/// The first kernel with an ABI (landlock(7)).
pub(crate) fn kernel_of(abi: u32) -> &'static str {
    match abi {
        0 | 1 => "5.13",
        2 => "5.19",
        3 => "6.2",
        4 => "6.7",
        5 => "6.10",
        6 => "6.12",
        7 => "6.15",
        8 => "7.0",
        9 => "7.1",
        _ => "7.2",
    }
}

#[cfg(test)]
mod tests;
