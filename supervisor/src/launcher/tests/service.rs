//! Start and stop of the service itself.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::harness::{PATIENCE, Service, wait};
use crate::failure::Code;
use crate::link::{Message, Request};

const MARGIN: Duration = Duration::from_secs(2);

#[test]
fn a_service_starts_and_stops_and_leaves_no_socket() {
    let mut service = Service::start("");
    let mut supervisor = service.ready();
    let socket = service.path().join("run/admin.sock");
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    service.signal(Signal::SIGTERM);
    let (shutdown, _) = supervisor.next();
    assert!(matches!(shutdown, Message::Shutdown { .. }), "{shutdown:?}");
    assert_eq!(
        supervisor.refused(Request::Allot { id: "late".parse().unwrap() }).code,
        Code::ShuttingDown
    );
    supervisor.send(Request::Bye);
    drop(supervisor);
    assert!(service.wait().success());
    assert!(!socket.exists());
    // It ended by itself.
    assert!(service.log().contains("status=exit status: 0"), "{}", service.log());
}

#[test]
fn one_service_at_a_time_uses_the_state() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut second = service.another();
    assert!(!wait(&mut second).success());
    assert!(service.log().contains("another service uses the state"), "{}", service.log());
    // The first is not disturbed.
    supervisor.done(Request::Ready);
}

#[test]
fn sighup_is_ignored() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    service.signal(Signal::SIGHUP);
    supervisor.done(Request::Ready);
}

#[test]
fn a_supervisor_that_does_not_stop_anything_does_not_hold_up_the_stop() {
    let mut service = Service::start("stop_timeout = \"1s\"");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "deaf", "trap '' TERM; echo up; read x <&3");
    plugin.stdout.wait_for("up");
    let begin = Instant::now();
    service.signal(Signal::SIGTERM);
    assert!(service.wait().success());
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1), "the supervisor had its budget: {took:?}");
    assert!(took < Duration::from_secs(1) + Duration::from_secs(1) + MARGIN, "{took:?}");
    plugin.stdout.read_to_end();
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut service = Service::start("stop_timeout = \"1h\"");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "deaf", "trap '' TERM; echo up; read x <&3");
    plugin.stdout.wait_for("up");
    service.signal(Signal::SIGTERM);
    assert!(matches!(supervisor.next(), (Message::Shutdown { .. }, _)));
    service.signal(Signal::SIGINT);
    assert!(service.wait().success());
    plugin.stdout.read_to_end();
}

#[test]
fn when_the_launcher_is_killed_nothing_is_left_running() {
    let mut service = Service::start("");
    let mut supervisor = service.ready();
    let script = "(trap '' TERM HUP INT; while :; do read y <&3; done) & echo up; read x <&3";
    let mut plugin = supervisor.shell(&service, "orphan", script);
    plugin.stdout.wait_for("up");
    service.signal(Signal::SIGKILL);
    assert!(!service.wait().success());
    // The supervisor's place is empty, and nobody can write to the plugin's output any more.
    supervisor.wait_hangup();
    plugin.stdout.read_to_end();
    // And a new launcher takes over what is left on disk.
    let mut next = service.another();
    let mut supervisor = service.ready();
    let digest = supervisor.install("orphan", &service.path().join("orphan"));
    let mut again = supervisor.spawn(super::harness::shell("orphan", digest, "echo again"));
    again.stdout.wait_for("again");
    assert!(again.spawned.generation > plugin.spawned.generation);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(next.id() as i32), Signal::SIGTERM).unwrap();
    supervisor.send(Request::Bye);
    drop(supervisor);
    let begin = Instant::now();
    assert!(wait(&mut next).success());
    assert!(begin.elapsed() < PATIENCE);
}
