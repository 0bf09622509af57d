//! The compartment that the supervisor makes around itself: what somebody who has taken it over tries, and the
//! same attempt by the same program without the compartment, where it succeeds.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]
#![allow(unsafe_code, reason = "a fork")]

mod lane;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::Layer;
use bulkhead_sandbox::attack::{self, KILLED, Outcome};
use bulkhead_sandbox::confinement::Confinement;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};

/// Names the directory that the process which makes the attempt may write; it is unconfined without.
const OWN: &str = "CONFINING_OWN";

/// Added to the number of a signal that ended the attempt: no error has such a number.
const SIGNALLED: i32 = 200;

/// Not a test of its own: the process in which an attempt is made, in a compartment or not.
#[test]
#[ignore = "the other tests start it"]
fn attempt_inside() {
    let Some(own) = std::env::var_os(OWN) else {
        return attack::make_if_asked();
    };
    // The harness runs a test in a second thread, and a compartment is made in a process that has one.
    // SAFETY: the harness's other thread only waits, so it holds no lock that the child would miss.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            confine(own.into());
            attack::make_if_asked();
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => std::process::exit(code),
            WaitStatus::Signaled(_, signal, _) => std::process::exit(SIGNALLED + signal as i32),
            other => panic!("{other:?}"),
        },
    }
}

/// As the supervisor has it.
fn confine(own: PathBuf) {
    let read = ["/usr", "/etc", "/proc"].map(PathBuf::from).to_vec();
    let found =
        Confinement { read, write: vec![own], sockets: vec!["/run".into()], own_uid: false }
            .enforce();
    if std::env::var(attack::NAME).as_deref() == Ok("report") {
        fs::write("report", serde_json::to_vec(&found).unwrap()).unwrap();
        std::process::exit(0);
    }
}

fn attempting(own: Option<&Path>, name: &str, argument: &str) -> Outcome {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["attempt_inside", "--exact", "--ignored", "--nocapture"])
        .env(attack::NAME, name)
        .env(attack::ARGUMENT, argument)
        .stdout(std::process::Stdio::null());
    if let Some(own) = own {
        command.env(OWN, own).current_dir(own);
    }
    let status = command.status().unwrap();
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(code), _) if code > SIGNALLED => Outcome::Signal(code - SIGNALLED),
        (Some(code), _) => Outcome::Errno(code),
        (None, signal) => Outcome::Signal(signal.unwrap()),
    }
}

/// The attempt inside, once it has succeeded outside.
fn confined(name: &str, argument: &str) -> Outcome {
    assert_eq!(attempting(None, name, argument), Outcome::Done, "{name} {argument}, outside");
    inside(name, argument)
}

fn inside(name: &str, argument: &str) -> Outcome {
    let own = tempfile::tempdir().unwrap();
    attempting(Some(own.path()), name, argument)
}

fn refused(errno: Errno) -> Outcome {
    Outcome::Errno(errno as i32)
}

#[test]
fn it_is_measured_as_it_is() {
    let own = tempfile::tempdir().unwrap();
    assert_eq!(attempting(Some(own.path()), "report", ""), Outcome::Done);
    let report = fs::read(own.path().join("report")).unwrap();
    let found: bulkhead_sandbox::Enforcement = serde_json::from_slice(&report).unwrap();
    for layer in [Layer::Capabilities, Layer::NoNewPrivs, Layer::Seccomp] {
        assert!(found.layer(layer).unwrap().enforced, "{found:?}");
    }
    // The superuser's uid is no layer, and this test may be root.
    assert_eq!(found.layer(Layer::Uid).unwrap().enforced, !geteuid().is_root());
    if lane::require("it_is_measured_as_it_is", Layer::LandlockFiles) {
        assert!(found.layer(Layer::LandlockFiles).unwrap().enforced, "{found:?}");
    }
}

#[test]
fn another_program_or_process_is_never_started() {
    for name in ["execute", "fork"] {
        assert_eq!(confined(name, "/bin/true"), KILLED, "{name}");
    }
}

#[test]
fn calls_that_reach_other_processes_or_the_kernel_are_killed() {
    for name in ["keyctl", "shmget"] {
        assert_eq!(confined(name, ""), KILLED, "{name}");
    }
    // What these say outside depends on the machine and on who asks.
    let others = [
        "ptrace",
        "process_vm_readv",
        "mount",
        "chroot",
        "setns",
        "user namespace",
        "bpf",
        "io_uring_setup",
    ];
    let pid = std::process::id().to_string();
    for name in others {
        assert_ne!(attempting(None, name, &pid), KILLED, "{name}, outside");
        assert_eq!(inside(name, &pid), KILLED, "{name}");
    }
    assert_eq!(inside("clone3", ""), refused(Errno::ENOSYS));
    assert_eq!(confined("write and execute", ""), KILLED);
}

#[test]
fn what_no_list_knows_of_is_an_error_and_no_death() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(confined("chown", file.to_str().unwrap()), refused(Errno::EPERM));
}

#[test]
fn files_of_others_are_neither_read_nor_changed() {
    if !lane::require("files_of_others_are_neither_read_nor_changed", Layer::LandlockFiles) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, "precious").unwrap();
        path.to_str().unwrap().to_owned()
    };
    for name in ["read", "append", "truncate", "unlink", "rename"] {
        let path = file(name);
        assert_eq!(attempting(None, name, &path), Outcome::Done, "{name}, outside");
        let path = file(name);
        assert_eq!(inside(name, &path), refused(Errno::EACCES), "{name}");
        assert_eq!(fs::read(path).unwrap(), b"precious");
    }
    let new = directory.path().join("new");
    assert_eq!(inside("create", new.to_str().unwrap()), refused(Errno::EACCES));
    assert!(!new.exists());
    // The controls: inside its own directory, and what it may read.
    assert_eq!(inside("create", "file"), Outcome::Done);
    assert_eq!(inside("read", "/etc/passwd"), Outcome::Done);
    assert_eq!(inside("append", "/proc/self/oom_score_adj"), refused(Errno::EACCES));
}

#[test]
fn it_connects_by_tcp_and_serves_nobody_new() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_eq!(inside("connect", &port), Outcome::Done);
    assert_eq!(confined("listen", ""), refused(Errno::EACCES));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    assert_eq!(confined("udp", &port), Outcome::Done, "name servers");
    for name in ["netlink", "packet", "raw", "mptcp"] {
        // Raw sockets take a privilege that the test may not have.
        assert_ne!(attempting(None, name, ""), refused(Errno::EAFNOSUPPORT), "{name}, outside");
        assert_eq!(inside(name, ""), refused(Errno::EAFNOSUPPORT), "{name}");
    }
}

#[test]
fn no_local_service_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let _service = UnixListener::bind(&path).unwrap();
    assert_eq!(confined("unix socket", path.to_str().unwrap()), refused(Errno::EAFNOSUPPORT));
    let name = format!("bulkhead-confining-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _service = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(confined("abstract socket", &name), refused(Errno::EAFNOSUPPORT));
}

#[test]
fn no_other_process_is_signalled() {
    let pid = std::process::id().to_string();
    assert_eq!(confined("signal", &pid), refused(Errno::EPERM));
}
