//! What is told of a death: why, what it used, and what it wrote last, without its secrets.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NEVER: &str = "[lifecycle.restart]\npolicy = \"never\"\n";
const SCHEMA: &str = "[config.schema]\ntype = \"object\"\n[config.schema.properties.password]\n\
                      type = \"string\"\nsecret = true\n";

fn is_gone(plugin: &Value) -> bool {
    plugin["state"] == "disabled" && plugin["lastExit"].is_object()
}

/// Has a plugin write the lines and abort; what is known of it then.
fn die(service: &Service, id: &str, lines: &Value) -> Value {
    let error = service.error(["call", id, "die", &lines.to_string()]);
    assert_eq!(error["code"], "PLUGIN_DIED", "{error}");
    let cause = json!({ "signal": Signal::SIGABRT as i32 });
    assert_eq!(error["details"]["exit"]["cause"], cause, "{error}");
    assert_eq!(error["details"]["method"], "die", "{error}");
    service.wait_for(id, is_gone)
}

/// The error of the event of its first death.
fn told(service: &Service, id: &str) -> Value {
    let mut events = service.command(["events", "--follow", "--json"]).start();
    let is_it = |event: &Value| event["event"] == "plugin:error" && event["pluginId"] == id;
    let line = events.stdout.line(|line| serde_json::from_str(line).is_ok_and(|it| is_it(&it)));
    serde_json::from_str::<Value>(&line).unwrap()["error"].clone()
}

fn set(service: &Service, config: &Value) -> Value {
    let words = ["config", "victim", "--set", "-", "--json"];
    let outcome = service.command(words).input(config.to_string()).run().expect(0);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn a_death_quotes_what_was_written_last_and_no_secret() {
    let mut service = Service::start();
    service.install(&Package::witness("victim", &format!("{NEVER}{SCHEMA}")));
    set(&service, &json!({ "password": "canary-first", "live": true }));
    service.json(["enable", "victim"]);
    let second = json!({ "password": "canary-second", "live": true });
    assert_eq!(set(&service, &second)["applied"], "now");
    let mut lines: Vec<String> = (0..30).map(|n| format!("line {n}")).collect();
    lines.extend(["first: canary-first", "second: canary-second", "the end"].map(str::to_owned));
    let plugin = die(&service, "victim", &json!(lines));
    let mut expected: Vec<String> = (23..30).map(|n| format!("line {n}")).collect();
    expected.extend(["first: <redacted>", "second: <redacted>", "the end"].map(str::to_owned));
    assert_eq!(plugin["lastExit"]["lastLogLines"], json!(expected), "{plugin}");
    assert_eq!(plugin["lastExit"]["exit"]["cause"], json!({ "signal": Signal::SIGABRT as i32 }));
    let error = told(&service, "victim");
    assert_eq!(error["code"], "PLUGIN_DIED", "{error}");
    assert_eq!(error["details"]["lastLogLines"], json!(expected), "{error}");
    assert_eq!(error["details"]["exit"]["usage"], plugin["lastExit"]["exit"]["usage"]);
    let shown = service.command(["inspect", "victim"]).run().expect(0).stdout;
    assert!(shown.contains("wrote last") && shown.contains("the end"), "{shown}");
    let log = service.command(["logs", "victim"]).run().expect(0).stdout;
    assert!(log.contains("canary-second"), "the control: it wrote that: {log}");
    let written = service.stop();
    assert!(written.stderr.contains("second: <redacted>"), "{}", written.stderr);
    for told in [shown, error.to_string(), plugin.to_string(), written.stderr] {
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_death_quotes_no_number_that_is_secret_and_no_half_of_a_secret() {
    let service = Service::start();
    let pin = "[config.schema.properties.pin]\ntype = \"integer\"\nsecret = true\n";
    service.install(&Package::witness("victim", &format!("{NEVER}{SCHEMA}{pin}")));
    // Longer than a record of the log.
    let secret = "canary-".repeat(3500);
    set(&service, &json!({ "password": secret, "pin": 48_151_623 }));
    service.json(["enable", "victim"]);
    let key = format!("the key is {secret}");
    let plugin = die(&service, "victim", &json!(["the pin is 48151623", key, "the end"]));
    let expected = json!(["the pin is <redacted>", "<redacted>", "the end"]);
    assert_eq!(plugin["lastExit"]["lastLogLines"], expected, "{plugin}");
    assert_eq!(told(&service, "victim")["details"]["lastLogLines"], expected);
    let log = service.command(["logs", "victim"]).run().expect(0).stdout;
    assert!(
        log.contains("canary-") && log.contains("48151623"),
        "the control: it wrote that: {log}"
    );
}

#[test]
fn whoever_took_a_plugin_over_shows_no_line_that_could_have_a_secret() {
    let service = Service::start();
    service.install(&Package::witness("victim", &format!("{NEVER}{SCHEMA}")));
    set(&service, &json!({ "password": "canary-first" }));
    service.json(["enable", "victim"]);
    // It has the old one until its next start, and the next supervisor knows only the new one.
    assert_eq!(set(&service, &json!({ "password": "canary-second" }))["applied"], "at-restart");
    service.enable(&Package::witness("plain", NEVER));
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    let lines = json!(["canary-first", "canary-second", "the end"]);
    let plain = die(&service, "plain", &lines);
    assert_eq!(plain["lastExit"]["lastLogLines"], lines, "it has no secrets: {plain}");
    let victim = die(&service, "victim", &lines);
    let withheld = &victim["lastExit"]["lastLogLinesWithheld"];
    assert!(withheld.as_str().unwrap().contains("bulkhead logs"), "{victim}");
    let error = told(&service, "victim");
    assert_eq!(&error["details"]["lastLogLinesWithheld"], withheld, "{error}");
    assert!(!victim.to_string().contains("canary") && !error.to_string().contains("canary"));
    // Its next start is this supervisor's own.
    service.json(["enable", "victim"]);
    let victim = die(&service, "victim", &lines);
    let lines = json!(["canary-first", "<redacted>", "the end"]);
    assert_eq!(victim["lastExit"]["lastLogLines"], lines, "the first is none any more: {victim}");
}

#[test]
fn what_was_still_in_the_pipe_of_a_plugin_that_died_without_a_supervisor_is_quoted() {
    let service = Service::start();
    let plugin = service.enable(&Package::hostile("victim", "count", NEVER));
    let pid = plugin["plugin"]["process"]["pid"].as_i64().unwrap();
    let mut log = service.command(["logs", "victim", "-f"]).start();
    log.stdout.line(|line| line.contains("line "));
    let supervisor = Pid::from_raw(service.supervisor());
    kill(supervisor, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    kill(supervisor, Signal::SIGKILL).unwrap();
    // The next supervisor starts it again, as it is to be enabled.
    let plugin = service.wait_for("victim", |plugin| plugin["lastExit"].is_object());
    let quoted = plugin["lastExit"]["lastLogLines"].as_array().unwrap();
    let kept = service.command(["logs", "victim", "--json", "-n", "100000"]).run().expect(0).stdout;
    let records = kept.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let records: Vec<Value> = records.collect();
    let mut of_it = records.iter().filter(|it| it["generation"] == records[0]["generation"]);
    let last = &of_it.next_back().unwrap()["message"];
    assert_eq!(quoted.last(), Some(last), "{plugin}");
    assert!(last.as_str().unwrap().starts_with("line "), "{last}");
}

#[test]
fn a_plugin_that_is_stopped_for_what_it_did_is_explained_like_one_that_died() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "double-reply", NEVER));
    let _ = service.command(["call", "victim", "echo", "1"]).run();
    let plugin = service.wait_for("victim", is_gone);
    assert_eq!(plugin["lastError"]["code"], "PROTOCOL_VIOLATION", "{plugin}");
    let details = &plugin["lastError"]["details"];
    assert!(details["lastLogLines"].is_array() && details["exit"].is_object(), "{plugin}");
    let error = told(&service, "victim");
    assert_eq!(&error["details"], details);
}

/// So many deaths, of which some come at the worst moment: before it is heard that the start is done.
const DEATHS: u64 = 60;

#[test]
fn no_death_is_missed_while_the_task_of_the_plugin_is_busy() {
    let service = Service::start();
    let lines = "permissions = [\"read:a\"]\n[lifecycle.restart]\npolicy = \"always\"\n\
        backoff = \"1ms\"\nbackoff_max = \"1ms\"\nlimit = 100000\nwindow = \"1h\"";
    // It dies right after its first health check.
    service.install(&Package::hostile("victim", "riot 0", lines));
    let deadline = Instant::now() + DEADLINE;
    // It may be gone before it is up.
    while service.command(["enable", "victim"]).run().code() != 0 {
        assert!(Instant::now() < deadline, "it never comes up");
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for granted in [r#"{"granted":[]}"#, r#"{"granted":["read:a"]}"#].repeat(2) {
            let mut admin = service.admin();
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let put = admin.ask("PUT", "/v1/plugins/victim/permissions", granted);
                    assert_eq!(put.unwrap().status, 200);
                }
            });
        }
        let mut last = Value::Null;
        while Instant::now() < deadline {
            last = service.json(["inspect", "victim"]);
            if last["failures"].as_u64() >= Some(DEATHS) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(last["failures"].as_u64() >= Some(DEATHS), "it is not started again: {last}");
    });
}
