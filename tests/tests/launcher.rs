//! The two halves of the service, and what survives the death of each.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, plugin, test_name};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// `GET /v1/health`; `None` while nobody answers.
fn health(service: &Service) -> Option<Value> {
    let mut stream = UnixStream::connect(service.socket()).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /v1/health HTTP/1.0\r\nHost: bulkhead\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    serde_json::from_str(reply.split_once("\r\n\r\n")?.1).ok()
}

fn supervisor(service: &Service) -> Pid {
    Pid::from_raw(health(service).expect("the service answers")["pid"].as_i64().unwrap() as i32)
}

/// The supervisor that comes after `before`. The admin socket is the launcher's and stays: whoever
/// connects meanwhile is answered by the next one, so nothing is polled here.
fn successor(service: &Service, before: Pid) -> Pid {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // A connection that the old one had accepted ends with it; the next waits for the new.
        if let Some(health) = health(service)
            && health["pid"].as_i64() != Some(before.as_raw().into())
        {
            return Pid::from_raw(health["pid"].as_i64().unwrap() as i32);
        }
        assert!(Instant::now() < deadline, "no other supervisor came");
    }
}

/// A service with the appointments plugin enabled, and that plugin's pid.
fn serving(lines: &str) -> (Service, i64) {
    let service = Service::with(lines);
    let provider = plugin::example(service.directory(), "appointments");
    service.json(["install".as_ref(), "--yes".as_ref(), provider.as_os_str()]);
    let enabled = service.json(["enable", "appointments"]);
    (service, enabled["plugin"]["process"]["pid"].as_i64().unwrap())
}

fn plugin_pid(service: &Service) -> i64 {
    service.json(["inspect", "appointments"])["process"]["pid"].as_i64().unwrap()
}

fn patients(service: &Service) -> i64 {
    let reply = service.command(["call", "appointments", "stats", "{}"]).run().expect(0);
    serde_json::from_str::<Value>(&reply.stdout).unwrap()["patients"].as_i64().unwrap()
}

fn import(service: &Service, id: &str) {
    let patient = format!(r#"{{"ndjson":"{{\"resourceType\":\"Patient\",\"id\":\"{id}\"}}\n"}}"#);
    service.command(["call", "appointments", "import", &patient]).run().expect(0);
}

fn is_gone(pid: i64) -> bool {
    kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH)
}

#[test]
fn the_supervisor_has_no_privilege() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    let status = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    // The control: the launcher has what the supervisor must not have.
    let launcher = status(service.pid());
    assert!(field(&launcher, "Uid").starts_with("0\t"));
    assert_ne!(field(&launcher, "CapEff"), "0000000000000000");
    let supervisor = status(supervisor(&service).as_raw());
    assert!(!field(&supervisor, "Uid").split('\t').any(|uid| uid == "0"), "{supervisor}");
    assert!(!field(&supervisor, "Gid").split('\t').any(|gid| gid == "0"), "{supervisor}");
    assert_eq!(field(&supervisor, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&supervisor, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&supervisor, "NoNewPrivs"), "1");
}

#[test]
fn the_same_plugin_process_serves_on_after_the_supervisor_is_killed() {
    let (service, pid) = serving("");
    import(&service, "before");
    let mut before = supervisor(&service);
    for round in 1..=3 {
        let begin = Instant::now();
        kill(before, Signal::SIGKILL).unwrap();
        // The call is made at once; it waits in the socket's queue until it is answered.
        while !matches!(service.command(["call", "appointments", "stats", "{}"]).run().code(), 0) {
            assert!(begin.elapsed() < DEADLINE, "the plugin does not answer again");
        }
        println!("round {round}: answered {} ms after kill -9", begin.elapsed().as_millis());
        assert_eq!(plugin_pid(&service), pid);
        before = successor(&service, before);
    }
    import(&service, "after");
    assert_eq!(patients(&service), 2);
    let lines = service.command(["logs", "appointments"]).run().expect(0).stdout;
    assert_eq!(lines.matches("imported").count(), 2, "{lines}");
    // What was resumed is stopped like any other.
    let disabled = service.json(["disable", "appointments"]);
    assert_eq!(disabled["forced"], false, "{disabled}");
    assert!(is_gone(pid));
}

#[test]
fn a_supervisor_that_hangs_is_replaced_and_its_plugins_stay() {
    let (service, pid) = serving("heartbeat = \"200ms\"");
    let before = supervisor(&service);
    kill(before, Signal::SIGSTOP).unwrap();
    let after = successor(&service, before);
    assert_ne!(before, after);
    // A call waits until the plugin is resumed.
    assert_eq!(patients(&service), 0);
    assert_eq!(plugin_pid(&service), pid);
}

#[test]
fn nothing_outlives_the_launcher() {
    let (mut service, pid) = serving("");
    import(&service, "kept");
    let supervisor = supervisor(&service);
    service.kill();
    // Its output had to end for `kill` to return: whoever held it is gone or going.
    let begin = Instant::now();
    while !(is_gone(pid) && is_gone(supervisor.as_raw().into())) {
        assert!(begin.elapsed() < DEADLINE, "something is left running");
        std::thread::yield_now();
    }
    // It starts clean, and what was enabled is enabled again with the state that it had.
    service.run_again();
    let deadline = Instant::now() + DEADLINE;
    let mut events = service.command(["events", "-f", "--since", "0"]).start();
    events.stdout.line(|line| line.contains("plugin:enabled appointments"));
    drop(events);
    while service.json(["inspect", "appointments"])["state"] != "enabled" {
        assert!(Instant::now() < deadline, "it is not enabled again");
    }
    assert_ne!(plugin_pid(&service), pid);
    assert_eq!(patients(&service), 1);
    service.stop().expect(0);
}

#[test]
fn the_service_stops_in_order_and_leaves_nothing() {
    let (mut service, pid) = serving("stop_timeout = \"10s\"");
    let supervisor = supervisor(&service);
    let begin = Instant::now();
    service.stop().expect(0);
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    assert!(is_gone(pid) && is_gone(supervisor.as_raw().into()));
    assert!(!service.socket().exists());
}

#[test]
fn a_second_service_does_not_take_over() {
    let service = Service::start();
    let config = service.directory().join("bulkhead.toml");
    let second = bulkhead_tests::process::bulkhead(["serve", "--config"]).arg(config).run();
    let second = second.expect(1);
    assert!(second.stderr.contains("another service uses the state"), "{}", second.stderr);
    assert!(health(&service).is_some());
}

/// As a debugger, a freezer or a machine that sleeps does to it: the heartbeats came, and it had not read them.
#[test]
fn a_launcher_that_stood_still_does_not_take_its_supervisor_for_silent() {
    let service = Service::with("heartbeat = \"300ms\"");
    service.enable(&Package::hostile("victim", "well", ""));
    let (launcher, supervisor) = (Pid::from_raw(service.pid()), service.supervisor());
    kill(launcher, Signal::SIGSTOP).unwrap();
    // Five heartbeats are its patience; the supervisor answers meanwhile.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2500) {
        assert_eq!(service.json(["call", "victim", "echo", "1"]), 1);
    }
    kill(launcher, Signal::SIGCONT).unwrap();
    // What the launcher is asked for is answered after it has looked at the clock.
    assert_eq!(service.json(["disable", "victim"])["state"], "disabled");
    assert_eq!(service.supervisor(), supervisor);
    let text = service.command(["metrics"]).run().expect(0).stdout;
    assert!(text.contains("bulkhead_supervisor_starts_total 1\n"), "{text}");
}

#[test]
fn a_launcher_that_stands_still_holds_up_no_drain() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let launcher = Pid::from_raw(service.pid());
    kill(launcher, Signal::SIGSTOP).unwrap();
    let disabling = service.command(["disable", "victim", "--timeout", "5m", "--json"]).start();
    let deadline = Instant::now() + DEADLINE;
    while !service.plugin_processes().is_empty() {
        assert!(Instant::now() < deadline, "it has not heard that it is to go");
        std::thread::yield_now();
    }
    kill(launcher, Signal::SIGCONT).unwrap();
    let report: Value = serde_json::from_str(&disabling.wait().expect(0).stdout).unwrap();
    assert_eq!(
        (&report["forced"], &report["stateSaved"]),
        (&false.into(), &true.into()),
        "{report}"
    );
}

#[test]
fn what_a_launcher_that_stands_still_has_not_killed_is_not_told_as_killed() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "ignore-drain", ""));
    let launcher = Pid::from_raw(service.pid());
    kill(launcher, Signal::SIGSTOP).unwrap();
    let error = service.error(["disable", "victim", "--timeout", "500ms"]);
    assert_ne!(service.plugin_processes(), [0; 0], "the control: nobody has killed it");
    kill(launcher, Signal::SIGCONT).unwrap();
    assert_eq!((&error["code"], &error["details"]["stage"]), (&"TIMEOUT".into(), &"kill".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("the launcher has not answered"), "{message}");
    assert!(!message.contains("kernel"), "{message}");
    let deadline = Instant::now() + DEADLINE;
    while !service.plugin_processes().is_empty() {
        assert!(Instant::now() < deadline, "it is not killed once the launcher goes on");
        std::thread::yield_now();
    }
}
