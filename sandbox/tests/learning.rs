//! A compartment whose filter asks: what is learned there, and what holds all the same.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_sandbox::attack;
use bulkhead_sandbox::descriptors::seqpacket_pair;
use bulkhead_sandbox::learning::{Doing, LearningError, Listener, Seen, Subject};
use bulkhead_sandbox::seccomp::learning::Decision;
use bulkhead_sandbox::seccomp::{Profile, calls};
use bulkhead_sandbox::{Layer, Policy, SpawnError, Status, Strictness};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use run::{Command, Finished, program};

/// Runs it and tells what it was asked about.
fn learn(mut command: Command<'_>) -> (Finished, Vec<Seen>) {
    let (ours, theirs) = seqpacket_pair().unwrap();
    command.learner = Some(theirs);
    let policy = command.policy.clone();
    let asked = std::thread::spawn(move || listen(&ours, &policy));
    let finished = command.run();
    (finished, asked.join().unwrap())
}

fn listen(from: &OwnedFd, policy: &Policy) -> Vec<Seen> {
    let listener = Listener::receive(from.as_fd(), policy).unwrap();
    // Nobody stops it: it ends with the last process.
    let (stop, _kept) = seqpacket_pair().unwrap();
    std::iter::from_fn(|| listener.next(stop.as_fd(), &mut |_| {}).unwrap()).collect()
}

fn named(seen: &[Seen]) -> Vec<&Subject> {
    seen.iter().flat_map(|seen| &seen.subjects).collect()
}

#[test]
fn what_a_program_asks_for_is_told_and_the_other_layers_hold() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    // Beneath the compartment's own `/tmp` would be another place.
    let secret = Path::new("/var/tmp").join(outside.path().file_name().unwrap());
    std::fs::write(&secret, "secret").unwrap();
    let script =
        format!("cd /usr; cat {0} ./share/../bin/no-such; echo x >{0}; true", secret.display());
    let (finished, seen) = learn(Command::shell(program(), &script));
    std::fs::remove_file(&secret).unwrap();
    assert_eq!(finished.exit.status, Status::Exited(0), "{}", finished.stderr);
    assert!(!finished.stdout.contains("secret"), "the private root shows it");
    let subjects = named(&seen);
    for (path, doing) in [
        (secret.clone(), Doing::Read),
        (secret, Doing::Write),
        (PathBuf::from("/usr/bin/no-such"), Doing::Read),
        (PathBuf::from("/usr/bin/cat"), Doing::Execute),
    ] {
        assert!(subjects.contains(&&Subject::Path(path.clone(), doing)), "{path:?} {subjects:?}");
    }
    let layer = |layer| finished.enforcement.layers.iter().find(|found| found.layer == layer);
    let seccomp = layer(Layer::Seccomp).unwrap();
    assert!(!seccomp.enforced && seccomp.measured.contains("watched"), "{seccomp:?}");
    assert!(layer(Layer::NoNewPrivs).unwrap().enforced);
}

#[test]
fn a_call_that_some_policy_allows_goes_on_and_one_that_none_allows_kills() {
    let policy = || Policy { profile: Profile::Plugin, ..program() };
    let asked = |seen: &[Seen], call: &str| {
        let number = calls::number(call);
        let seen = seen.iter().find(|seen| Some(seen.number) == number);
        seen.map(|seen| seen.decision)
    };
    // The control: enforced, both end it.
    for attack in ["inotify", "keyctl"] {
        let enforced = Command::attempt(policy(), attack, "").run();
        assert!(
            matches!(enforced.exit.status, Status::Signaled { signal: 31, .. }),
            "{attack}: {:?}",
            enforced.exit
        );
    }
    let (finished, seen) = learn(Command::attempt(policy(), "inotify", ""));
    assert_eq!(asked(&seen, "inotify_init1"), Some(Decision::Allow));
    assert_eq!(finished.exit.status, Status::Exited(0));
    let (finished, seen) = learn(Command::attempt(policy(), "keyctl", ""));
    assert_eq!(asked(&seen, "keyctl"), Some(Decision::Kill));
    assert!(
        matches!(finished.exit.status, Status::Signaled { signal: 9, .. }),
        "{:?}",
        finished.exit
    );
}

#[test]
fn who_may_not_read_what_is_named_learns_nothing() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let mut command = Command::shell(program(), "true");
    command.learner = Some(theirs);
    let policy = command.policy.clone();
    let started = std::thread::spawn(move || drop(command.start()));
    let listener = Listener::receive(ours.as_fd(), &policy).unwrap();
    let (stop, _kept) = seqpacket_pair().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Nothing can be opened any more, its memory neither.
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    let learned = listener.next(stop.as_fd(), &mut |_| {});
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    match learned {
        Err(LearningError::Unreadable { path, .. }) => assert!(path.ends_with("mem"), "{path:?}"),
        other => panic!("{other:?}"),
    }
    // Its first call, the execution, fails by this.
    drop(listener);
    started.join().unwrap();
}

/// Not a test of its own: the process in which an attempt is made.
#[test]
#[ignore = "another test starts it"]
fn attempt_inside() {
    attack::make_if_asked();
}

#[test]
fn an_address_is_told_though_nothing_reaches_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
    let mut command = Command::new(program(), "/bin/bash", &["-c", &script]);
    command.policy.allow_syscalls = Vec::new();
    let (finished, seen) = learn(command);
    assert_ne!(finished.exit.status, Status::Exited(0), "it reached the machine's own network");
    assert!(named(&seen).contains(&&Subject::Connect(address)), "{seen:?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn strict_refuses_to_learn() {
    let (_ours, theirs) = seqpacket_pair().unwrap();
    let mut command = Command::shell(program(), "true");
    command.policy.strictness = Strictness::Strict;
    command.learner = Some(theirs);
    match command.start() {
        Err(SpawnError::Invalid { field: "learner", .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was started"),
    }
}
