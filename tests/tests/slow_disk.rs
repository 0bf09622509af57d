//! A disk that takes its time, here a store that somebody else has locked: what has a deadline keeps it.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::{Duration, Instant};

use bulkhead_tests::census::processes;
use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::{Value, json};

/// Far less than the 5 s after which a write to a store that is locked is given up.
const BUDGET: Duration = Duration::from_secs(1);

/// Keeps everybody from writing until it is dropped, or rolled back.
fn lock(service: &Service) -> Connection {
    let path = service.directory().join("state/supervisor/bulkhead.db");
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Waits until no plugin runs, in a budget that began then.
fn gone_in_time(service: &Service, asked: Instant) {
    let deadline = Instant::now() + DEADLINE;
    while !service.plugin_processes().is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::yield_now();
    }
    let took = asked.elapsed();
    assert!(took < BUDGET + lane::slack(), "it waited for the store: {took:?}");
}

fn rows(service: &Service, action: &str) -> Vec<Value> {
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let rows = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["action"] == action).collect()
}

#[test]
fn a_plugin_is_stopped_in_its_budget_and_what_is_to_be_stored_is_stored_afterwards() {
    let mut service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let locked = lock(&service);
    let asked = Instant::now();
    let disabling = service.command(["disable", "victim", "--timeout", "1s", "--json"]).start();
    gone_in_time(&service, asked);
    drop(locked);
    let report: Value = serde_json::from_str(&disabling.wait().expect(0).stdout).unwrap();
    assert_eq!(
        (&report["state"], &report["forced"], &report["stateSaved"]),
        (&json!("disabled"), &json!(false), &json!(true)),
        "{report}"
    );
    // That it was begun may not have been written down.
    assert_eq!(rows(&service, "disable").last().unwrap()["outcome"], "ok");
    service.stop();
    service.run_again();
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!((&plugin["state"], &plugin["desired"]), (&json!("disabled"), &json!("disabled")));
}

/// Its task writes the new configuration down when it is to hear of the disabling.
#[test]
fn a_plugin_is_stopped_in_its_budget_whatever_its_task_waits_for() {
    let service = Service::start();
    let plugin = service.enable(&Package::witness("victim", "[lifecycle]\ninit_timeout = \"50s\""));
    // Below the init of its compartment.
    let init = plugin["plugin"]["process"]["pid"].as_i64().unwrap() as i32;
    let below = processes().into_iter().find(|process| process.parent == init).unwrap();
    let below = Pid::from_raw(below.pid);
    kill(below, Signal::SIGSTOP).unwrap();
    let configuring = service.command(["config", "victim", "--set", "-", "--json"]);
    let configuring = configuring.input(r#"{"rooms": 3}"#).start();
    let deadline = Instant::now() + DEADLINE;
    while rows(&service, "configure").is_empty() {
        assert!(Instant::now() < deadline, "it is not configured");
    }
    let locked = lock(&service);
    kill(below, Signal::SIGCONT).unwrap();
    let asked = Instant::now();
    let disabling = service.command(["disable", "victim", "--timeout", "1s", "--json"]).start();
    gone_in_time(&service, asked);
    drop(locked);
    disabling.wait().expect(0);
    configuring.wait();
    assert_eq!(service.json(["inspect", "victim"])["state"], "disabled");
}

/// The record of its end stands behind what another plugin has to wait for.
#[test]
fn the_end_of_the_service_waits_for_no_record() {
    let service = Service::with("stop_timeout = \"30s\"");
    service.enable(&Package::hostile("other", "well", ""));
    let other = service.plugin_processes();
    service.enable(&Package::hostile("victim", "well", ""));
    let supervisor = service.supervisor();
    let locked = lock(&service);
    let disabling = service.command(["disable", "other", "--json"]).start();
    let deadline = Instant::now() + DEADLINE;
    while service.plugin_processes().iter().any(|pid| other.contains(pid)) {
        assert!(Instant::now() < deadline, "the other is still there");
    }
    let asked = Instant::now();
    kill(Pid::from_raw(service.pid()), Signal::SIGTERM).unwrap();
    gone_in_time(&service, asked);
    drop(locked);
    service.wait_until_nothing_runs(supervisor);
    disabling.wait();
}
