//! The children that a plugin leaves behind. One test in its own process: it adopts them.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_ipc_driver::protocol::lifecycle::{INIT, InitRequest};
use bulkhead_ipc_driver::protocol::{Call, CallError, Hello, Limits, Payload};
use bulkhead_ipc_driver::{Handler, IncomingCall, connect};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

struct Host;

impl Handler for Host {
    fn call(&self, _: IncomingCall) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        std::future::pending()
    }
}

/// The plugin exits; its child lives on in a session of its own, holds standard output and does not mind SIGTERM.
#[test]
fn a_child_holds_stdout_after_its_parent_is_gone() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_hostile"))
        .arg("child-holds-stdout")
        .env("HOSTILE_SESSION", "stdin")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = plugin.stdout.take().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        let hello = Hello::new("bulkhead", semver::Version::new(1, 0, 0)).unwrap();
        let (peer, driver) = connect(stream, hello, Limits::default(), Host);
        tokio::task::spawn_local(driver);
        let request = InitRequest {
            plugin_id: "hostile".to_owned(),
            version: "0.1.0".to_owned(),
            config: "{}".to_owned(),
            permissions: Vec::new(),
        };
        let call = Call::new(INIT, Payload::bincode(&request).unwrap());
        peer.call(call.with_timeout(Duration::from_secs(10))).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), peer.closed()).await.unwrap();
    });
    assert_eq!(plugin.wait().unwrap().code(), Some(0));

    // Reparented to us, as to the init in a compartment; the child between them may still be a zombie.
    let orphans = orphans();
    assert!(!orphans.is_empty(), "the child is gone");
    for orphan in &orphans {
        kill(*orphan, Signal::SIGTERM).unwrap();
        assert_eq!(waitpid(*orphan, Some(WaitPidFlag::WNOHANG)).unwrap(), WaitStatus::StillAlive);
        kill(*orphan, Signal::SIGKILL).unwrap();
        waitpid(*orphan, None).unwrap();
    }
    // Only now is standard output closed.
    assert_eq!(stdout.read_to_end(&mut Vec::new()).unwrap(), 0);
}

/// Our children, of any of our threads.
fn orphans() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let pids: Vec<Pid> = lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
        })
        .map(Pid::from_raw)
        .collect();
    pids
}
