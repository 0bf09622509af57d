//! What a start meets: each way to fail is a coded error of its own, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::{Duration, Instant};

use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::Value;

/// Enables a plugin that must fail within `budget`, and sees that nothing is left of the try.
fn fails(mode: &str, lines: &str, budget: Duration) -> Value {
    let service = Service::start();
    let package = Package::hostile("victim", mode, lines);
    service.install(&package);
    let before = Instant::now();
    let error = service.error(["enable", "victim"]);
    let took = before.elapsed();
    assert!(took < budget + lane::slack(), "{mode}: refused after {took:?}, budget {budget:?}");
    assert_eq!(service.plugin_processes(), [0; 0], "{mode} left processes");
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!(plugin["state"], "disabled", "{mode}: {plugin}");
    assert_eq!(plugin["desired"], "disabled", "{mode}: {plugin}");
    assert_eq!(plugin["process"], Value::Null, "{mode}: {plugin}");
    assert_eq!(plugin["lastError"]["code"], error["code"], "{mode}: {plugin}");
    error
}

const INIT_SOON: &str = "[lifecycle]\ninit_timeout = \"500ms\"\nhealth_timeout = \"500ms\"";
const HALF: Duration = Duration::from_millis(500);

#[test]
fn one_that_behaves_is_enabled() {
    let service = Service::start();
    let reply = service.enable(&Package::hostile("victim", "well", ""));
    assert_eq!(reply["state"], "enabled");
    assert_eq!(service.json(["call", "victim", "echo", "[1, 2]"]), serde_json::json!([1, 2]));
}

#[test]
fn never_a_hello() {
    let error = fails("never-hello", INIT_SOON, HALF);
    assert_eq!(
        (&error["code"], &error["details"]["stage"]),
        (&"TIMEOUT".into(), &"handshake".into())
    );
    assert_eq!(error["exitCode"], 5);
}

#[test]
fn never_takes_its_session() {
    let error = fails("never-session", INIT_SOON, HALF);
    assert_eq!(
        (&error["code"], &error["details"]["stage"]),
        (&"TIMEOUT".into(), &"handshake".into())
    );
}

#[test]
fn hello_twice() {
    let error = fails("hello-twice", "", Duration::ZERO);
    assert_eq!(error["code"], "PROTOCOL_VIOLATION", "{error}");
    assert!(error["details"]["violation"].as_str().unwrap().contains("hello"), "{error}");
}

#[test]
fn protocol_ninety_nine() {
    let error = fails("protocol 99", "", Duration::ZERO);
    assert_eq!(error["code"], "VERSION_INCOMPATIBLE", "{error}");
    assert_eq!(error["details"]["found"], "99.0.0");
}

#[test]
fn garbage_on_standard_output_is_log_and_does_no_harm() {
    let service = Service::start();
    let reply = service.enable(&Package::hostile("victim", "garbage-stdout", ""));
    assert_eq!(reply["state"], "enabled");
    service.json(["disable", "victim"]);
    let log = service.command(["logs", "victim", "--json"]).run().expect(0).stdout;
    assert!(log.lines().any(|line| line.contains("\"stdout\"")), "{log}");
}

#[test]
fn garbage_on_the_session() {
    for mode in ["bad-magic", "hello-trailing", "call-before-hello"] {
        let error = fails(mode, INIT_SOON, HALF);
        assert_eq!(error["code"], "PROTOCOL_VIOLATION", "{mode}: {error}");
    }
}

#[test]
fn an_exit_at_once() {
    let error = fails("exit-at-once 3", "", Duration::ZERO);
    assert_eq!(error["code"], "INITIALIZATION_FAILED", "{error}");
    assert_eq!(error["details"]["exit"]["status"]["exited"], 3, "{error}");
    let error = fails("abort-at-once", "", Duration::ZERO);
    assert_eq!(error["details"]["exit"]["status"]["signaled"]["signal"], 6, "{error}");
}

#[test]
fn a_hang_in_init() {
    let error = fails("hang-in-init", INIT_SOON, HALF);
    assert_eq!((&error["code"], &error["details"]["stage"]), (&"TIMEOUT".into(), &"init".into()));
}

#[test]
fn one_that_freezes_or_stops_reading_before_it_is_healthy() {
    for mode in ["stop-self", "never-reads", "hang-in-health"] {
        let lines = format!("{INIT_SOON}\n[sandbox]\nprofile = \"program\"");
        let error = fails(mode, &lines, HALF);
        let stage = &error["details"]["stage"];
        assert_eq!((&error["code"], stage), (&"TIMEOUT".into(), &"health".into()), "{mode}");
    }
}

#[test]
fn a_crash_or_a_refusal_in_init() {
    let error = fails("crash-in-init", "", Duration::ZERO);
    assert_eq!(error["code"], "INITIALIZATION_FAILED", "{error}");
    assert_eq!(error["details"]["stage"], "init", "{error}");
    let error = fails("fail-init", "", Duration::ZERO);
    assert_eq!(error["code"], "INITIALIZATION_FAILED", "{error}");
    assert!(error["details"]["pluginCode"].is_string(), "{error}");
}

#[test]
fn a_binary_that_was_tampered_with_after_the_install() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    let digest = service.install(&package)["digest"].as_str().unwrap().to_owned();
    let stored = service.directory().join("state/store").join(digest).join("bin/victim");
    // Only one who owns the store can do this; a compromised supervisor cannot.
    let mut bytes = std::fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    replace(&stored, &bytes);
    let error = service.error(["enable", "victim"]);
    assert_eq!(error["code"], "INTEGRITY_FAILED", "{error}");
    assert!(error["details"]["path"].as_str().unwrap().contains("bin/victim"), "{error}");
    assert_eq!(service.plugin_processes(), [0; 0]);
}

/// Puts other bytes in a read-only file's place.
fn replace(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let parent = path.parent().unwrap();
    std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o555)).unwrap();
}

#[test]
fn a_binary_that_is_missing_or_has_no_run_bit() {
    let service = Service::start();
    let missing = Package::hostile("missing", "well", "");
    std::fs::remove_file(missing.entry()).unwrap();
    let plain = Package::hostile("plain", "well", "");
    plain.permit(0o644);
    let errors = [&missing, &plain].map(|package| {
        let path = package.path().to_str().unwrap();
        let installed = service.command(["install", path, "--json"]).run();
        let failed = if installed.code() == 0 {
            service.error(["enable", package.id()])
        } else {
            serde_json::from_str(&installed.stderr).unwrap()
        };
        assert!(failed["message"].as_str().unwrap().contains("bin/"), "{failed}");
        failed
    });
    assert_eq!(errors[0]["code"], "NOT_FOUND", "{}", errors[0]);
    assert_eq!(errors[1]["code"], "ENTRY_INVALID", "{}", errors[1]);
    assert_eq!(service.plugin_processes(), [0; 0]);
}

#[test]
fn a_manifest_that_is_wrong_is_told_with_its_place() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "[limits]\nmemory = \"lots\"");
    let error = service.error(["install", package.path().to_str().unwrap()]);
    assert_eq!(error["code"], "MANIFEST_INVALID", "{error}");
    assert_eq!(error["details"]["line"], 4, "{error}");
    let manifest = package.path().join("plugin.toml");
    assert_eq!(
        error["details"]["path"],
        manifest.to_str().unwrap(),
        "the operator's, not our copy"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = service.error(["install", empty.path().to_str().unwrap()]);
    assert!(error["message"].as_str().unwrap().contains("plugin.toml"), "{error}");
    assert_eq!(service.json(["ls"])["plugins"], serde_json::json!([]));
    let store = service.directory().join("state/store");
    assert_eq!(std::fs::read_dir(store).unwrap().count(), 0, "nothing of it is left");
}

#[test]
fn a_dependency_that_is_missing_is_named() {
    let service = Service::start();
    service.install(&Package::hostile("victim", "well", "[dependencies]\nother = \"^2\""));
    let error = service.error(["enable", "victim"]);
    assert_eq!(error["code"], "DEPENDENCY_MISSING", "{error}");
    assert_eq!(error["details"]["dependency"], "other");
    assert_eq!(error["details"]["required"], "^2");
    assert_eq!(error["details"]["found"], Value::Null);
    service.install(&Package::hostile("other", "well", ""));
    let error = service.error(["enable", "victim"]);
    assert_eq!(error["details"]["found"], "1.0.0", "{error}");
}

#[test]
fn dependencies_start_first_and_a_cycle_is_refused() {
    let service = Service::start();
    service.install(&Package::hostile("one", "well", "[dependencies]\ntwo = \"^1\""));
    service.install(&Package::hostile("two", "well", "[dependencies]\nthree = \"^1\""));
    let three = Package::hostile("three", "well", "");
    service.install(&three);
    service.json(["enable", "one"]);
    for id in ["one", "two", "three"] {
        assert_eq!(service.json(["inspect", id])["state"], "enabled", "{id}");
    }
    let error = service.error(["disable", "three"]);
    assert_eq!(error["code"], "DEPENDENTS_ENABLED", "{error}");
    assert_eq!(error["details"]["dependents"], serde_json::json!(["two"]));
    for id in ["one", "two", "three"] {
        service.json(["disable", id]);
    }
    service.json(["uninstall", "three"]);
    service.install(&Package::hostile("three", "well", "[dependencies]\none = \"^1\""));
    let error = service.error(["enable", "one"]);
    assert_eq!(error["code"], "DEPENDENCY_CYCLE", "{error}");
}
