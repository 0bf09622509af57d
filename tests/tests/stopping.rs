//! Stopping: whatever the plugin does, all of it is gone at its budget.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::{Duration, Instant};

use bulkhead_tests::census::processes;
use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BUDGET: Duration = Duration::from_secs(1);
/// How long something is watched for that must not happen.
const WATCHED: Duration = Duration::from_secs(2);
/// Children need the seccomp profile that allows them.
const PROGRAM: &str = "[sandbox]\nprofile = \"program\"";

/// Disables a plugin of that mode, sees that it is gone in time, and returns the report.
fn stop(mode: &str, lines: &str) -> Value {
    let service = Service::start();
    service.enable(&Package::hostile("victim", mode, lines));
    assert_ne!(service.plugin_processes(), [0; 0], "{mode} does not run");
    let before = Instant::now();
    let report = service.json(["disable", "victim", "--timeout", "1s"]);
    let took = before.elapsed();
    assert_eq!(service.plugin_processes(), [0; 0], "{mode}: something is left: {report}");
    assert!(took < BUDGET + lane::slack(), "{mode}: gone after {took:?}: {report}");
    assert_eq!(report["state"], "disabled", "{mode}: {report}");
    if let Some(cgroup) = service.json(["inspect", "victim"])["lastExit"]["cgroup"].as_str() {
        assert!(!std::path::Path::new(cgroup).exists(), "{cgroup} is left");
    }
    report
}

/// The names of the stages, in order, which their times must be in too.
fn stages(report: &Value) -> Vec<String> {
    let timeline = report["timeline"].as_array().unwrap();
    let times: Vec<f64> = timeline.iter().map(|stage| stage["atMs"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{report}");
    timeline.iter().map(|stage| stage["stage"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_that_behaves_says_goodbye() {
    let report = stop("well", "");
    assert_eq!(stages(&report), ["drain", "goodbye", "exited", "empty", "removed"]);
    assert_eq!(report["forced"], false);
    assert_eq!(report["exit"]["status"]["exited"], 0);
}

#[test]
fn one_that_ignores_everything_is_killed_at_its_budget() {
    let report = stop("ignore-sigterm", "");
    assert_eq!(stages(&report), ["drain", "sigterm", "sigkill", "exited", "empty", "removed"]);
    assert_eq!(report["forced"], true);
    let timeline = report["timeline"].as_array().unwrap();
    let at = |name: &str| {
        timeline.iter().find(|s| s["stage"] == name).unwrap()["atMs"].as_f64().unwrap()
    };
    assert!((600.0..1000.0).contains(&at("sigterm")), "{report}");
    assert!(at("sigkill") >= 1000.0, "not before the budget is used up: {report}");
}

#[test]
fn one_that_ignores_the_drain_is_ended_by_sigterm() {
    let report = stop("ignore-drain", "");
    assert!(stages(&report).contains(&"sigterm".to_owned()), "{report}");
    assert_eq!(report["forced"], false, "{report}");
    assert_eq!(report["exit"]["status"]["signaled"]["signal"], 15, "{report}");
    assert_eq!(report["stateSaved"], false);
}

#[test]
fn one_that_stays_after_its_goodbye_is_ended() {
    let report = stop("goodbye-and-stay", "");
    assert!(stages(&report).contains(&"goodbye".to_owned()), "{report}");
}

#[test]
fn one_that_says_goodbye_and_exits_with_an_error_has_not_saved() {
    let report = stop("goodbye-and-fail", "");
    assert!(stages(&report).contains(&"goodbye".to_owned()), "{report}");
    assert_eq!((&report["forced"], &report["stateSaved"]), (&false.into(), &false.into()));
    assert_eq!(report["exit"]["status"]["exited"], 1, "{report}");
    let report = stop("goodbye-and-fail 0", "");
    assert_eq!(report["stateSaved"], true, "{report}");
}

#[test]
fn one_that_has_stopped_itself_is_killed() {
    let report = stop("stop-in-drain", PROGRAM);
    assert_eq!(report["forced"], true, "{report}");
}

#[test]
fn children_end_with_it_detached_or_stubborn() {
    for mode in ["detached-child", "stubborn-child"] {
        stop(mode, PROGRAM);
    }
}

#[test]
fn a_fork_bomb_of_two_hundred_ends_with_it() {
    stop("forks", &format!("{PROGRAM}\n[limits]\npids = 32"));
}

#[test]
fn siblings_of_a_fork_bomb_answer() {
    let service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    let lines = format!("{PROGRAM}\n[limits]\npids = 32");
    service.enable(&Package::hostile("victim", "forks", &lines));
    // It tells how many it got once it is refused, or has all that it wanted.
    let mut log = service.command(["logs", "victim", "--json", "--follow"]).start();
    let line = log.stdout.line(|line| line.contains(" children"));
    if lane::require(test_name!(), "pids") {
        let started: u32 = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no count in {line}"));
        assert!(started < 32, "{line}");
    }
    assert_eq!(service.json(["call", "sibling", "echo", "1"]), serde_json::json!(1));
    service.json(["disable", "victim", "--timeout", "1s"]);
}

#[test]
fn one_that_hangs_in_a_call_is_stopped() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "hang-in-call", ""));
    let error = service.error(["call", "victim", "echo", "1", "--timeout", "200ms"]);
    assert_eq!((&error["code"], &error["details"]["stage"]), (&"TIMEOUT".into(), &"call".into()));
    assert_eq!(error["exitCode"], 5);
    let before = Instant::now();
    let report = service.json(["disable", "victim", "--timeout", "1s"]);
    assert!(before.elapsed() < BUDGET + lane::slack(), "{report}");
    assert_eq!(service.plugin_processes(), [0; 0]);
}

#[test]
fn a_plugin_that_exits_leaving_a_child_that_holds_its_pipes_is_seen_and_gone() {
    for mode in ["child-holds-stdout", "child-holds-session"] {
        let service = Service::start();
        let lines = format!("{PROGRAM}\n[lifecycle.restart]\npolicy = \"never\"");
        service.install(&Package::hostile("victim", mode, &lines));
        // It may die before or after its start is done; it is seen either way.
        let _ = service.command(["enable", "victim"]).run();
        let plugin = service.wait_for("victim", |plugin| plugin["state"] == "disabled");
        assert_eq!(service.plugin_processes(), [0; 0], "{mode}");
        assert_eq!(plugin["lastExit"]["exit"]["status"]["exited"], 0, "{mode}: {plugin}");
    }
}

#[test]
fn without_saving_the_plugin_is_told_so() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let report = service.json(["disable", "victim", "--no-save-state"]);
    assert_eq!(report["stateSaved"], false);
    assert_eq!(stages(&report).last().unwrap(), "removed");
}

#[test]
fn disabling_what_is_disabled_is_satisfied_and_enabling_twice_too() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    service.install(&package);
    assert_eq!(service.json(["disable", "victim"])["timeline"], serde_json::json!([]));
    let first = service.json(["enable", "victim"]);
    let again = service.json(["enable", "victim"]);
    assert_eq!(first["plugin"]["process"]["pid"], again["plugin"]["process"]["pid"]);
}

#[test]
fn the_end_of_the_service_stops_all_dependents_first() {
    let mut service = Service::start();
    service.enable(&Package::hostile("provider", "well", ""));
    service.enable(&Package::hostile(
        "consumer",
        "ignore-sigterm",
        "[dependencies]\nprovider = \"^1\"",
    ));
    let before = Instant::now();
    service.stop().expect(0);
    assert!(before.elapsed() < Duration::from_secs(5) + lane::slack());
    assert_eq!(service.plugin_processes(), [0; 0]);
    service.run_again();
    // What the operator wanted is so again.
    for id in ["provider", "consumer"] {
        service.wait_for(id, |plugin| plugin["state"] == "enabled");
    }
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let disabled: Vec<&str> = events
        .lines()
        .filter(|line| line.contains("\"plugin:disabled\""))
        .map(|line| if line.contains("\"consumer\"") { "consumer" } else { "provider" })
        .collect();
    assert_eq!(disabled, ["consumer", "provider"]);
}

#[test]
fn a_second_request_has_a_budget_of_its_own_from_when_it_is_made() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "ignore-drain", ""));
    let patient = service.command(["disable", "victim", "--timeout", "10m", "--json"]).start();
    service.wait_for("victim", |plugin| plugin["state"] == "disabling");
    let watched = Instant::now() + WATCHED;
    while Instant::now() < watched {
        assert_ne!(service.plugin_processes(), [0; 0], "it has ten minutes");
    }
    // The first has been under way for longer than all that the second has.
    let report = service.json(["disable", "victim", "--timeout", "2s"]);
    assert!(stages(&report).contains(&"sigterm".to_owned()), "{report}");
    assert_eq!(report["forced"], false, "it ends at its SIGTERM: {report}");
    assert_eq!(report["exit"]["status"]["signaled"]["signal"], 15, "{report}");
    patient.wait().expect(0);
}

#[test]
fn the_budget_of_one_disabling_is_not_that_of_a_later_emergency() {
    let service = Service::start();
    let lines = "[lifecycle]\nstop_timeout = \"500ms\"\nhealth_interval = \"50ms\"\n\
        health_timeout = \"500ms\"\nhealth_failures = 1\n[lifecycle.restart]\npolicy = \"never\"";
    service.enable(&Package::hostile("victim", "well", lines));
    service.json(["disable", "victim", "--timeout", "10m"]);
    let plugin = service.json(["enable", "victim"])["plugin"].clone();
    // Below the init of its compartment. It hears no SIGTERM.
    let init = plugin["process"]["pid"].as_i64().unwrap() as i32;
    let below = processes().into_iter().find(|process| process.parent == init).unwrap();
    kill(Pid::from_raw(below.pid), Signal::SIGSTOP).unwrap();
    // Long before the ten minutes, which were of that disabling.
    service.wait_for("victim", |plugin| plugin["state"] == "disabled");
    assert_eq!(service.plugin_processes(), [0; 0]);
}
