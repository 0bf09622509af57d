//! What Landlock denies a plugin is told: in `inspect`, as a warning, in the audit and with its death.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, process, test_name};
use serde_json::{Value, json};

/// Looks at a plugin until it is as wanted: a denial that is only counted is no event to wait for.
fn look(service: &Service, id: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let deadline = Instant::now() + lane::slack();
    loop {
        let plugin = service.json(["inspect", id]);
        if wanted(&plugin) {
            return Some(plugin);
        }
        if Instant::now() > deadline {
            return None;
        }
    }
}

/// Whether what Landlock denies can be told here, by a service's own word; else a skip.
fn observable(test: &str, service: &Service) -> bool {
    // Known without waiting for a record that will not come.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 15) {
        lane::skip(test, &format!("kernel {} has no Landlock ABI 7", release.trim()));
        return false;
    }
    service.enable(&Package::hostile("probe", "well", ""));
    // The record of a start may come a moment after it.
    if look(service, "probe", |plugin| plugin["denialsUnobservable"].is_null()).is_some() {
        return true;
    }
    let plugin = service.json(["inspect", "probe"]);
    lane::skip(test, plugin["denialsUnobservable"].as_str().unwrap());
    false
}

/// What there is of one kind of event about the victim.
fn warnings(service: &Service) -> Vec<Value> {
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|it| it["event"] == "plugin:warning" && it["pluginId"] == "victim").collect()
}

#[test]
fn a_denial_in_a_plugin_that_runs_is_told_once_and_counted() {
    if !lane::root(test_name!()) {
        return;
    }
    // The control: nothing but the compartment keeps it from being listed.
    assert!(std::fs::read_dir("/etc").is_ok());
    let service = Service::start();
    if !observable(test_name!(), &service) {
        return;
    }
    service.enable(&Package::hostile("victim", "read-outside 3", ""));
    let plugin = look(&service, "victim", |it| it["denials"][0]["count"] == 3).unwrap();
    let denial = &plugin["denials"][0];
    let remedy = "[sandbox] read = [\"/etc\"]";
    assert_eq!(plugin["denials"].as_array().unwrap().len(), 1, "{plugin}");
    assert_eq!(denial["layer"], "landlock");
    assert_eq!((&denial["access"], &denial["path"]), (&json!("fs.read_dir"), &json!("/etc")));
    assert_eq!(denial["remedy"], remedy);
    let warnings = warnings(&service);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["code"], "PERMISSION_DENIED");
    assert_eq!((&warnings[0]["path"], &warnings[0]["remedy"]), (&json!("/etc"), &json!(remedy)));
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let rows: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let denied = |row: &&Value| row["action"] == "denied" && row["pluginId"] == "victim";
    assert_eq!(rows.iter().filter(denied).count(), 1, "{audit}");
    let shown = service.command(["inspect", "victim"]).run().expect(0).stdout;
    assert!(shown.contains("fs.read_dir on \"/etc\", 3 times"), "{shown}");
    // The control: what behaves is denied nothing.
    assert_eq!(service.json(["inspect", "probe"])["denials"], json!([]));
}

#[test]
fn a_death_is_told_with_the_denial_before_it() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    if !observable(test_name!(), &service) {
        return;
    }
    let never = "[lifecycle.restart]\npolicy = \"never\"";
    service.install(&Package::hostile("victim", "read-outside-and-exit 3", never));
    let _ = service.command(["enable", "victim"]).run();
    let plugin = service.wait_for("victim", |it| it["lastExit"].is_object());
    let explanation = plugin["lastExit"]["explanation"].as_str().unwrap();
    let told = "exit code 3; before that Landlock refused it fs.read_dir on \"/etc\"";
    assert!(explanation.contains(told), "{explanation}");
}

#[test]
fn a_command_is_reported_with_what_it_was_denied() {
    if !lane::root(test_name!()) {
        return;
    }
    let report = |flag: [&str; 2]| -> Value {
        let command = "exec 3<>/dev/tcp/127.0.0.1/9";
        let arguments = ["exec", "--report", "-", flag[0], flag[1], "--", "bash", "-c", command];
        let output = process::bulkhead(arguments).run();
        let begin = output.stderr.find("\n{").map_or(0, |at| at + 1);
        serde_json::from_str(&output.stderr[begin..]).unwrap()
    };
    let denied = report(["--connect", "80"]);
    if !denied["denialsObservable"].as_bool().unwrap_or_else(|| panic!("{denied}")) {
        let why = "what Landlock denies is not observable: it takes Landlock ABI 7 and auditing";
        return lane::skip(test_name!(), why);
    }
    let denial = &denied["denials"][0];
    assert_eq!((&denial["access"], &denial["port"]), (&json!("net.connect_tcp"), &json!(9)));
    assert_eq!(denial["remedy"], "--connect 9");
    // The control: with it the connection is refused by nobody who listens.
    assert_eq!(report(["--connect", "9"])["denials"], json!([]));
}
