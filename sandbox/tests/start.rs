//! Programs of every kind start, end as they do outside, and are measured.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use bulkhead_sandbox::descriptors::{send_with_fds, seqpacket_pair};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Cause, Layer, Mount, Policy, ProgramFile, Status, Strictness};
use run::{Command, program};

#[test]
fn a_program_starts_and_its_output_arrives() {
    let finished = Command::new(program(), "/bin/echo", &["hello"]).run();
    assert_eq!(finished.stdout, "hello\n", "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(0));
}

#[test]
fn exit_codes_come_through() {
    for code in [0, 1, 7, 126, 255] {
        let finished = Command::shell(program(), &format!("exit {code}")).run();
        assert_eq!(finished.exit.status, Status::Exited(code));
        assert_eq!(finished.exit.cause, Cause::Code(code));
    }
}

#[test]
fn the_true_signal_is_told_even_of_an_abort() {
    for (name, signal) in [("TERM", 15), ("ABRT", 6), ("SEGV", 11), ("KILL", 9), ("USR1", 10)] {
        let finished = Command::shell(program(), &format!("kill -{name} $$")).run();
        let told = finished.exit.status;
        assert!(
            matches!(told, Status::Signaled { signal: found, .. } if found == signal),
            "{name}: {told:?}"
        );
        assert_eq!(finished.exit.cause, Cause::Signal(signal));
    }
}

#[test]
fn a_program_runs_by_descriptor_under_every_profile() {
    for profile in Profile::ALL {
        let policy = Policy { profile, ..program() };
        let mut command = Command::new(policy, "/bin/echo", &["by", "descriptor"]);
        command.file = ProgramFile::Descriptor(File::open("/bin/echo").unwrap().into());
        let finished = command.run();
        assert_eq!(finished.stdout, "by descriptor\n", "{profile}: {:?}", finished.exit);
    }
}

#[test]
fn the_open_file_is_what_runs_whatever_its_name_says_by_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tool");
    fs::copy("/bin/echo", &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::copy("/bin/false", &path).unwrap();
    let mut command = Command::new(program(), "tool", &["first"]);
    command.file = ProgramFile::Descriptor(file.into());
    let finished = command.run();
    assert_eq!(finished.stdout, "first\n");
}

#[test]
fn a_script_runs_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("script");
    fs::write(&path, "#!/bin/sh\necho script \"$1\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_only(directory.path(), "/opt/tool"));
    let finished = Command::new(policy, "/opt/tool/script", &["one"]).run();
    assert_eq!(finished.stdout, "script one\n", "stderr: {}", finished.stderr);
}

#[test]
fn only_the_granted_descriptors_are_open() {
    // Something of ours that must not be there: not close-on-exec, and with a high number.
    let leaked = File::open("/etc/hostname").unwrap();
    let high = nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_DUPFD(77)).unwrap();
    assert_eq!(high, 77);
    let finished = Command::shell(program(), "for n in 0 1 2 3 4 5 6 7 8 9 77; do if eval \": <&$n\" 2>/dev/null; then echo $n; fi; done").run();
    assert_eq!(finished.stdout, "0\n1\n2\n", "stderr: {}", finished.stderr);
}

#[test]
fn the_bootstrap_socket_is_descriptor_three() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    send_with_fds(ours.as_fd(), b"through three", &[]).unwrap();
    let mut command = Command::shell(program(), "cat <&3");
    command.bootstrap = Some(theirs);
    let running = command.start().unwrap();
    drop(ours);
    let finished = running.finish();
    assert_eq!(finished.stdout, "through three", "stderr: {}", finished.stderr);
}

#[test]
fn the_environment_and_the_directory_are_as_given_and_nothing_else() {
    let mut command = Command::new(program(), "/usr/bin/env", &[]);
    command.env = vec![("ONE".into(), "1".into()), ("TWO".into(), "a=b c".into())];
    assert_eq!(command.run().stdout, "ONE=1\nTWO=a=b c\n");
    let mut command = Command::new(program(), "/bin/pwd", &[]);
    command.cwd = "/usr/share".into();
    assert_eq!(command.run().stdout, "/usr/share\n");
}

#[test]
fn signals_and_masks_of_the_caller_are_not_inherited() {
    // std ignores SIGPIPE in this very process; inherited, `yes` would complain instead of dying of it.
    let finished = Command::shell(program(), "yes | head -n 1").run();
    assert_eq!(finished.stdout, "y\n");
    assert_eq!(finished.stderr, "");
}

#[test]
fn what_was_measured_is_what_was_asked_for() {
    let tree = lane::tree();
    let finished = Command::new(program(), "/bin/true", &[]).tree(tree.as_ref()).run();
    let enforced = |layer| finished.enforcement.layer(layer).is_some_and(|found| found.enforced);
    for layer in [
        Layer::UserNamespace,
        Layer::PidNamespace,
        Layer::MountNamespace,
        Layer::IpcNamespace,
        Layer::UtsNamespace,
        Layer::NetNamespace,
        Layer::PrivateRoot,
        Layer::OpenFiles,
        Layer::OomScore,
        Layer::Capabilities,
        Layer::NoNewPrivs,
        Layer::LandlockFiles,
        Layer::Seccomp,
    ] {
        if lane::require("what_was_measured_is_what_was_asked_for", layer) {
            assert!(enforced(layer), "{layer}: {:?}", finished.enforcement.layer(layer));
        }
    }
    if let Some(tree) = &tree {
        assert!(enforced(Layer::Cgroup));
        let pids = tree.controllers().contains(&bulkhead_sandbox::cgroup::Controller::Pids);
        assert_eq!(enforced(Layer::Pids), pids);
    }
    let text = serde_json::to_string(&finished.enforcement).unwrap();
    assert_eq!(
        serde_json::from_str::<bulkhead_sandbox::Enforcement>(&text).unwrap(),
        finished.enforcement
    );
}

#[test]
fn a_hundred_short_programs_are_all_measured() {
    // A program may be gone before it can be looked at; its init keeps it until it was.
    for _ in 0..100 {
        let finished = Command::new(program(), "/bin/true", &[]).run();
        let seccomp = finished.enforcement.layer(Layer::Seccomp).unwrap();
        assert_eq!(seccomp.measured, "filter in force");
        assert_eq!(finished.exit.status, Status::Exited(0));
    }
}

#[test]
fn strict_starts_nothing_where_a_layer_is_missing_and_names_it() {
    let policy = Policy { strictness: Strictness::Strict, ..program() };
    match Command::new(policy, "/bin/true", &[]).start() {
        Err(bulkhead_sandbox::SpawnError::SandboxUnavailable {
            layer: Layer::Cgroup,
            why,
            remedy,
        }) => {
            assert!(!why.is_empty() && !remedy.is_empty());
        }
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("started without a cgroup"),
    }
}
