//! The filter of a run that learns, and what is decided about a call that it asks about.
//!
//! Such a filter allows what the narrowest profile allows, and asks about all else: whoever
//! has its listener holds each call against the rules ([`Judge`]). A call that the policy refuses by an
//! error is refused by that error, as the program may well go on without; one of which it would die, and
//! which some policy could allow, goes on. What no policy can allow never does: the never-list, and
//! arguments that the lists rule out everywhere.
//!
//! Some calls are asked about although every profile allows them, as they name a file or an address: see
//! [`NAMING`].

use super::dispatch;
use super::line::{Check, Clause, Errno, Test};
use super::rules::{Rule, Rules};
use super::{
    CompileError, Facts, Profile, SocketGrant, calls, decisions, lists, never, never_allowed,
};

/// Calls that name a file or an address, of which a run that learns wants to see every one.
pub const NAMING: &[&str] = &[
    // Opening.
    "open",
    "openat",
    "openat2",
    "creat",
    "execve",
    "execveat",
    // Looking.
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "chdir",
    "getxattr",
    "lgetxattr",
    "getxattrat",
    "listxattr",
    "llistxattr",
    "listxattrat",
    "file_getattr",
    "name_to_handle_at",
    "inotify_add_watch",
    // Changing.
    "truncate",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    // Reaching.
    "connect",
    "bind",
];

/// Refused by an error where they are not granted, and all the same tried: what comes of them is to be seen.
const TRIED: &[&str] = &[
    "open", "openat", "creat", "socket", "connect", "bind", "listen", "accept", "accept4",
    "truncate",
];

/// The filter. It depends on no profile, as what it asks about is decided by a [`Judge`].
pub(crate) fn compile(facts: Facts) -> Vec<libc::sock_filter> {
    let mut rules = Rules::of(lists::of(Profile::Compute), facts);
    rules.ask(|call| NAMING.contains(&call), |call| never_allowed(call).is_some());
    dispatch::assemble(&rules)
}

/// What a filter decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed.
    Allow,
    /// It fails by this error.
    Refuse(Errno),
    /// The process is killed.
    Kill,
}

/// The decisions of a profile, call by call.
#[derive(Debug, Clone)]
pub struct Decisions(Rules);

impl Decisions {
    /// Those of `profile` with the calls in `extra` besides.
    ///
    /// # Errors
    /// As [`check_extra`](super::check_extra).
    pub fn of(profile: Profile, extra: &[String], facts: &Facts) -> Result<Self, CompileError> {
        decisions(profile, extra, *facts).map(Self)
    }

    /// What is decided about call `number` with these arguments.
    pub fn on(&self, number: u32, arguments: &[u64; 6]) -> Decision {
        match self.0.get(number) {
            Some(rule) if permits(rule, arguments) => Decision::Allow,
            Some(rule) => rule.answer.map_or(Decision::Kill, Decision::Refuse),
            None if calls::name(number).is_some() => Decision::Kill,
            None => Decision::Refuse(UNKNOWN),
        }
    }
}

/// As on a kernel that lacks the call.
const UNKNOWN: Errno = super::line::e!(ENOSYS);

fn permits(rule: &Rule, arguments: &[u64; 6]) -> bool {
    let holds = |clause: &Clause| clause.iter().all(|check| check.holds(arguments));
    rule.allow || rule.clauses.iter().any(holds)
}

impl Check {
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        let value = arguments[usize::from(self.index)] as u32;
        match self.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(other) => value != other,
            Test::Bits { mask, value: wanted } => value & mask == wanted,
            Test::AtLeast(least) => value >= least,
            Test::AtMost(most) => value <= most,
        }
    }
}

/// Decides what becomes of a call in a run that learns.
#[derive(Debug, Clone)]
pub struct Judge {
    facts: Facts,
    /// Those of the policy.
    declared: Decisions,
    /// Those of a plugin that has TCP: what is tried although it is refused.
    granted: Decisions,
    /// All that some policy could allow, without a call named besides.
    broadest: Decisions,
}

impl Judge {
    /// For a compartment whose policy has this profile and these calls besides.
    ///
    /// # Errors
    /// As [`check_extra`](super::check_extra).
    pub fn new(profile: Profile, extra: &[String], facts: &Facts) -> Result<Self, CompileError> {
        let declared = Decisions::of(profile, extra, facts)?;
        let tcp = Facts { sockets: SocketGrant { tcp: true, udp: facts.sockets.udp }, ..*facts };
        let granted = Decisions::of(Profile::Plugin, &[], &tcp)?;
        let broadest = Decisions::of(Profile::Program, &[], &tcp)?;
        Ok(Self { facts: *facts, declared, granted, broadest })
    }

    /// What becomes of a call.
    pub fn on(&self, number: u32, arguments: &[u64; 6]) -> Decision {
        let declared = self.declared.on(number, arguments);
        let Some(call) = calls::name(number) else { return declared };
        if declared == Decision::Allow || never(call, self.facts).is_some() {
            return declared;
        }
        let goes_on = match declared {
            // Whoever is told that the kernel lacks a call has another.
            Decision::Refuse(errno) => {
                errno != UNKNOWN
                    && TRIED.contains(&call)
                    && self.granted.on(number, arguments) == Decision::Allow
            }
            _ => self.can_be_allowed(number, arguments),
        };
        if goes_on { Decision::Allow } else { declared }
    }

    /// Whether some policy allows it: by a profile, or by its name.
    fn can_be_allowed(&self, number: u32, arguments: &[u64; 6]) -> bool {
        match self.broadest.0.get(number) {
            Some(rule) if rule.allow || rule.guarded => permits(rule, arguments),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { sockets: SocketGrant { tcp: false, udp: false }, ..Facts::WIDEST };

    fn on(judge: &Judge, call: &str, arguments: [u64; 6]) -> Decision {
        judge.on(calls::number(call).unwrap(), &arguments)
    }

    fn errno(decision: Decision) -> &'static str {
        match decision {
            Decision::Refuse(errno) => errno.name,
            other => panic!("{other:?}"),
        }
    }

    fn first(value: libc::c_int) -> [u64; 6] {
        [value as u64, 0, 0, 0, 0, 0]
    }

    #[test]
    fn what_a_policy_could_allow_goes_on_and_nothing_else() {
        let judge = Judge::new(Profile::Compute, &[], &FACTS).unwrap();
        for call in ["mkdir", "inotify_init1", "fork", "connect", "syncfs", "getpriority"] {
            assert_eq!(on(&judge, call, [0; 6]), Decision::Allow, "{call}");
        }
        let tcp = [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0];
        assert_eq!(on(&judge, "socket", tcp), Decision::Allow);
        // Nothing grants them: they are as they are to be.
        let udp = [libc::AF_INET as u64, libc::SOCK_DGRAM as u64, 0, 0, 0, 0];
        assert_eq!(on(&judge, "socket", udp), Decision::Kill);
        for call in ["ptrace", "io_uring_setup", "bpf", "keyctl", "setxattr"] {
            assert_eq!(on(&judge, call, [0; 6]), Decision::Kill, "{call}");
        }
        let both = libc::PROT_WRITE | libc::PROT_EXEC;
        assert_eq!(on(&judge, "mprotect", [0, 0, both as u64, 0, 0, 0]), Decision::Kill);
    }

    #[test]
    fn what_the_profile_answers_by_an_error_is_answered_so() {
        let plugin = Judge::new(Profile::Plugin, &[], &FACTS).unwrap();
        assert_eq!(errno(on(&plugin, "clone3", [0; 6])), "ENOSYS");
        assert_eq!(errno(on(&plugin, "splice", [0; 6])), "ENOSYS");
        assert_eq!(errno(on(&plugin, "socket", first(libc::AF_UNIX))), "EAFNOSUPPORT");
        let udp = [libc::AF_INET as u64, libc::SOCK_DGRAM as u64, 0, 0, 0, 0];
        assert_eq!(errno(on(&plugin, "socket", udp)), "EAFNOSUPPORT");
        // But what the network section could grant is tried.
        let tcp = [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0];
        assert_eq!(on(&plugin, "socket", tcp), Decision::Allow);
        assert_eq!(on(&plugin, "connect", [0; 6]), Decision::Allow);
        // And where the policy has it, it is as the policy says.
        let program = Judge::new(Profile::Program, &[], &FACTS).unwrap();
        assert_eq!(on(&program, "splice", [0; 6]), Decision::Allow);
        assert_eq!(on(&program, "socket", first(libc::AF_UNIX)), Decision::Allow);
        assert_eq!(errno(on(&program, "unshare", [0; 6])), "EPERM");
        let named = Judge::new(Profile::Plugin, &["splice".to_owned()], &FACTS).unwrap();
        assert_eq!(on(&named, "splice", [0; 6]), Decision::Allow);
    }

    /// The filter, in the simulator, and the decisions agree on all that is not asked about.
    #[test]
    fn the_filter_asks_about_all_that_it_does_not_allow() {
        use super::super::simulate::{Call, run};
        let filter = compile(FACTS);
        let narrowest = Decisions::of(Profile::Compute, &[], &FACTS).unwrap();
        for (name, number) in calls::HERE {
            let call =
                Call { architecture: dispatch::ARCHITECTURE, number: *number, arguments: [0; 6] };
            let action = run(&filter, &call).action;
            match narrowest.on(*number, &[0; 6]) {
                _ if NAMING.contains(name) => assert_eq!(action, dispatch::ASK, "{name}"),
                Decision::Allow => assert_eq!(action, dispatch::ALLOW, "{name}"),
                Decision::Refuse(errno) if never_allowed(name).is_some() => {
                    assert_eq!(action, dispatch::refuse(errno.number), "{name}");
                }
                _ => assert_eq!(action, dispatch::ASK, "{name}"),
            }
        }
        // A message goes on, unless it would connect.
        for (name, flags) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
            let number = calls::number(name).unwrap();
            let mut call = Call { architecture: dispatch::ARCHITECTURE, number, arguments: [0; 6] };
            assert_eq!(run(&filter, &call).action, dispatch::ALLOW, "{name}");
            call.arguments[flags] = libc::MSG_FASTOPEN as u64;
            assert_eq!(run(&filter, &call).action, dispatch::ASK, "{name}");
        }
        let foreign = Call { architecture: 0, number: 0, arguments: [0; 6] };
        assert_eq!(run(&filter, &foreign).action, dispatch::KILL);
        let newer = calls::newest() + 1;
        let newer = Call { architecture: dispatch::ARCHITECTURE, number: newer, arguments: [0; 6] };
        assert_eq!(run(&filter, &newer).action, dispatch::refuse(libc::ENOSYS as u16));
    }

    #[test]
    fn every_name_is_a_call() {
        for call in NAMING.iter().chain(TRIED) {
            assert!(calls::exists(call), "{call}");
        }
    }
}
