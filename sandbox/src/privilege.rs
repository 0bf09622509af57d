//! What privilege the launcher keeps, and how it gives up the rest.
//!
//! Root without CAP_SYS_ADMIN: mounts and the like are made in the user namespace of each compartment, in
//! which its child has every capability until the compartment is closed.

use std::io;

use nix::errno::Errno;

use crate::status::ProcessStatus;
use crate::syscall::{self, Call};

/// A capability that is kept.
#[derive(Debug)]
pub struct Kept {
    /// As in capabilities(7).
    pub name: &'static str,
    /// Its number. Source: `linux/capability.h`.
    pub number: u32,
    /// What fails without it.
    pub reason: &'static str,
}

/// All that the launcher keeps. `docs/security.md` has this table, and the unit's CapabilityBoundingSet= these
/// names; tests compare them.
pub static LAUNCHER: &[Kept] = &[
    Kept {
        name: "CAP_CHOWN",
        number: 0,
        reason: "storage is made over to the plugin's uid, and the supervisor's own directory to its user",
    },
    Kept {
        name: "CAP_DAC_OVERRIDE",
        number: 1,
        reason: "a plugin's storage, of mode 0700, is counted, and removed with the plugin",
    },
    Kept {
        name: "CAP_FOWNER",
        number: 3,
        reason: "the mode of a directory that belongs to a plugin is set, and what it put there is removed",
    },
    Kept {
        name: "CAP_KILL",
        number: 5,
        reason: "signals to the supervisor, and its death with the launcher's: it is another user",
    },
    Kept {
        name: "CAP_SETGID",
        number: 6,
        reason: "the supervisor gets its own gid and loses all groups, and each compartment is mapped to its leased gid",
    },
    Kept {
        name: "CAP_SETUID",
        number: 7,
        reason: "the supervisor gets its own uid, and each compartment is mapped to its leased uid",
    },
];

/// Beyond the last capability that any kernel has.
const LAST: u32 = 63;

/// Gives up every capability that is not in [`LAUNCHER`], and what could give one back: they leave the
/// bounding set as far as CAP_SETPCAP is there for it, and nothing that is executed gains any. Without
/// privilege there is none to give up.
///
/// # Errors
/// What the kernel refuses, or a set that is not as it should be afterwards.
pub fn keep_only_the_launchers() -> io::Result<()> {
    let kept = LAUNCHER.iter().fold(0_u64, |set, kept| set | 1 << kept.number);
    let held = ProcessStatus::of_this_thread()?.capabilities[1];
    bound(kept)?;
    syscall::set_capabilities(held & kept)?;
    syscall::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    let status = ProcessStatus::of_this_thread()?;
    let [inheritable, permitted, effective, _, ambient] = status.capabilities;
    let wanted = held & kept;
    if [inheritable, permitted, effective, ambient] == [0, wanted, wanted, 0] && status.no_new_privs
    {
        Ok(())
    } else {
        Err(io::Error::other(format!("the kernel left the sets {:x?}", status.capabilities)))
    }
}

fn bound(kept: u64) -> Call {
    for capability in (0..=LAST).filter(|capability| kept >> capability & 1 == 0) {
        match syscall::prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
            // The first number that the kernel does not know. Or no CAP_SETPCAP: whoever started this
            // process has bounded it, or there is nothing to bound.
            Err(Errno::EINVAL | Errno::EPERM) => break,
            other => other?,
        }
    }
    let cleared = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    syscall::prctl(libc::PR_CAP_AMBIENT, cleared, 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn file(path: &str) -> String {
        fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = file("docs/security.md");
        let found: BTreeSet<&str> =
            page.lines().filter(|line| line.starts_with("| `CAP_")).collect();
        let lines: Vec<String> = LAUNCHER
            .iter()
            .map(|kept| format!("| `{}` | {} | {} |", kept.name, kept.number, kept.reason))
            .collect();
        let expected: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "docs/security.md");
    }

    #[test]
    fn the_unit_bounds_to_the_same() {
        let unit = file("packaging/bulkhead.service");
        let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let found: BTreeSet<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(found, LAUNCHER.iter().map(|kept| kept.name).collect());
        assert!(!found.contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn names_and_numbers_are_those_of_the_kernel() {
        let Ok(header) = fs::read_to_string("/usr/include/linux/capability.h") else {
            println!("SKIP names_and_numbers_are_those_of_the_kernel: no kernel headers here");
            return;
        };
        for kept in LAUNCHER {
            let line = header.lines().find_map(|line| {
                let mut words = line.strip_prefix("#define")?.split_whitespace();
                (words.next()? == kept.name).then(|| words.next())?
            });
            assert_eq!(line, Some(kept.number.to_string().as_str()), "{}", kept.name);
        }
    }
}
