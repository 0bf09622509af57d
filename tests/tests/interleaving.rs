//! What comes while an operation is under way, or at the same moment: nothing of it is lost, and an
//! operator who disables a plugin is not kept waiting.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::{Duration, Instant};

use bulkhead_tests::census::{is_stopped, processes, wait_until_stopped};
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Running};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long something is watched for that must not happen.
const WATCHED: Duration = Duration::from_secs(2);

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn start_upgrade(service: &Service, package: &Package) -> Running {
    let path = package.path().to_str().unwrap();
    service.command(["upgrade", path, "--yes", "--json"]).start()
}

/// What a verb that must have failed has said.
fn refusal(asked: Running) -> Value {
    let outcome = asked.wait();
    assert_ne!(outcome.code(), 0, "{}", outcome.stdout);
    serde_json::from_str(&outcome.stderr).unwrap_or_else(|_| panic!("{}", outcome.stderr))
}

fn signers(service: &Service) -> Value {
    let state = service.json(["state", "doc"]);
    let entries = state["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["key"] == "signed").unwrap()["value"].clone()
}

fn names_of_events(service: &Service) -> Vec<String> {
    let text = service.command(["events", "--json"]).run().expect(0).stdout;
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = events.filter(|event| event["event"] != "plugin:resource:usage");
    events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the audit says that something has begun.
fn wait_for_begin(service: &Service, action: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
        let begun = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        if begun.into_iter().any(|row| row["action"] == action && row["outcome"] == "begun") {
            return;
        }
        assert!(Instant::now() < deadline, "{action} was not begun: {audit}");
    }
}

/// The plugin is asked for its word on a new configuration, and the supervisor would be held right
/// after the upgrade had read what is stored.
#[test]
fn a_configuration_that_is_under_way_is_not_lost_to_an_upgrade() {
    let mut service = Service::with("heartbeat = \"60s\"");
    let lines = "[lifecycle]\ninit_timeout = \"50s\"";
    service.enable(&Package::witness("clinic", lines));
    service.stop();
    service.set_environment("BULKHEAD_PAUSE_AT", "upgrade/tree/before");
    service.run_again();
    let running = service.wait_for("clinic", |plugin| plugin["state"] == "enabled");
    // Below the init of its compartment.
    let init = running["process"]["pid"].as_i64().unwrap() as i32;
    let below = processes().into_iter().find(|process| process.parent == init).unwrap();
    let (plugin, supervisor) = (below.pid, service.supervisor());
    send(plugin, Signal::SIGSTOP);
    let config = json!({ "rooms": 3 });
    let configuring = service.command(["config", "clinic", "--set", "-", "--json"]);
    let configuring = configuring.input(config.to_string()).start();
    wait_for_begin(&service, "configure");
    let two = Package::witness("clinic", &format!("description = \"two\"\n{lines}"));
    let manifest = std::fs::read_to_string(two.path().join("plugin.toml")).unwrap();
    two.write("plugin.toml", &manifest.replace("1.0.0", "2.0.0"));
    let upgrading = start_upgrade(&service, &two);
    let watched = Instant::now() + WATCHED;
    while Instant::now() < watched && !is_stopped(supervisor) {
        std::thread::yield_now();
    }
    send(plugin, Signal::SIGCONT);
    wait_until_stopped(supervisor);
    send(supervisor, Signal::SIGCONT);
    configuring.wait().expect(0);
    upgrading.wait().expect(0);
    let plugin = service.json(["inspect", "clinic"]);
    assert_eq!((&plugin["version"], &plugin["config"]), (&json!("2.0.0"), &config));
    assert_eq!(service.json(["call", "clinic", "seen"])["config"], config, "and it is in force");
}

#[test]
fn disabling_ends_a_probation_and_what_was_not_proven_is_undone() {
    let mut service = Service::start();
    service.enable(&Package::revision("doc", "1.0.0", "well", ""));
    for (mode, lines, stage, state) in [
        ("well", "[lifecycle]\nprobation = \"10m\"", "probation", "enabled"),
        ("hang-in-init", "[lifecycle]\ninit_timeout = \"5m\"", "start", "enabling"),
    ] {
        let two = Package::revision("doc", "2.0.0", mode, lines);
        let upgrading = start_upgrade(&service, &two);
        service.wait_for("doc", |plugin| plugin["version"] == "2.0.0" && plugin["state"] == state);
        let disabled = service.json(["disable", "doc"]);
        assert_eq!(disabled["state"], "disabled", "{mode}");
        assert_eq!(service.plugin_processes(), [0; 0], "{mode}");
        let error = refusal(upgrading);
        assert_eq!(
            (&error["code"], &error["details"]["stage"], &error["details"]["state"]),
            (&json!("CONFLICT"), &json!(stage), &json!("disabled")),
            "{mode}: {error}"
        );
        let is = |plugin: &Value| {
            assert_eq!(
                (&plugin["version"], &plugin["state"], &plugin["desired"], &plugin["previous"]),
                (&json!("1.0.0"), &json!("disabled"), &json!("disabled"), &Value::Null),
                "{mode}"
            );
        };
        is(&service.json(["inspect", "doc"]));
        assert_eq!(names_of_events(&service).last().unwrap(), "plugin:rolledback", "{mode}");
        let signed = signers(&service);
        assert!(!signed.as_array().unwrap().contains(&json!("2.0.0")), "{mode}: {signed}");
        service.stop();
        service.run_again();
        is(&service.json(["inspect", "doc"]));
        assert_eq!(service.json(["enable", "doc"])["state"], "enabled", "{mode}");
    }
}

#[test]
fn who_enables_is_told_that_it_was_disabled_or_uninstalled_meanwhile() {
    let service = Service::start();
    let lines = "[lifecycle]\ninit_timeout = \"5m\"";
    service.install(&Package::revision("doc", "1.0.0", "hang-in-init", lines));
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), r#"{"rooms": 3}"#).unwrap();
    for (verb, state) in [("disable", "disabled"), ("uninstall", "uninstalling")] {
        let words = ["enable", "doc", "--json", "--config", config.path().to_str().unwrap()];
        let enabling = service.command(words).start();
        service.wait_for("doc", |plugin| plugin["state"] == "enabling");
        service.json([verb, "doc"]);
        let error = refusal(enabling);
        assert_eq!(
            (&error["code"], &error["details"]["state"]),
            (&json!("CONFLICT"), &json!(state)),
            "{error}"
        );
        if verb == "disable" {
            let plugin = service.json(["inspect", "doc"]);
            assert_eq!(
                (&plugin["desired"], &plugin["config"]),
                (&json!("disabled"), &json!({})),
                "the configuration is that of before"
            );
        }
    }
    assert_eq!(service.plugin_processes(), [0; 0]);
    assert_eq!(service.error(["inspect", "doc"])["code"], "NOT_FOUND");
}

#[test]
fn an_enabling_that_fails_puts_back_what_was_wanted_and_the_configuration() {
    let service = Service::start();
    service.install(&Package::revision("doc", "1.0.0", "crash-in-init", ""));
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), r#"{"rooms": 3}"#).unwrap();
    let error = service.error(["enable", "doc", "--config", config.path().to_str().unwrap()]);
    assert_eq!(error["code"], "INITIALIZATION_FAILED");
    let plugin = service.json(["inspect", "doc"]);
    assert_eq!(
        (&plugin["state"], &plugin["desired"], &plugin["config"]),
        (&json!("disabled"), &json!("disabled"), &json!({}))
    );
}

/// The manifest of the version before cannot be read for a while, so nobody can manage it.
#[test]
fn an_undo_that_fails_is_tried_again_by_itself_and_shown_until_it_is_done() {
    // The trees are root's.
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    let digest = service.enable(&Package::revision("doc", "1.0.0", "well", ""))["plugin"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let lines = "[lifecycle]\ninit_timeout = \"5s\"";
    let two = Package::revision("doc", "2.0.0", "hang-in-init", lines);
    let upgrading = start_upgrade(&service, &two);
    service.wait_for("doc", |plugin| plugin["version"] == "2.0.0" && plugin["state"] == "enabling");
    let tree = service.directory().join("state/store").join(digest);
    let (manifest, aside) = (tree.join("plugin.toml"), tree.join("aside"));
    std::fs::rename(&manifest, &aside).unwrap();
    let error = refusal(upgrading);
    assert!(error["details"]["undo"]["code"].is_string(), "{error}");
    let shown = service.wait_for("doc", |plugin| plugin["unfinished"] != Value::Null);
    let shown = &shown["unfinished"];
    assert_eq!((&shown["operation"], &shown["undoing"]), (&json!("upgrade"), &json!(true)));
    let told = service.command(["events", "--json"]).run().expect(0).stdout;
    let warned = |line: &&str| line.contains("OPERATION_UNFINISHED");
    assert_eq!(told.lines().filter(warned).count(), 1, "{told}");
    std::fs::rename(&aside, &manifest).unwrap();
    // Nobody asks for anything.
    let plugin = service
        .wait_for("doc", |plugin| plugin["version"] == "1.0.0" && plugin["state"] == "enabled");
    assert_eq!(plugin["desired"], "enabled");
    let mut events = service.command(["events", "--follow", "--json", "--since", "0"]).start();
    events.stdout.line(|line| line.contains("plugin:rolledback"));
    assert_eq!(service.json(["inspect", "doc"])["unfinished"], Value::Null);
    assert_eq!(signers(&service), json!(["1.0.0", "1.0.0"]));
}

#[test]
fn a_dependency_whose_enabling_nobody_waits_for_any_more_can_be_disabled_for_good() {
    let service = Service::start();
    let lines = "[lifecycle]\ninit_timeout = \"5m\"";
    service.install(&Package::hostile("base", "hang-in-init", lines));
    service.install(&Package::hostile("needs", "well", "[dependencies]\nbase = \"1\""));
    let enabling = service.command(["enable", "needs", "--json"]).start();
    service.wait_for("base", |plugin| plugin["state"] == "enabling");
    service.json(["disable", "needs"]);
    assert_eq!(refusal(enabling)["code"], "CONFLICT");
    // The enabling of the dependency is one of its own, and goes on.
    assert_eq!(service.json(["inspect", "base"])["state"], "enabling");
    service.json(["disable", "base"]);
    send(service.supervisor(), Signal::SIGKILL);
    for id in ["base", "needs"] {
        let plugin = service.wait_for(id, |plugin| plugin["state"] == "disabled");
        assert_eq!(plugin["desired"], "disabled", "{id}: {plugin}");
    }
    assert_eq!(service.plugin_processes(), [0; 0]);
}
