use std::io::Read as _;
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::geteuid;

use super::*;

fn shell(script: &str, user: Option<User>) -> (String, std::process::ExitStatus) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Unprivileged {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("GIVEN".into(), "yes".into())],
        user,
        descriptor: theirs.into(),
    };
    let mut child = child.start().unwrap();
    let mut text = String::new();
    (&ours).read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap())
}

#[test]
fn it_gets_the_descriptor_and_no_other_and_nothing_of_our_environment() {
    // Inheritable and far from what a shell opens itself; the control is that it is open here.
    let leak = fcntl(io::stdin(), FcntlArg::F_DUPFD(200)).unwrap();
    assert!(std::fs::metadata(format!("/proc/self/fd/{leak}")).is_ok());
    let (text, status) =
        shell(&format!("[ -e /proc/self/fd/{leak} ] && echo leaked >&3; env >&3"), None);
    assert!(status.success());
    assert!(!text.contains("leaked"), "{text}");
    assert!(text.contains("GIVEN=yes") && !text.contains("HOME="), "{text}");
}

#[test]
fn it_cannot_gain_privilege_and_dies_with_us() {
    let (text, _) = shell("exec cat /proc/self/status >&3", None);
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
}

#[test]
fn it_becomes_the_user_and_keeps_no_capability() {
    if !geteuid().is_root() {
        println!("SKIP it_becomes_the_user_and_keeps_no_capability: only root can change its user");
        return;
    }
    let user = User { uid: 1_900_000_000, gid: 1_900_000_001, groups: vec![7] };
    let (text, _) = shell("exec cat /proc/self/status >&3", Some(user));
    assert!(text.contains("Uid:\t1900000000\t1900000000\t1900000000\t1900000000"), "{text}");
    assert!(text.contains("Gid:\t1900000001\t1900000001\t1900000001\t1900000001"), "{text}");
    assert!(text.contains("Groups:\t7 \n"), "{text}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(text.contains(&format!("{set}:\t0000000000000000")), "{text}");
    }
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let missing = Unprivileged {
        program: "/nonexistent/program".into(),
        args: Vec::new(),
        env: Vec::new(),
        user: None,
        descriptor: theirs.into(),
    };
    assert_eq!(missing.start().unwrap_err().kind(), io::ErrorKind::NotFound);
}
