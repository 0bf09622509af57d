use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use super::dispatch::{self, ALLOW, ARCHITECTURE, KILL, X32, refuse};
use super::rules::{Rule, Rules};
use super::simulate::{Call, Outcome, run};
use super::*;

/// Every combination of facts that any line tells apart.
fn facts() -> Vec<Facts> {
    let mut all = Vec::new();
    for landlock_abi in [0, 2, 3, 6, 9] {
        for namespaces in [false, true] {
            for (tcp, udp) in [(false, false), (true, false), (false, true), (true, true)] {
                all.push(Facts {
                    landlock_abi,
                    private_root: namespaces,
                    no_places: namespaces,
                    pid_namespace: namespaces,
                    own_uid: namespaces,
                    net_namespace: namespaces,
                    sockets: SocketGrant { tcp, udp },
                });
            }
        }
    }
    all
}

/// A current kernel, all namespaces, no network.
const USUAL: Facts = Facts {
    landlock_abi: 6,
    private_root: true,
    no_places: true,
    pid_namespace: true,
    own_uid: true,
    net_namespace: true,
    sockets: SocketGrant { tcp: false, udp: false },
};

fn call(number: u32, arguments: [u64; 6]) -> Call {
    Call { architecture: ARCHITECTURE, number, arguments }
}

fn number(name: &str) -> u32 {
    calls::number(name).unwrap()
}

/// What `profile` does with `name(arguments…)`.
fn action(profile: Profile, facts: Facts, name: &str, arguments: &[u64]) -> u32 {
    action_with(profile, &[], facts, name, arguments)
}

fn action_with(profile: Profile, extra: &[&str], facts: Facts, name: &str, given: &[u64]) -> u32 {
    let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
    let program = compile(profile, &extra, &facts).unwrap();
    let mut arguments = [0; 6];
    arguments[..given.len()].copy_from_slice(given);
    run(&program, &call(number(name), arguments)).action
}

/// `seccompiler`'s own program for the same rules.
fn theirs(rules: &Rules) -> Vec<libc::sock_filter> {
    let map: BTreeMap<i64, Vec<SeccompRule>> = calls::HERE
        .iter()
        .filter_map(|(_, number)| Some((*number, rules.get(*number)?)))
        .filter(|(_, rule)| rule.allow || !rule.clauses.is_empty())
        .map(|(number, rule)| {
            let clauses = if rule.allow { &[][..] } else { &rule.clauses[..] };
            (i64::from(number), clauses.iter().map(|clause| dispatch::condition(clause)).collect())
        })
        .collect();
    let target = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter =
        SeccompFilter::new(map, SeccompAction::Trap, SeccompAction::Allow, target).unwrap();
    BpfProgram::try_from(filter)
        .unwrap()
        .into_iter()
        .map(|from| libc::sock_filter { code: from.code, jt: from.jt, jf: from.jf, k: from.k })
        .collect()
}

/// The values around what `rule` compares: for each argument, on, beside, and the same in the low half only.
fn grid(rule: &Rule) -> Vec<[u64; 6]> {
    let mut values: [BTreeSet<u64>; 6] = Default::default();
    for check in rule.clauses.iter().copied().flatten() {
        let around: Vec<u32> = match check.test {
            Test::Is(value) | Test::IsNot(value) | Test::AtLeast(value) | Test::AtMost(value) => {
                vec![value, value.wrapping_sub(1), value.wrapping_add(1)]
            }
            Test::Bits { mask, value } => {
                let flips = (0..32).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
                flips.map(|bit| value ^ bit).chain([value, mask, !mask, value | !mask]).collect()
            }
        };
        let argument = &mut values[usize::from(check.index)];
        for value in around {
            argument.extend([u64::from(value), u64::from(value) | 1 << 32]);
        }
        argument.extend([0, u64::MAX]);
    }
    let mut grid = vec![[0; 6]];
    for (index, values) in values.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
        grid = grid
            .into_iter()
            .flat_map(|tuple| {
                values.iter().map(move |value| {
                    let mut tuple = tuple;
                    tuple[index] = *value;
                    tuple
                })
            })
            .collect();
    }
    grid
}

/// What must happen when the arguments do not satisfy the rules.
fn refusal(rules: &Rules, number: u32) -> u32 {
    match rules.get(number) {
        Some(Rule { answer: Some(errno), .. }) => refuse(errno.number),
        Some(_) => KILL,
        None if calls::name(number).is_some() => KILL,
        None => refuse(libc::ENOSYS as u16),
    }
}

#[test]
fn ours_decides_as_seccompilers_own_program_for_every_number_and_around_every_argument() {
    let mut compared = 0usize;
    let mut allowed = 0usize;
    for profile in Profile::ALL {
        for facts in facts() {
            let rules = Rules::of(lists::of(profile), facts);
            let (ours, theirs) = (compile(profile, &[], &facts).unwrap(), theirs(&rules));
            for number in (0..600).chain([X32 - 1]) {
                let tuples = match rules.get(number) {
                    Some(rule) if !rule.allow => grid(rule),
                    _ => vec![[0; 6], [u64::MAX; 6]],
                };
                for arguments in tuples {
                    let call = call(number, arguments);
                    let expected = match run(&theirs, &call).action {
                        ALLOW => ALLOW,
                        _ => refusal(&rules, number),
                    };
                    let Outcome { action, .. } = run(&ours, &call);
                    assert_eq!(action, expected, "{profile} {facts:?} {call:x?}");
                    compared += 1;
                    allowed += usize::from(expected == ALLOW);
                }
            }
        }
    }
    println!("{compared} calls compared, {allowed} of them allowed");
    assert!(allowed > 10_000 && compared - allowed > 100_000, "the grid is lopsided");
}

#[test]
fn x32_and_foreign_architectures_are_killed_for_every_number() {
    for profile in Profile::ALL {
        let program = compile(profile, &[], &USUAL).unwrap();
        for number in 0..600 {
            // i386's audit name: what `int 0x80` arrives as.
            for foreign in [0x4000_0003, 0x4000_0028, 0, u32::MAX] {
                let call = Call { architecture: foreign, ..call(number, [0; 6]) };
                assert_eq!(run(&program, &call).action, KILL);
            }
            assert_eq!(run(&program, &call(number | X32, [0; 6])).action, KILL);
        }
        assert_eq!(run(&program, &call(u32::MAX, [0; 6])).action, KILL);
        // The control: the same machine allows what the profile has.
        assert_eq!(run(&program, &call(number("read"), [0; 6])).action, ALLOW);
    }
}

#[test]
fn programs_are_small_and_shallow() {
    for profile in Profile::ALL {
        for (facts, label) in [(USUAL, "no network"), (facts().pop().unwrap(), "tcp and udp")] {
            let rules = Rules::of(lists::of(profile), facts);
            let ours = compile(profile, &[], &facts).unwrap();
            let theirs = theirs(&rules);
            let steps = |program: &[libc::sock_filter]| -> usize {
                calls::HERE.iter().map(|(_, n)| run(program, &call(*n, [0; 6])).steps).sum()
            };
            println!(
                "{profile}, {label}: {} instructions (seccompiler alone {}), {} run over all numbers \
                 (seccompiler alone {})",
                ours.len(),
                theirs.len(),
                steps(&ours),
                steps(&theirs)
            );
            assert!(ours.len() <= 470, "{profile} has {} instructions", ours.len());
            assert!(steps(&ours) * 5 < steps(&theirs));
        }
    }
}

/// A conditional jump reaches 255 instructions. No profile has as many argument rules as this.
#[test]
fn far_branches_are_reached() {
    let rules = Rules::of(lists::of(Profile::Program), USUAL);
    let guarded = rules.get(number("mprotect")).unwrap().clone();
    let even = calls::HERE.iter().map(|(_, number)| *number).filter(|number| number % 2 == 0);
    let even = even.map(|number| (number, guarded.clone())).collect();
    let program = dispatch::assemble(&Rules::from_map(even));
    assert!((1000..4096).contains(&program.len()), "{} instructions", program.len());
    for (name, number) in calls::HERE {
        let [holds, fails] = [libc::PROT_READ, libc::PROT_WRITE | libc::PROT_EXEC]
            .map(|prot| run(&program, &call(*number, [0, 0, prot as u64, 0, 0, 0])).action);
        let even = (ALLOW, refuse(libc::EACCES as u16));
        let expected = if number % 2 == 0 { even } else { (KILL, KILL) };
        assert_eq!((holds, fails), expected, "{name}");
    }
}

#[test]
fn every_name_in_the_lists_exists() {
    let lists = Profile::ALL.into_iter().flat_map(lists::of).chain(lists::INIT);
    let lines = lists.flat_map(|list| list.lines);
    let names = lines.flat_map(|line| line.calls);
    for name in names.chain(lists::NEVER.iter().flat_map(|never| never.calls)) {
        assert!(calls::exists(name), "`{name}` is a call of no architecture");
    }
}

#[test]
fn no_call_is_both_guarded_and_allowed_outright() {
    for profile in Profile::ALL {
        for facts in facts() {
            let rules = Rules::of(lists::of(profile), facts);
            for (name, number) in calls::HERE {
                if let Some(rule) = rules.get(*number) {
                    assert!(!rule.allow || rule.clauses.is_empty(), "{profile} {facts:?}: {name}");
                }
            }
        }
    }
}

#[test]
fn every_clause_checks_something_and_every_line_says_why() {
    for line in Profile::ALL.into_iter().flat_map(lists::of).flat_map(|list| list.lines) {
        assert!(!line.reason.is_empty() && !line.calls.is_empty(), "{line:?}");
        if let Verdict::When(clauses) = line.verdict {
            assert!(
                !clauses.is_empty() && clauses.iter().all(|clause| !clause.is_empty()),
                "{line:?}"
            );
        }
    }
    assert!(lists::NEVER.iter().all(|never| !never.reason.is_empty()));
}

/// `compute` ⊂ `plugin` ⊂ `program`, and no call that works in one dies in a broader one.
#[test]
fn a_broader_profile_allows_what_a_narrower_one_does() {
    for facts in facts() {
        let programs = Profile::ALL.map(|profile| compile(profile, &[], &facts).unwrap());
        let broadest = Rules::of(lists::of(Profile::Program), facts);
        for (name, number) in calls::HERE {
            let mut tuples = vec![[0; 6], [u64::MAX; 6]];
            tuples.extend(broadest.get(*number).map(grid).unwrap_or_default());
            for arguments in tuples {
                let call = call(*number, arguments);
                let verdicts = programs.each_ref().map(|program| run(program, &call).action);
                for pair in verdicts.windows(2) {
                    let rank = |action| match action {
                        ALLOW => 2,
                        KILL => 0,
                        _ => 1,
                    };
                    assert!(rank(pair[0]) <= rank(pair[1]), "{name} {call:x?} {facts:?}");
                }
            }
        }
    }
}

#[test]
fn the_never_list_is_never_allowed_and_never_added() {
    for facts in facts() {
        for never in lists::NEVER.iter().filter(|n| !n.unless.is_some_and(|g| facts.meet(g))) {
            for name in never.calls.iter().copied().filter(|name| calls::number(name).is_some()) {
                for profile in Profile::ALL {
                    let rules = Rules::of(lists::of(profile), facts);
                    // The one exception is a floor for extras only: the network grant brings `connect`.
                    let granted = name == "connect" && facts.meet(Given::Internet);
                    let allowed = rules
                        .get(number(name))
                        .is_some_and(|rule| rule.allow || !rule.clauses.is_empty());
                    assert!(!allowed || granted, "{profile} allows `{name}` under {facts:?}");
                    let refused = compile(profile, &[name.to_owned()], &facts).unwrap_err();
                    let expected =
                        CompileError::Never { call: name.to_owned(), reason: never.reason };
                    assert_eq!(refused, expected);
                }
            }
        }
    }
}

#[test]
fn extras_are_added_by_number_or_under_their_argument_rules() {
    let sets = |name, arguments: &[u64]| {
        (
            action(Profile::Plugin, USUAL, name, arguments),
            action_with(Profile::Plugin, &[name], USUAL, name, arguments),
        )
    };
    assert_eq!(sets("fork", &[]), (KILL, ALLOW));
    assert_eq!(sets("inotify_init1", &[]), (KILL, ALLOW));
    // Guarded: the flags are still looked at.
    let namespace = libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64;
    assert_eq!(sets("clone", &[libc::SIGCHLD as u64]), (KILL, ALLOW));
    assert_eq!(sets("clone", &[namespace]), (KILL, KILL));
    let unix = libc::AF_UNIX as u64;
    let unsupported = refuse(libc::EAFNOSUPPORT as u16);
    assert_eq!(sets("socket", &[unix, 1]), (unsupported, ALLOW));
    assert_eq!(sets("socket", &[libc::AF_NETLINK as u64, 3]), (unsupported, unsupported));
    // Already there.
    assert_eq!(sets("read", &[]), (ALLOW, ALLOW));
}

#[test]
fn an_unknown_extra_is_refused_with_the_nearest_name() {
    let refused = compile(Profile::Plugin, &["opnat".to_owned()], &USUAL).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no system call is named `opnat` (did you mean `openat`?); syscalls(2) lists them"
    );
    let refused = compile(Profile::Plugin, &["ptrace".to_owned()], &USUAL).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "system call `ptrace` can never be allowed: reads or steers another process; remove it \
         from the policy"
    );
}

#[test]
fn the_attack_list_is_refused_by_every_profile() {
    let errno = |number: i32| refuse(number as u16);
    let write_execute = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    for profile in Profile::ALL {
        let soft = |errno: u32| if profile == Profile::Program { errno } else { KILL };
        let no_family = match profile {
            Profile::Compute => KILL,
            _ => errno(libc::EAFNOSUPPORT),
        };
        let cases: &[(&str, &[u64], u32)] = &[
            ("io_uring_setup", &[8], KILL),
            ("ptrace", &[], KILL),
            ("process_vm_readv", &[], KILL),
            ("userfaultfd", &[], KILL),
            ("keyctl", &[], KILL),
            ("bpf", &[], KILL),
            ("open_by_handle_at", &[], KILL),
            ("unshare", &[libc::CLONE_NEWUSER as u64], soft(errno(libc::EPERM))),
            ("setns", &[], soft(errno(libc::EPERM))),
            ("mount", &[], soft(errno(libc::EPERM))),
            ("clone3", &[], errno(libc::ENOSYS)),
            ("clone", &[libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64], KILL),
            ("mmap", &[0, 4096, write_execute, 0x22], soft(errno(libc::EACCES))),
            ("mprotect", &[0, 4096, write_execute], soft(errno(libc::EACCES))),
            ("memfd_create", &[0, 0], errno(libc::EACCES)),
            ("ioctl", &[0, libc::TIOCSTI], errno(libc::ENOTTY)),
            ("ioctl", &[0, libc::TIOCLINUX], errno(libc::ENOTTY)),
            ("ioctl", &[0, libc::TIOCSTI | 1 << 32], errno(libc::ENOTTY)),
            ("socket", &[libc::AF_NETLINK as u64, 3, 0], no_family),
            ("socket", &[libc::AF_PACKET as u64, 3, 0], no_family),
            ("socket", &[libc::AF_VSOCK as u64, 1, 0], no_family),
            ("socket", &[libc::AF_INET as u64, 3, 1], no_family),
            ("socket", &[libc::AF_INET as u64, 2, 0], no_family),
            ("socket", &[libc::AF_INET as u64, 1, 0], no_family),
            ("sendto", &[0, 0, 0, libc::MSG_FASTOPEN as u64], errno(libc::EOPNOTSUPP)),
            ("sendmsg", &[0, 0, libc::MSG_FASTOPEN as u64], errno(libc::EOPNOTSUPP)),
            ("sendmmsg", &[0, 0, 0, libc::MSG_FASTOPEN as u64], errno(libc::EOPNOTSUPP)),
            ("prlimit64", &[1], errno(libc::EPERM)),
            ("sched_setscheduler", &[0, libc::SCHED_FIFO as u64], errno(libc::EPERM)),
            ("prctl", &[libc::PR_SET_SECCOMP as u64], errno(libc::EINVAL)),
            ("prctl", &[libc::PR_SET_DUMPABLE as u64, 1], errno(libc::EINVAL)),
        ];
        for (name, arguments, expected) in cases {
            let got = action(profile, USUAL, name, arguments);
            assert_eq!(got, *expected, "{profile}: {name} {arguments:x?} is {got:#x}");
        }
    }
}

#[test]
fn a_grant_opens_its_own_protocol_and_no_other() {
    let inet = libc::AF_INET6 as u64;
    let (stream, datagram, raw) = (1 | libc::SOCK_CLOEXEC as u64, 2, 3);
    let (mptcp, sctp) = (262, 132);
    for (tcp, udp) in [(false, false), (true, false), (false, true)] {
        let facts = Facts { sockets: SocketGrant { tcp, udp }, ..USUAL };
        let made = |kind: u64, protocol: u64| {
            action(Profile::Plugin, facts, "socket", &[inet, kind, protocol]) == ALLOW
        };
        assert_eq!((made(stream, 0), made(stream, 6)), (tcp, tcp));
        assert_eq!((made(datagram, 0), made(datagram, 17)), (udp, udp));
        assert!(!made(stream, mptcp) && !made(stream, sctp) && !made(raw, 0) && !made(raw, 6));
        let connected = action(Profile::Plugin, facts, "connect", &[]) == ALLOW;
        assert_eq!(connected, tcp || udp);
    }
}

#[test]
fn an_older_landlock_narrows_the_filter() {
    let old = Facts { landlock_abi: 2, ..USUAL };
    let open = |facts, flags: i32| action(Profile::Plugin, facts, "openat", &[0, 0, flags as u64]);
    for (flags, expected) in [
        (libc::O_RDONLY, ALLOW),
        (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, ALLOW),
        (libc::O_RDWR | libc::O_TRUNC, ALLOW),
        (libc::O_RDONLY | libc::O_TRUNC, refuse(libc::EACCES as u16)),
    ] {
        assert_eq!(open(old, flags), expected, "{flags:#o}");
        assert_eq!(open(USUAL, flags), ALLOW, "{flags:#o}");
    }
    assert_eq!(action(Profile::Plugin, USUAL, "truncate", &[]), ALLOW);
    assert_eq!(action(Profile::Plugin, old, "truncate", &[]), refuse(libc::EACCES as u16));

    // Signals: a pid namespace is as good as Landlock's scope; with neither there is no `kill`.
    let unconfined = Facts { pid_namespace: false, ..old };
    let shared = Facts { own_uid: false, ..unconfined };
    let refused = refuse(libc::EPERM as u16);
    for profile in Profile::ALL {
        assert_eq!(action(profile, old, "kill", &[2, 15]), ALLOW);
        assert_eq!(action(profile, unconfined, "kill", &[2, 15]), refused);
        // A thread of another is as good a target; but not one of another user's.
        for call in ["tgkill", "tkill"] {
            assert_eq!(action(profile, unconfined, call, &[2, 2, 9]), ALLOW);
            assert_eq!(action(profile, shared, call, &[2, 2, 9]), refused);
            let scoped = Facts { landlock_abi: 6, ..shared };
            assert_eq!(action(profile, scoped, call, &[2, 2, 9]), ALLOW);
        }
        for call in ["kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill"] {
            assert!(check_extra(&[call.to_owned()], &shared).is_err(), "{call}");
            assert_ne!(action(profile, shared, call, &[2, 2, 9]), ALLOW, "{call}");
        }
    }
    // Groups are for those that have children.
    let group = u64::from(-1i32 as u32);
    assert_eq!(action(Profile::Plugin, USUAL, "kill", &[group, 15]), refuse(libc::EPERM as u16));
    assert_eq!(action(Profile::Program, USUAL, "kill", &[group, 15]), ALLOW);
}

#[test]
fn where_a_socket_of_the_host_is_in_reach_none_is_made_that_could_reach_it() {
    let unix = libc::AF_UNIX as u64;
    let (stream, datagram, raw, packets) = (1, 2, 3, 5);
    let unsupported = refuse(libc::EAFNOSUPPORT as u16);
    let named = ["socket", "socketpair"];
    let bare = |landlock_abi| Facts { landlock_abi, ..Facts::default() };
    let rooted = Facts { private_root: true, no_places: true, net_namespace: true, ..bare(8) };
    let shown = Facts { no_places: false, ..rooted };
    for (facts, extra) in
        [(bare(8), &[][..]), (bare(8), &named), (bare(5), &named), (shown, &[]), (shown, &named)]
    {
        for profile in [Profile::Plugin, Profile::Program] {
            let of = |name, given: &[u64]| action_with(profile, extra, facts, name, given);
            for kind in [stream, datagram, raw, packets] {
                assert_eq!(of("socket", &[unix, kind]), unsupported, "{profile} {extra:?}");
            }
            // A pair that is connected for good is no way out.
            assert_eq!(of("socketpair", &[unix, stream]), ALLOW);
            assert_eq!(of("socketpair", &[unix, packets]), ALLOW);
            assert_eq!(of("socketpair", &[unix, datagram]), unsupported);
            assert_eq!(of("socketpair", &[unix, raw]), unsupported);
            assert_ne!(of("connect", &[]), ALLOW);
        }
    }
    // The controls: with what keeps them out of reach there are some, for whom they are in the profile or named.
    let pair: (&str, &[u64]) = ("socketpair", &[unix, datagram]);
    for facts in [bare(9), Facts { landlock_abi: 9, ..shown }, Facts { landlock_abi: 5, ..rooted }]
    {
        for (name, given) in [("socket", &[unix, stream][..]), ("connect", &[]), pair] {
            assert_eq!(action(Profile::Program, facts, name, given), ALLOW, "{facts:?}");
        }
        assert_eq!(action_with(Profile::Plugin, &named, facts, pair.0, pair.1), ALLOW);
    }
    // An abstract name needs no path.
    let without_net = Facts { landlock_abi: 5, net_namespace: false, ..rooted };
    assert_eq!(action(Profile::Program, without_net, pair.0, pair.1), unsupported);
}

#[test]
fn a_plugin_makes_no_socket_that_sends_to_whom_it_names() {
    let unix = libc::AF_UNIX as u64;
    let unsupported = refuse(libc::EAFNOSUPPORT as u16);
    for profile in [Profile::Compute, Profile::Plugin] {
        let pair = |kind: libc::c_int, flags: libc::c_int| {
            action(profile, Facts::WIDEST, "socketpair", &[unix, (kind | flags) as u64])
        };
        for flags in [0, libc::SOCK_CLOEXEC, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK] {
            assert_eq!(pair(libc::SOCK_STREAM, flags), ALLOW);
            assert_eq!(pair(libc::SOCK_SEQPACKET, flags), ALLOW);
            assert_eq!(pair(libc::SOCK_DGRAM, flags), unsupported);
        }
    }
}

#[test]
fn the_init_can_wait_signal_and_end_and_nothing_else() {
    let program = compile_init();
    let allowed: Vec<&str> = calls::HERE
        .iter()
        .filter(|(_, number)| run(&program, &call(*number, [0; 6])).action != KILL)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(
        allowed,
        [
            "close",
            "exit",
            "exit_group",
            "kill",
            "restart_syscall",
            "rt_sigprocmask",
            "rt_sigreturn",
            "rt_sigtimedwait",
            "wait4",
            "waitid",
            "write"
        ]
    );
}

#[test]
fn profiles_have_names_that_read_back() {
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse(), Ok(profile));
        assert_eq!(serde_json::to_string(&profile).unwrap(), format!("\"{profile}\""));
    }
    let wrong = "Plugin".parse::<Profile>().unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "`Plugin` is no seccomp profile; use `compute`, `plugin` or `program`"
    );
}

#[test]
fn the_supervisor_may_do_its_work_and_execute_nothing() {
    let program = compile_supervisor(Facts { landlock_abi: 6, ..Facts::default() });
    let answer = |name: &str, given: &[u64]| {
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        run(&program, &call(number(name), arguments)).action
    };
    let unix = libc::AF_UNIX as u64;
    let (stream, datagram, packets) = (1, 2, 5);
    for (name, given) in [
        ("accept4", &[][..]),
        ("connect", &[]),
        ("splice", &[]),
        ("openat2", &[]),
        ("fdatasync", &[]),
        ("inotify_add_watch", &[]),
        ("socket", &[libc::AF_INET6 as u64, stream | libc::SOCK_CLOEXEC as u64, 0]),
        ("socketpair", &[unix, packets]),
    ] {
        assert_eq!(answer(name, given), ALLOW, "{name}");
    }
    // What nobody has thought of is an error.
    for name in ["fanotify_mark", "kill", "chown", "wait4", "setpriority", "swapon"] {
        let expected = if never_allowed(name).is_some() { KILL } else { refuse(1) };
        assert_eq!(answer(name, &[]), expected, "{name}");
    }
    let family = refuse(libc::EAFNOSUPPORT as u16);
    assert_eq!(answer("socket", &[unix, stream]), family);
    assert_eq!(answer("socket", &[libc::AF_NETLINK as u64, 3]), family);
    assert_eq!(answer("socketpair", &[unix, datagram]), family);
    assert_eq!(answer("bind", &[]), refuse(libc::EACCES as u16));
    assert_eq!(answer("clone3", &[]), refuse(libc::ENOSYS as u16));
    for never in lists::NEVER.iter().filter(|line| line.unless.is_none()) {
        for name in never.calls.iter().filter(|name| calls::number(name).is_some()) {
            assert_ne!(answer(name, &[u64::MAX; 6]), ALLOW, "{name}");
        }
    }
    for name in lists::EXECUTING.iter().filter(|name| calls::number(name).is_some()) {
        assert_eq!(answer(name, &[]), KILL, "{name}");
    }
    let newer = Call { architecture: ARCHITECTURE, number: calls::newest() + 1, arguments: [0; 6] };
    assert_eq!(run(&program, &newer).action, refuse(libc::ENOSYS as u16));
}
