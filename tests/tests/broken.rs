//! Installed plugins that cannot be managed any more: seen, told why, repaired or removed.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

/// The names below a directory of the state.
fn names(service: &Service, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(service.directory().join("state").join(below)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Spoils the manifest of an installed plugin while no service runs.
fn spoil_manifest(service: &mut Service, digest: &str) {
    service.stop();
    let manifest: PathBuf =
        service.directory().join("state/store").join(digest).join("plugin.toml");
    std::fs::set_permissions(&manifest, Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&manifest, "id = [").unwrap();
    service.run_again();
}

fn state(service: &Service, id: &str) -> Value {
    service.json(["inspect", id])["state"].clone()
}

#[test]
fn a_plugin_whose_manifest_cannot_be_read_is_shown_and_a_new_installation_repairs_it() {
    let mut service = Service::start();
    let package = Package::hostile("victim", "well", "");
    let other = Package::hostile("other", "well", "");
    service.enable(&other);
    let digest = service.enable(&package)["plugin"]["digest"].as_str().unwrap().to_owned();
    spoil_manifest(&mut service, &digest);

    // The other one is not held up.
    service.wait_for("other", |plugin| plugin["state"] == "enabled");
    let listed = service.json(["ls"]);
    let listed: Vec<(&Value, &Value)> = listed["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| (&plugin["id"], &plugin["version"]))
        .collect();
    assert_eq!(listed, [(&json!("other"), &json!("1.0.0")), (&json!("victim"), &json!("1.0.0"))]);
    let broken = service.json(["inspect", "victim"]);
    assert_eq!((&broken["state"], &broken["desired"]), (&json!("broken"), &json!("enabled")));
    assert_eq!(broken["lastError"]["code"], "MANIFEST_INVALID", "{broken}");
    let shown = service.command(["inspect", "victim"]).run().expect(0).stdout;
    assert!(shown.contains("victim 1.0.0  broken") && shown.contains("plugin.toml"), "{shown}");
    for words in [&["enable", "victim"][..], &["call", "victim", "echo", "1"], &["logs", "victim"]]
    {
        let error = service.error(words);
        assert_eq!(error["details"]["state"], "broken", "{words:?}: {error}");
    }

    // What it was before: wanted, and so started.
    service.install(&package);
    service.wait_for("victim", |plugin| plugin["state"] == "enabled");
    assert_eq!(service.json(["call", "victim", "echo", "5"]), json!(5));
}

#[test]
fn a_plugin_that_is_broken_can_be_uninstalled_and_leaves_nothing() {
    let mut service = Service::start();
    let before = (names(&service, "store"), names(&service, "plugins"));
    let package = Package::hostile("victim", "well", "");
    let digest = service.enable(&package)["plugin"]["digest"].as_str().unwrap().to_owned();
    assert_ne!((names(&service, "store"), names(&service, "plugins")), before);
    spoil_manifest(&mut service, &digest);
    assert_eq!(state(&service, "victim"), "broken");
    let error = service.error(["disable", "victim"]);
    assert_eq!(error["details"]["state"], "broken", "{error}");
    service.json(["uninstall", "victim"]);
    assert_eq!(service.json(["ls"])["plugins"], json!([]));
    assert_eq!((names(&service, "store"), names(&service, "plugins")), before);
    // And the id is free again.
    service.enable(&package);
}

#[test]
fn a_log_directory_that_cannot_be_opened_breaks_its_plugin_only() {
    let mut service = Service::start();
    let package = Package::hostile("victim", "well", "");
    service.enable(&package);
    service.stop();
    let logs = service.directory().join("state/supervisor/logs/victim");
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    service.run_again();
    let broken = service.json(["inspect", "victim"]);
    assert_eq!(broken["state"], "broken", "{broken}");
    assert_eq!(broken["lastError"]["details"]["path"], json!(logs), "{broken}");
    // The cause is gone, so the operator's word is enough.
    std::fs::remove_file(&logs).unwrap();
    assert_eq!(service.json(["enable", "victim"])["state"], "enabled");
    service.stop();
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    service.run_again();
    service.json(["uninstall", "victim"]);
    assert!(!logs.exists());
}
