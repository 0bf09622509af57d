//! Health checks of plugins that run, and what becomes of one that hangs.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::process::Running;
use bulkhead_tests::service::Service;
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
    service.json(["disable", "victim"]);
    hanging.wait().expect(1);
}
