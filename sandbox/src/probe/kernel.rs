//! The layers that the kernel gives or refuses.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid, getgroups};

use super::{Capability, State};
use crate::cover::{self, kernel_of};
use crate::kernel_audit::{self, Awaited};
use crate::layer::Layer;
use crate::measure::{LEASE, PRIVATE_ROOT_STANDS_IN};
use crate::policy::Policy;
use crate::seccomp as filter;
use crate::status::ProcessStatus;
use crate::support;
use crate::syscall::{self, Call};

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

fn has(capability: u32) -> bool {
    ProcessStatus::read(std::process::id() as i32)
        .is_ok_and(|status| status.capabilities[2] >> capability & 1 == 1)
}

/// Tries `body` in new namespaces.
fn attempt(namespaces: libc::c_int, body: fn() -> Call) -> Call {
    // SAFETY: every body of this file is bare system calls.
    unsafe { syscall::try_in_child(namespaces, body) }
}

/// Whether each compartment can have a uid of its own.
fn can_lease() -> bool {
    has(CAP_SETUID) && has(CAP_SETGID)
}

/// Whether RLIMIT_NPROC counts what a compartment runs and nothing else: not for uid 0, which the kernel
/// exempts, and not for a uid that is shared without a user namespace.
pub(super) fn counts_processes(namespaced: bool) -> bool {
    can_lease() || namespaced && !geteuid().is_root()
}

pub(super) fn identity(namespaced: bool) -> Vec<Capability> {
    if can_lease() {
        return vec![
            Capability::new(
                Layer::Uid,
                State::Enforced,
                "each compartment can have a uid of its own",
            ),
            Capability::new(Layer::Groups, State::Enforced, "supplementary groups are dropped"),
        ];
    }
    let stands_in = namespaced.then_some(PRIVATE_ROOT_STANDS_IN);
    let state = if namespaced { State::Partial } else { State::Missing };
    let uid = format!("every compartment runs as uid {}", geteuid());
    let uid = if geteuid().is_root() {
        // Nothing makes up for that: it owns the machine's files.
        Capability::new(Layer::Uid, State::Missing, uid).or(LEASE)
    } else {
        Capability::new(Layer::Uid, state, uid).or(LEASE).instead(stands_in)
    };
    let others = getgroups().unwrap_or_default().iter().any(|&group| group != getegid());
    let groups = if others {
        Capability::new(Layer::Groups, state, "supplementary groups cannot be dropped")
            .or(LEASE)
            .instead(stands_in)
    } else {
        Capability::new(Layer::Groups, State::Enforced, "there is none to be dropped")
    };
    vec![uid, groups]
}

pub(super) fn namespaces() -> Vec<Capability> {
    let nothing: fn() -> Call = || Ok(());
    let user = libc::CLONE_NEWUSER;
    let found = attempt(user, nothing);
    let mut layers = Vec::new();
    let kinds = [
        (Layer::PidNamespace, libc::CLONE_NEWPID),
        (Layer::MountNamespace, libc::CLONE_NEWNS),
        (Layer::IpcNamespace, libc::CLONE_NEWIPC),
        (Layer::UtsNamespace, libc::CLONE_NEWUTS),
        (Layer::NetNamespace, libc::CLONE_NEWNET),
    ];
    let tried = |layer, result: Call| match result {
        Ok(()) => Capability::new(layer, State::Enforced, "tried: the kernel makes one"),
        Err(errno) => {
            let (why, remedy) = support::why_no_user_namespace(errno);
            Capability::new(layer, State::Missing, why).or(remedy)
        }
    };
    layers.push(tried(Layer::UserNamespace, found));
    for (layer, flag) in kinds {
        layers.push(tried(layer, found.and_then(|()| attempt(user | flag, nothing))));
    }
    let mount: fn() -> Call = || syscall::mount(c"tmpfs", c"/tmp", 0, c"size=4096");
    layers.push(tried(
        Layer::PrivateRoot,
        found.and_then(|()| attempt(user | libc::CLONE_NEWNS, mount)),
    ));
    let mount: fn() -> Call = || syscall::mount(c"proc", c"/proc", 0, c"");
    let proc = found.and_then(|()| attempt(user | libc::CLONE_NEWNS | libc::CLONE_NEWPID, mount));
    layers.push(match proc {
        Ok(()) => Capability::new(Layer::Proc, State::Enforced, "tried: a private /proc can be mounted"),
        Err(errno) => Capability::new(
            Layer::Proc,
            State::Missing,
            format!("a private /proc cannot be mounted: {}", errno.desc()),
        )
        .or("needed only where a policy asks for /proc; nothing may be mounted over parts of the machine's own"),
    });
    layers
}

pub(super) fn landlock(namespaced: bool) -> Vec<Capability> {
    let abi = support::landlock_abi();
    let policy = Policy::default();
    let facts = policy.facts(namespaced, can_lease(), abi);
    [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes]
        .into_iter()
        .map(|layer| {
            if abi == 0 {
                return Capability::new(
                    layer,
                    State::Missing,
                    "the kernel has no Landlock, or does not enable it",
                )
                .or("boot with `landlock` in lsm=, on kernel 5.13 or newer");
            }
            let lacks = cover::lacks(layer, &policy, &facts);
            let Some(newest) = lacks.iter().map(|lack| lack.abi).max() else {
                return Capability::new(
                    layer,
                    State::Enforced,
                    format!("ABI {abi}: all that is used"),
                );
            };
            let words: Vec<String> = lacks
                .iter()
                .map(|lack| {
                    format!("{} ({})", lack.what, lack.covered_by.unwrap_or("nothing covers it"))
                })
                .collect();
            let state = match layer {
                // Nothing of it is there at all below the ABI that brought it.
                Layer::LandlockNetwork if abi < 4 => State::Missing,
                Layer::LandlockScopes if abi < 6 => State::Missing,
                _ if lacks.iter().all(|lack| lack.covered_by.is_some()) => State::Enforced,
                _ => State::Partial,
            };
            Capability::new(layer, state, format!("ABI {abi}, without {}", words.join(", ")))
                .or(format!("a kernel with Landlock ABI {newest} ({})", kernel_of(newest)))
        })
        .collect()
}

/// A filter of one instruction, the same for all calls.
const fn always(action: u32) -> [libc::sock_filter; 1] {
    [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }]
}

static PASS: [libc::sock_filter; 1] = always(libc::SECCOMP_RET_ALLOW);
/// Allows as well, and the kernel writes a record as of a refusal.
static LOG: [libc::sock_filter; 1] = always(libc::SECCOMP_RET_LOG);

fn filtered(program: &[libc::sock_filter]) -> Call {
    syscall::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    filter::install(program)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))
}

pub(super) fn seccomp() -> Capability {
    match attempt(0, || filtered(&PASS)) {
        Ok(()) => Capability::new(Layer::Seccomp, State::Enforced, "tried: filters are accepted"),
        Err(errno) => {
            let detail = format!("a filter was refused: {}", errno.desc());
            Capability::new(Layer::Seccomp, State::Missing, detail).or(
                "a kernel with CONFIG_SECCOMP_FILTER; in a container, one that lets seccomp(2) through",
            )
        }
    }
}

pub(super) fn audit() -> Capability {
    let missing = |why: String, remedy: &str| {
        let detail = format!("a call that seccomp refuses cannot be named: {why}");
        Capability::new(Layer::Audit, State::Missing, detail).or(remedy)
    };
    let stream = match kernel_audit::open() {
        Ok(stream) => stream,
        Err(error) => {
            return missing(
                error.to_string(),
                "for the service, install bulkhead-audit.socket beside its unit; for a command, be root",
            );
        }
    };
    // Its own end is the call that it is seen to make.
    let tried = attempt(0, || filtered(&LOG));
    let seen = kernel_audit::gather(stream.as_fd(), geteuid().as_raw(), Awaited::Call, 1);
    if tried.is_ok() && seen.last_call().is_none() {
        return missing(
            "the kernel's audit stream can be opened, and tells nothing".to_owned(),
            "it tells what happens to the network namespace of the machine: in a container, start it in that \
             (--network host)",
        );
    }
    let detail = "tried: a call that seccomp refuses can be named";
    Capability::new(Layer::Audit, State::Enforced, detail)
}
