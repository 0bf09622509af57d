//! A supervisor can die at any moment, and nothing but itself is lost.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use bulkhead_sandbox::{Cause, Policy, Status, Strictness};

use super::harness::{PATIENCE, Running, Service, limits, shell};
use super::roles;
use crate::link::{Json, Message, Request, Spawn, StageName};

/// What a supervisor inherited: one plugin that runs.
fn adopted(mut inherited: Vec<(Message, Vec<std::os::fd::OwnedFd>)>) -> Running {
    assert_eq!(inherited.len(), 1, "{inherited:?}");
    match inherited.pop().unwrap() {
        (Message::Adopt(adopted), descriptors) => {
            Running::new(adopted.id, adopted.spawned, descriptors)
        }
        (other, _) => panic!("not an adoption: {other:?}"),
    }
}

fn echo(running: &mut Running, byte: u8) {
    running.session.set_read_timeout(Some(PATIENCE)).unwrap();
    running.session.write_all(&[byte]).unwrap();
    let mut answer = [0];
    running.session.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [byte]);
}

#[test]
fn the_same_plugin_serves_the_next_supervisor() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("echo", &std::env::current_exe().unwrap());
    let digest = supervisor.install("echo", &package);
    let policy =
        Policy { strictness: Strictness::BestEffort, limits: limits(), ..Policy::default() };
    let mut first = supervisor.spawn(Spawn {
        id: "echo".parse().unwrap(),
        digest,
        entry: "bin/entry".into(),
        args: roles::arguments("plugin", "/".as_ref()),
        env: Vec::new(),
        policy: Json(policy),
    });
    echo(&mut first, b'1');
    supervisor.kill();
    let mut supervisor = service.supervisor();
    let mut second = adopted(supervisor.inherit());
    assert_eq!(second.spawned.pid, first.spawned.pid);
    assert_eq!(second.spawned.generation, first.spawned.generation);
    supervisor.done(Request::Ready);
    echo(&mut second, b'2');
    // And one more session on request.
    let request = Request::Session { id: second.id.clone(), generation: second.spawned.generation };
    let (_, mut descriptors) = supervisor.ask(request).unwrap();
    second.session = descriptors.pop().unwrap().into();
    echo(&mut second, b'3');
}

#[test]
fn no_line_is_lost_between_two_supervisors() {
    const LINES: usize = 20_000;
    let service = Service::start("");
    let mut supervisor = service.ready();
    let script =
        format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; read x <&3");
    let mut first = supervisor.shell(&service, "talker", &script);
    let mut text = String::new();
    // More than a pipe holds, so that it is in the middle of a write when its reader dies.
    first.stdout.read_until(&mut text, |text| text.len() > 100_000);
    drop(first);
    supervisor.kill();
    let mut supervisor = service.supervisor();
    let mut second = adopted(supervisor.inherit());
    second.stdout.read_until(&mut text, |text| text.ends_with(&format!("line {}\n", LINES - 1)));
    let expected: String =
        (0..LINES).fold(String::new(), |text, number| text + &format!("line {number}\n"));
    assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
}

#[test]
fn an_exit_is_told_until_it_is_acknowledged() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = supervisor.shell(&service, "brief", "echo last words; exit 4");
    let generation = plugin.spawned.generation;
    let (exited, _) = supervisor.exit();
    assert_eq!(exited.generation, generation);
    supervisor.kill();
    let mut supervisor = service.supervisor();
    let mut inherited = supervisor.inherit();
    let Some((Message::Exited(again), descriptors)) = inherited.pop() else {
        panic!("not told again: {inherited:?}");
    };
    assert_eq!((again.generation, again.exit.0.status), (generation, Status::Exited(4)));
    assert_eq!(again.exit.0.cause, Cause::Code(4));
    assert_eq!(again.stages, exited.stages);
    // What nobody has read yet comes with it.
    let mut words = String::new();
    std::fs::File::from(descriptors.into_iter().next().unwrap())
        .read_to_string(&mut words)
        .unwrap();
    assert_eq!(words, "last words\n");
    supervisor.done(plugin.acknowledge());
    // Twice is well.
    supervisor.done(plugin.acknowledge());
    supervisor.kill();
    assert!(service.supervisor().inherit().is_empty());
}

#[test]
fn a_plugin_that_dies_while_no_supervisor_is_there_is_told_to_the_next() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "mortal", "echo up; read x <&3; exit 5");
    plugin.stdout.wait_for("up");
    supervisor.kill();
    let mut supervisor = service.supervisor();
    // Adopted, and killed before this supervisor is ready.
    let adopted = adopted(supervisor.inherit());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(adopted.spawned.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    plugin.stdout.read_to_end();
    supervisor.kill();
    let mut supervisor = service.supervisor();
    let mut told = supervisor.inherit();
    let (exited, _) = match told.pop() {
        Some((Message::Exited(exited), descriptors)) => (*exited, descriptors),
        // The launcher has not seen the end yet: it tells it next.
        None | Some((Message::Adopt(_), _)) => supervisor.exit(),
        Some((other, _)) => panic!("{other:?}"),
    };
    assert_eq!(exited.generation, plugin.spawned.generation);
}

#[test]
fn five_failed_starts_in_a_row_stop_everything() {
    let mut service = Service::start("stop_timeout = \"1s\"");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.deaf(&service, "bystander");
    supervisor.kill();
    for _ in 0..5 {
        let mut failed = service.supervisor();
        adopted(failed.inherit());
        failed.kill();
    }
    let status = service.wait();
    assert_eq!(status.code(), Some(1));
    plugin.stdout.read_to_end();
    assert!(service.log().contains("did not come up 5 times"), "{}", service.log());
}

#[test]
fn a_silent_supervisor_is_started_anew() {
    let service = Service::start("heartbeat = \"50ms\"");
    let mut supervisor = service.ready();
    supervisor.send(Request::Heartbeat);
    supervisor.wait_hangup();
    let next = service.supervisor();
    assert_ne!(next.pid(), supervisor.pid());
    assert!(service.log().contains("silent"), "{}", service.log());
}

#[test]
fn a_supervisor_that_breaks_the_link_is_started_anew() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "bystander", "echo up; read x <&3");
    plugin.stdout.wait_for("up");
    supervisor.send_garbage();
    supervisor.wait_hangup();
    let mut next = service.supervisor();
    let same = adopted(next.inherit());
    assert_eq!(same.spawned.pid, plugin.spawned.pid);
}

#[test]
fn plugins_do_not_wait_for_a_supervisor_for_ever() {
    let service = Service::start("resume_timeout = \"1s\"\nstop_timeout = \"1s\"");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "waiting", "echo up; read x <&3; read x <&3");
    plugin.stdout.wait_for("up");
    supervisor.kill();
    // It comes back and never becomes ready.
    let mut supervisor = service.supervisor();
    adopted(supervisor.inherit());
    let (exited, _) = supervisor.exit();
    assert_eq!(exited.stages[0].name, StageName::Sigterm);
    // The control: with one that is ready, a plugin outlives that time many times over.
    supervisor.done(Request::Ready);
    let digest = supervisor.install("waiting", &service.path().join("waiting"));
    supervisor.done(plugin.acknowledge());
    let script = "trap 'exit 9' TERM; echo up; while :; do read x <&3; done";
    let mut again = supervisor.spawn(shell("waiting", digest, script));
    again.stdout.wait_for("up");
    supervisor.done(again.stop(Duration::from_secs(2), Duration::from_secs(60)));
    let (exited, _) = supervisor.exit();
    assert_eq!(exited.exit.0.status, Status::Exited(9));
    let sigterm = exited.stages.iter().find(|stage| stage.name == StageName::Sigterm).unwrap();
    assert!(again.spawned.started.until(sigterm.at) >= Duration::from_secs(2));
}

#[test]
fn a_stop_of_a_supervisor_that_is_gone_is_not_waited_for_for_ever() {
    let service = Service::start("resume_timeout = \"1s\"\nstop_timeout = \"1s\"");
    let mut supervisor = service.ready();
    let plugin = supervisor.deaf(&service, "waiting");
    supervisor.done(plugin.stop(Duration::MAX, Duration::MAX));
    supervisor.kill();
    let mut supervisor = service.supervisor();
    adopted(supervisor.inherit());
    let (exited, _) = supervisor.exit();
    assert_eq!(exited.stages[0].name, StageName::Sigterm);
    assert_eq!(exited.exit.0.cause, Cause::Killed);
    // It is said once, and not at each turn until all of it is gone.
    assert_eq!(service.log().matches("no supervisor has come back in time").count(), 1);
}
