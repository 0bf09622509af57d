//! Deaths: of plugins, of the supervisor, of the launcher.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn pid(plugin: &Value) -> i64 {
    plugin["process"]["pid"].as_i64().unwrap_or_else(|| panic!("it does not run: {plugin}"))
}

fn kill_supervisor(service: &Service) {
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
}

#[test]
fn the_same_process_serves_on_when_the_supervisor_was_killed() {
    let service = Service::start();
    let before = pid(&service.enable(&Package::hostile("victim", "well", ""))["plugin"]);
    for round in 0..5 {
        let old = service.supervisor();
        kill_supervisor(&service);
        // The socket is the launcher's: a call made now waits for the next supervisor.
        assert_eq!(service.json(["call", "victim", "echo", &format!("[{round}]")]), json!([round]));
        assert_ne!(service.supervisor(), old);
        assert_eq!(pid(&service.json(["inspect", "victim"])), before);
    }
    assert_eq!(service.json(["disable", "victim"])["stateSaved"], true);
}

#[test]
fn no_log_line_is_lost_or_doubled_when_the_supervisor_is_killed() {
    let service = Service::start();
    let package = Package::hostile("victim", "count", "");
    service.enable(&package);
    for _ in 0..5 {
        let log = service.command(["logs", "victim", "--json", "-n", "1"]).run().expect(0).stdout;
        kill_supervisor(&service);
        // Only once more was written is there something to lose.
        let mut follow = service.command(["logs", "victim", "--json", "-n", "1", "-f"]).start();
        follow.stdout.line(|line| line != log.trim());
    }
    service.json(["disable", "victim"]);
    let log = service.command(["logs", "victim", "--json", "-n", "1000000"]).run().expect(0).stdout;
    let numbers: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|record| record["message"].as_str()?.strip_prefix("line ")?.parse().ok())
        .collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "every line once, in order");
    assert!(numbers.len() >= 5);
}

#[test]
fn an_exit_while_no_supervisor_is_there_is_told_by_the_next() {
    let service = Service::start();
    let lines = "[lifecycle.restart]\npolicy = \"never\"";
    let plugin = service.enable(&Package::hostile("victim", "well", lines));
    let pid = pid(&plugin["plugin"]) as i32;
    kill(Pid::from_raw(service.supervisor()), Signal::SIGSTOP).unwrap();
    let supervisor = service.supervisor();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    let plugin = service.wait_for("victim", |plugin| {
        plugin["lastExit"] != Value::Null && plugin["state"] != "enabling"
    });
    assert!(plugin["lastExit"]["explanation"].is_string(), "{plugin}");
}

#[test]
fn a_supervisor_that_hangs_is_started_anew() {
    let service = Service::with("heartbeat = \"100ms\"");
    let before = pid(&service.enable(&Package::hostile("victim", "well", ""))["plugin"]);
    let old = service.supervisor();
    kill(Pid::from_raw(old), Signal::SIGSTOP).unwrap();
    assert_eq!(service.json(["call", "victim", "echo", "1"]), json!(1));
    assert_ne!(service.supervisor(), old);
    assert_eq!(pid(&service.json(["inspect", "victim"])), before);
}

#[test]
fn nothing_runs_on_when_the_launcher_was_killed_and_the_next_start_is_clean() {
    let mut service = Service::start();
    service.enable(&Package::hostile("one", "ignore-sigterm", ""));
    service.enable(&Package::hostile("two", "detached-child", "[sandbox]\nprofile = \"program\""));
    let supervisor = service.supervisor();
    service.kill();
    service.wait_until_nothing_runs(supervisor);
    service.run_again();
    for id in ["one", "two"] {
        service.wait_for(id, |plugin| plugin["state"] == "enabled");
    }
    assert_eq!(service.json(["call", "one", "echo", "7"]), json!(7));
}

#[test]
fn a_crash_is_followed_by_a_restart_and_a_crash_loop_trips() {
    let service = Service::start();
    let lines = "[lifecycle.restart]\nbackoff = \"10ms\"\nbackoff_max = \"20ms\"\nlimit = 3";
    let package = Package::hostile("victim", "crash-after 1", lines);
    let before = pid(&service.enable(&package)["plugin"]);
    assert_eq!(service.json(["call", "victim", "echo", "1"]), json!(1));
    let error = service.error(["call", "victim", "echo", "2"]);
    assert_eq!(error["code"], "PLUGIN_DIED", "{error}");
    let plugin = service
        .wait_for("victim", |p| p["state"] == "enabled" && p["process"]["pid"] != json!(before));
    assert!(plugin["lastExit"]["explanation"].is_string(), "{plugin}");
    let plugin = loop {
        let _ = service.command(["call", "victim", "echo", "1"]).run();
        let settled = |p: &Value| p["state"] == "enabled" || p["state"] == "tripped";
        let plugin = service.wait_for("victim", settled);
        if plugin["state"] == "tripped" {
            break plugin;
        }
    };
    assert_eq!(plugin["failures"], 4, "{plugin}");
    let error = service.error(["call", "victim", "echo", "1"]);
    assert_eq!(
        (&error["code"], &error["details"]["state"]),
        (&json!("CONFLICT"), &json!("tripped"))
    );
    // The operator's word overrides the cool-down.
    assert_eq!(service.json(["enable", "victim"])["state"], "enabled");
}

#[test]
fn a_death_by_seccomp_names_the_call_also_to_a_new_supervisor() {
    if !lane::root(test_name!()) || !lane::require(test_name!(), "audit") {
        return;
    }
    let service = Service::start();
    let never = "[lifecycle.restart]\npolicy = \"never\"";
    service.install(&Package::hostile("victim", "forbidden-call", never));
    let _ = service.command(["enable", "victim"]).run();
    let died = |p: &Value| p["state"] == "disabled" && p["lastExit"].is_object();
    for _ in 0..2 {
        let plugin = service.wait_for("victim", died);
        assert_eq!(plugin["lastExit"]["exit"]["denied_call"], "unshare", "{plugin}");
        let explanation = plugin["lastExit"]["explanation"].as_str().unwrap();
        assert!(explanation.contains("the system call unshare"), "{explanation}");
        // It is on the never-list.
        assert_eq!(plugin["lastExit"]["layer"], "seccomp", "{plugin}");
        assert_eq!(plugin["lastExit"]["remedy"], Value::Null, "{plugin}");
        let events = service.command(["events", "--json"]).run().expect(0).stdout;
        let told = |line: &str| line.contains("plugin:error") && line.contains("call unshare");
        assert!(events.lines().any(told), "{events}");
        // Its successor has the same stream, and goes on with it.
        kill_supervisor(&service);
        let _ = service.command(["enable", "victim"]).run();
    }
}

#[test]
fn a_protocol_violation_kills_the_plugin_and_the_event_says_why() {
    for mode in ["garbage-session", "oversized-length", "reply-unknown", "trailing-header"] {
        let service = Service::start();
        let lines = "[lifecycle.restart]\npolicy = \"never\"";
        service.install(&Package::hostile("victim", mode, lines));
        let _ = service.command(["enable", "victim"]).run();
        let plugin = service.wait_for("victim", |plugin| plugin["state"] == "disabled");
        assert_eq!(plugin["lastError"]["code"], "PROTOCOL_VIOLATION", "{mode}: {plugin}");
        assert_eq!(service.plugin_processes(), [0; 0], "{mode}");
        let events = service.command(["events", "--json"]).run().expect(0).stdout;
        assert!(
            events.lines().any(|line| {
                line.contains("\"plugin:error\"") && line.contains("PROTOCOL_VIOLATION")
            }),
            "{mode}: {events}"
        );
    }
}
