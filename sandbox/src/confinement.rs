//! The compartment that a program of ours makes around itself: the supervisor.
//!
//! Theory of operation. The program is trusted when it starts and no longer once it has read what a
//! stranger wrote. So it gives up in between, while it still has one thread, what it will not need:
//! every file but those named, every other program, every other process, every other service of the
//! machine. The layers are those of a plugin's compartment, and they are measured in the same way; a
//! namespace is none of them, as the supervisor serves on the machine's sockets and reads its cgroups.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use crate::capabilities;
use crate::enforcement::{Enforcement, Measured};
use crate::layer::Layer;
use crate::measure::{self, Found};
use crate::report::LandlockStatus;
use crate::ruleset::Rules;
use crate::seccomp::{self, Facts};
use crate::status::ProcessStatus;
use crate::support;
use crate::syscall::{self, Call};

/// What a program goes on to need. All else is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Files and directories to read, with what is beneath them. A path that is not there is passed over.
    pub read: Vec<PathBuf>,
    /// Directories to write beneath as well.
    pub write: Vec<PathBuf>,
    /// Directories with local sockets of others that it goes on to send to, from a socket that it has
    /// already. Landlock before ABI 9 holds nobody from those.
    pub sockets: Vec<PathBuf>,
    /// The uid is nobody else's, so that the kernel keeps its signals from all other processes.
    pub own_uid: bool,
}

/// What an older Landlock lacks of this compartment, and what does its work there: one line per right.
const COVERED: &[(u32, Layer, &str, &str)] = &[
    (3, Layer::LandlockFiles, "truncating files", "own uid, and seccomp refuses truncate"),
    (5, Layer::LandlockFiles, "ioctl on devices", "no device can be opened"),
    (9, Layer::LandlockFiles, "sockets by path", "seccomp refuses local sockets"),
    (4, Layer::LandlockNetwork, "TCP ports", "seccomp refuses bind and listen"),
    (
        6,
        Layer::LandlockScopes,
        "signals to others",
        "seccomp refuses kill, and a uid of its own or else seccomp those to threads",
    ),
    (6, Layer::LandlockScopes, "abstract sockets of others", "seccomp refuses local sockets"),
];

impl Confinement {
    /// Puts it in force, for good, and tells what of it is. Nothing that fails keeps the rest from being
    /// done: whether to go on is for the caller to decide.
    ///
    /// Call it while the process has one thread. Later ones inherit it; an earlier one would not, and then
    /// no layer counts as in force.
    pub fn enforce(&self) -> Enforcement {
        // What it holds in memory, a core file would hold; and who is of the same user must not look into it.
        let _ = syscall::set_limit(libc::RLIMIT_CORE, 0);
        let _ = syscall::prctl(libc::PR_SET_DUMPABLE, 0, 0);
        let _ = capabilities::clear();
        // Landlock and seccomp are given to the unprivileged only with this.
        let _ = syscall::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0);
        let rules = Rules::of_ourselves(&self.read, &self.write, &self.sockets);
        let count = rules.as_ref().map_or(0, Rules::len);
        let landlock = match support::landlock_abi() {
            0 => Ok(LandlockStatus::None),
            _ => rules.map_err(|_| Errno::EINVAL).and_then(|rules| restrict(&rules)),
        };
        // What Landlock does not govern, the filter refuses.
        let governing = matches!(landlock, Ok(LandlockStatus::Full | LandlockStatus::Partial));
        let landlock_abi = if governing { support::landlock_abi() } else { 0 };
        let filter = seccomp::compile_supervisor(Facts {
            landlock_abi,
            own_uid: self.own_uid,
            ..Facts::default()
        });
        let filtered = seccomp::install(&filter);
        let status = ProcessStatus::of_this_thread();
        measure(status.ok().as_ref(), landlock, count, filtered)
    }
}

/// Restricts, and finds out whether that is true: `/` can be listed before, and not after.
fn restrict(rules: &Rules) -> Call<LandlockStatus> {
    drop(syscall::open(c"/", libc::O_RDONLY)?);
    let status = rules.restrict(None)?;
    match syscall::open(c"/", libc::O_RDONLY) {
        Err(Errno::EACCES) => Ok(status),
        Ok(_) => Err(Errno::EPROTO),
        Err(errno) => Err(errno),
    }
}

fn measure(
    status: Option<&ProcessStatus>,
    landlock: Call<LandlockStatus>,
    rules: usize,
    filtered: io::Result<()>,
) -> Enforcement {
    let mut seccomp = measure::seccomp("profile supervisor".to_owned(), status);
    if let Err(error) = filtered {
        let remedy =
            "a kernel with CONFIG_SECCOMP_FILTER; in a container, one that lets seccomp(2) through";
        seccomp = seccomp.because(format!("the filter was refused: {error}"), remedy);
    }
    let mut layers = identity(status);
    layers.extend([
        measure::capabilities(status, false).at(Layer::Capabilities),
        measure::no_new_privs(status).at(Layer::NoNewPrivs),
    ]);
    layers.extend(landlocked(landlock, rules));
    layers.push(seccomp.at(Layer::Seccomp));
    // A thread that is older than the restrictions does not have them.
    if status.is_none_or(|status| status.threads != 1) {
        layers = layers.into_iter().map(|layer| unconfined_thread(&layer)).collect();
    }
    Enforcement { layers }
}

fn identity(status: Option<&ProcessStatus>) -> Vec<Measured> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let own = uid != 0 && status.is_some_and(|status| status.uids == [uid; 4]);
    let groups = status.is_some_and(|status| status.groups.iter().all(|group| *group == gid));
    vec![
        Found::new("not the superuser's", format!("uid {uid}"), own).at(Layer::Uid),
        Found::new("none", if groups { "none" } else { "those of the invoking user" }, groups)
            .because(
                "supplementary groups cannot be dropped without privilege",
                "run the service as root, which gives the supervisor a user of its own",
            )
            .at(Layer::Groups),
    ]
}

fn landlocked(landlock: Call<LandlockStatus>, rules: usize) -> Vec<Measured> {
    let abi = support::landlock_abi();
    let asked = [
        (Layer::LandlockFiles, format!("{rules} rules, nothing executed")),
        (Layer::LandlockNetwork, "no TCP port to listen on".to_owned()),
        (Layer::LandlockScopes, "signals, abstract sockets".to_owned()),
    ];
    let found = |layer, asked: String| match landlock {
        _ if abi == 0 => Found::new(asked, "none", false).because(
            "the kernel has no Landlock, or does not enable it",
            "boot with `landlock` in lsm=, on kernel 5.13 or newer",
        ),
        Ok(LandlockStatus::Full | LandlockStatus::Partial) => {
            let mut text = vec![format!("in force (ABI {abi})")];
            if layer == Layer::LandlockFiles {
                text.push("a probe was denied".to_owned());
            }
            let lacks = COVERED.iter().filter(|(from, of, ..)| *of == layer && *from > abi);
            text.extend(lacks.map(|(_, _, what, by)| format!("without {what} (covered: {by})")));
            Found::new(asked, text.join("; "), true)
        }
        Ok(LandlockStatus::None) => Found::new(asked, "not in force", false)
            .because("the kernel has it and did not restrict", "report this"),
        Err(errno) => Found::new(asked, "not in force", false)
            .because(format!("restricting failed: {}", errno.desc()), "report this"),
    };
    asked.into_iter().map(|(layer, asked)| found(layer, asked).at(layer)).collect()
}

fn unconfined_thread(layer: &Measured) -> Measured {
    Found::new(layer.asked.clone(), "not in every thread", false)
        .because("a thread had been started before", "report this")
        .at(layer.layer)
}

#[cfg(test)]
mod tests;
