//! Health checks of plugins that run, and what becomes of one that hangs.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::census::processes;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::Running;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Checked often, and started again soon.
const OFTEN: &str = "[lifecycle]\nhealth_interval = \"50ms\"\nhealth_timeout = \"500ms\"\n\
    health_failures = 2\n[lifecycle.restart]\nbackoff = \"10ms\"\n";

fn follow(service: &Service) -> Running {
    service.command(["events", "--follow", "--json"]).start()
}

/// The next event about the victim that has any of these words.
fn next(events: &mut Running, names: &[&str]) -> Value {
    let wanted = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["pluginId"] == "victim" && names.iter().any(|name| event["event"] == *name)
    };
    serde_json::from_str(&events.stdout.line(wanted)).unwrap()
}

/// The process below the init of its compartment.
fn below_init(plugin: &Value) -> Pid {
    let init = plugin["process"]["pid"].as_i64().unwrap() as i32;
    Pid::from_raw(processes().into_iter().find(|process| process.parent == init).unwrap().pid)
}

fn pid(service: &Service, id: &str) -> Value {
    service.json(["inspect", id])["process"]["pid"].clone()
}

#[test]
fn one_that_hangs_is_seen_stopped_and_started_again() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "hang-in-call", OFTEN));
    service.enable(&Package::hostile("sibling", "well", OFTEN));
    let unchecked = OFTEN.replace("50ms", "0s");
    service.enable(&Package::hostile("unchecked", "hang-in-call", &unchecked));
    let before = ["victim", "sibling", "unchecked"].map(|id| pid(&service, id));
    let mut events = follow(&service);
    for id in ["unchecked", "victim"] {
        service.error(["call", id, "echo", "--timeout", "100ms"]);
    }

    let kinds = ["plugin:warning", "plugin:error", "plugin:restarting", "plugin:recovered"];
    let warning = next(&mut events, &kinds);
    assert_eq!(warning["code"], "HEALTH_CHECK_FAILED", "{warning}");
    assert!(warning["message"].as_str().unwrap().contains("did not answer"), "{warning}");
    let error = next(&mut events, &kinds);
    assert_eq!(error["event"], "plugin:error", "{error}");
    assert_eq!(error["error"]["code"], "TIMEOUT", "{error}");
    assert_eq!(error["error"]["details"]["stage"], "health", "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("hangs"), "{error}");
    next(&mut events, &["plugin:recovered"]);
    let after = ["victim", "sibling", "unchecked"].map(|id| pid(&service, id));
    assert_ne!(after[0], before[0]);
    assert_eq!(service.json(["inspect", "victim"])["failedChecks"], 0);
    assert_eq!(after[1], before[1], "one that is well is left alone");
    assert_eq!(after[2], before[2], "and one that is not checked");
    assert_eq!(service.json(["call", "sibling", "echo", "1"]), json!(1));
}

#[test]
fn one_that_says_that_it_is_not_well_is_stopped_with_what_it_said() {
    let service = Service::start();
    let never = format!("{OFTEN}policy = \"never\"\n");
    service.install(&Package::hostile("victim", "sickens 3", &never));
    let mut events = follow(&service);
    service.json(["enable", "victim"]);
    let warning = next(&mut events, &["plugin:warning"]);
    assert!(warning["message"].as_str().unwrap().contains("DISK_FULL"), "{warning}");
    let plugin = service.wait_for("victim", |plugin| plugin["state"] == "disabled");
    let error = &plugin["lastError"];
    assert_eq!(error["code"], "CALL_FAILED", "{plugin}");
    assert_eq!(error["details"]["pluginCode"], "DISK_FULL", "{plugin}");
    assert!(error["message"].as_str().unwrap().contains("no room left in /data"), "{plugin}");
    assert_eq!(service.plugin_processes(), [0; 0]);
}

#[test]
fn what_one_says_of_its_health_quotes_no_secret() {
    let service = Service::start();
    let setting = "[config.schema]\ntype = \"object\"\n\
                   [config.schema.properties.word]\ntype = \"string\"\nsecret = true\n";
    let never = format!("{OFTEN}policy = \"never\"\n{setting}");
    service.install(&Package::hostile("victim", "sickens 3", &never));
    let secret = json!({ "word": "no room left" }).to_string();
    service.command(["config", "victim", "--set", "-"]).input(secret).run().expect(0);
    let mut events = follow(&service);
    service.json(["enable", "victim"]);
    let warning = next(&mut events, &["plugin:warning"]);
    let told = warning["message"].as_str().unwrap();
    assert!(told.contains("DISK_FULL") && told.contains("<redacted> in /data"), "{warning}");
    let plugin = service.wait_for("victim", |plugin| plugin["state"] == "disabled");
    let told = plugin["lastError"]["message"].as_str().unwrap();
    assert!(told.contains("<redacted> in /data"), "{plugin}");
}

#[test]
fn one_that_keeps_hanging_trips_and_is_tried_again_after_the_cool_down() {
    let service = Service::start();
    let lines = format!("{OFTEN}backoff_max = \"10ms\"\nlimit = 0\ncool_down = \"100ms\"\n");
    service.enable(&Package::hostile("victim", "hang-in-call", &lines));
    let mut events = follow(&service);
    service.error(["call", "victim", "echo", "--timeout", "100ms"]);
    let kinds = ["plugin:tripped", "plugin:restarting", "plugin:recovered"];
    let tripped = next(&mut events, &kinds);
    assert_eq!(tripped["event"], "plugin:tripped", "{tripped}");
    assert!(tripped["nextTryInMs"].as_u64().unwrap() <= 100, "{tripped}");
    assert_eq!(next(&mut events, &kinds)["event"], "plugin:recovered");
    service.wait_for("victim", |plugin| plugin["state"] == "enabled");
}

#[test]
fn one_that_hangs_in_its_start_holds_up_no_other() {
    let service = Service::start();
    let patient = "[lifecycle]\ninit_timeout = \"1h\"\n";
    service.install(&Package::hostile("victim", "hang-in-init", patient));
    let mut events = follow(&service);
    let hanging = service.command(["enable", "victim"]).start();
    next(&mut events, &["plugin:enabling"]);
    let package = Package::hostile("sibling", "well", "");
    assert_eq!(service.enable(&package)["state"], "enabled");
    assert_eq!(service.json(["call", "sibling", "echo", "1"]), json!(1));
    assert_eq!(service.json(["disable", "sibling"])["state"], "disabled");
    service.json(["uninstall", "sibling"]);
    assert_eq!(service.json(["inspect", "victim"])["state"], "enabling");
    let report = service.json(["disable", "victim"]);
    hanging.wait().expect(1);
    // It ran, and is told as what it was: killed.
    assert_eq!(report["forced"], true, "{report}");
    assert_eq!(report["exit"]["status"]["signaled"]["signal"], 9, "{report}");
    let stages = report["timeline"].as_array().unwrap();
    assert!(stages.iter().any(|stage| stage["stage"] == "sigkill"), "{report}");
}

#[test]
fn one_that_is_unwell_when_it_is_taken_over_has_failed_one_check_of_several() {
    let service = Service::start();
    let lines = "[lifecycle]\nhealth_interval = \"1h\"";
    service.enable(&Package::hostile("victim", "sickens 1", lines));
    let before = pid(&service, "victim");
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    // Of the next supervisor, which tells what was before, too.
    let mut events = follow(&service);
    let kinds = ["plugin:warning", "plugin:error", "plugin:restarting"];
    let warning = next(&mut events, &kinds);
    assert_eq!(warning["code"], "HEALTH_CHECK_FAILED", "{warning}");
    let plugin = service.wait_for("victim", |plugin| plugin["failedChecks"] == 1);
    assert_eq!((&plugin["state"], &plugin["process"]["pid"]), (&json!("enabled"), &before));
}

#[test]
fn one_that_cannot_be_taken_over_is_stopped_as_at_any_other_time() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "refuse-resume", ""));
    let before = pid(&service, "victim");
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    // Of the next supervisor, which tells what was before, too.
    let mut events = follow(&service);
    let error = next(&mut events, &["plugin:error"]);
    assert_eq!(error["error"]["code"], "INITIALIZATION_FAILED", "{error}");
    let plugin = service.wait_for("victim", |plugin| plugin["state"] == "enabled");
    assert_ne!(plugin["process"]["pid"], before);
    assert_eq!(plugin["lastExit"]["exit"]["status"]["exited"], 0, "it said goodbye: {plugin}");
}

#[test]
fn one_that_is_disabled_while_it_is_taken_over_may_finish() {
    let service = Service::start();
    let lines = "[lifecycle]\ninit_timeout = \"50s\"";
    let plugin = service.enable(&Package::hostile("victim", "well", lines));
    let below = below_init(&plugin["plugin"]);
    kill(below, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    service.wait_for("victim", |plugin| plugin["state"] == "enabling");
    let disabling = service.command(["disable", "victim", "--timeout", "30s", "--json"]).start();
    service.wait_for("victim", |plugin| plugin["state"] == "disabling");
    kill(below, Signal::SIGCONT).unwrap();
    let report: Value = serde_json::from_str(&disabling.wait().expect(0).stdout).unwrap();
    assert_eq!(
        (&report["forced"], &report["stateSaved"]),
        (&json!(false), &json!(true)),
        "{report}"
    );
}

#[test]
fn one_that_was_being_disabled_when_its_supervisor_died_is_not_started_again() {
    let service = Service::start();
    let lines = "[lifecycle]\ninit_timeout = \"50s\"";
    let plugin = service.enable(&Package::hostile("victim", "well", lines));
    let below = below_init(&plugin["plugin"]);
    // It hears neither that it is to go nor the next supervisor.
    kill(below, Signal::SIGSTOP).unwrap();
    let disabling = service.command(["disable", "victim", "--timeout", "5m"]).start();
    let stored = |plugin: &Value| plugin["state"] == "disabling" && plugin["desired"] == "disabled";
    service.wait_for("victim", stored);
    // Nobody asks for it again.
    drop(disabling);
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    service.wait_for("victim", |plugin| plugin["state"] == "enabling");
    let mut events = follow(&service);
    kill(below, Signal::SIGKILL).unwrap();
    let over = next(&mut events, &["plugin:restarting", "plugin:error", "plugin:disabled"]);
    assert_eq!(over["event"], "plugin:disabled", "{over}");
    assert_eq!(over["stop"]["exit"]["status"]["signaled"]["signal"], 9, "{over}");
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!((&plugin["state"], &plugin["desired"]), (&json!("disabled"), &json!("disabled")));
    assert_eq!(service.plugin_processes(), [0; 0]);
}
