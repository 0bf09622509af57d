//! A disk that is full: what is refused says so, what was acknowledged is kept, and plugins can be
//! stopped all the same.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::File;
use std::io::Write as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const DISK: u64 = 192 << 20;
/// More than the write-ahead log of the store has room for without growing.
const LARGE: usize = 900_000;

/// Takes all the room that there is.
fn fill(service: &Service) {
    let mut ballast = File::create(service.state_within().join("ballast")).unwrap();
    let mut piece = vec![7; 1 << 20];
    loop {
        match ballast.write(&piece) {
            Ok(1..) => {}
            // The last pages one by one.
            _ if piece.len() > 4096 => piece.truncate(piece.len() / 16),
            _ => return,
        }
    }
}

fn note(service: &Service) -> Option<String> {
    let state = service.json(["state", "doc"]);
    let entries = state["entries"].as_array().unwrap();
    let note = entries.iter().find(|entry| entry["key"] == "note")?;
    Some(note["value"].as_str().unwrap().to_owned())
}

/// Writes until the store has no room left, not even in what it has of the disk already.
fn fill_store(service: &Service) {
    let mut admin = service.admin();
    let refused = (0..64_u8).any(|round| {
        let text = char::from(b'A' + round % 26).to_string().repeat(LARGE);
        let body = json!(["note", text]).to_string();
        admin.post("/v1/plugins/doc/call/write", &body).unwrap().status != 200
    });
    assert!(refused, "64 writes of 900 kB went to a disk that is full");
}

#[test]
fn a_plugin_can_be_disabled_for_good_and_uninstalled_while_the_disk_is_full() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::on_small_disk("", DISK);
    service.enable(&Package::revision("doc", "1.0.0", "well", ""));
    fill(&service);
    fill_store(&service);
    let reserve = service.state_within().join("supervisor/bulkhead.db-reserve");
    assert!(reserve.exists());
    // A disabling that is only remembered would be forgotten with the supervisor.
    assert_eq!(service.json(["disable", "doc"])["state"], "disabled");
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    let plugin = service.json(["inspect", "doc"]);
    assert_eq!(
        (&plugin["state"], &plugin["desired"]),
        (&json!("disabled"), &json!("disabled")),
        "{plugin}"
    );
    service.json(["uninstall", "doc"]);
    assert_eq!(service.error(["inspect", "doc"])["code"], "NOT_FOUND");
    std::fs::remove_file(service.state_within().join("ballast")).unwrap();
    service.json(["audit", "verify"]);
    // There is room again, and so there is a reserve for the next time.
    service.enable(&Package::revision("next", "1.0.0", "well", ""));
    assert!(reserve.exists());
}

#[test]
fn a_plugin_that_runs_can_be_uninstalled_while_the_disk_is_full() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::on_small_disk("", DISK);
    service.enable(&Package::revision("doc", "1.0.0", "well", ""));
    fill(&service);
    fill_store(&service);
    service.json(["uninstall", "doc"]);
    assert_eq!(service.error(["inspect", "doc"])["code"], "NOT_FOUND");
    assert_eq!(service.plugin_processes(), [0; 0]);
    service.json(["audit", "verify"]);
}

#[test]
fn what_was_acknowledged_is_kept_and_a_plugin_can_be_stopped() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::on_small_disk("", DISK);
    service.enable(&Package::revision("doc", "1.0.0", "well", ""));
    let mut admin = service.admin();
    let mut write = |text: &str| {
        let body = json!(["note", text]).to_string();
        admin.post("/v1/plugins/doc/call/write", &body).unwrap()
    };
    assert_eq!(write("small").status, 200);
    fill(&service);
    let mut kept = "small".to_owned();
    let refused = (0..64_u8).find_map(|round| {
        let text = char::from(b'A' + round % 26).to_string().repeat(LARGE);
        let reply = write(&text);
        if reply.status == 200 {
            kept = text;
            return None;
        }
        Some(String::from_utf8(reply.body).unwrap())
    });
    let refused = refused.expect("64 writes of 900 kB went to a disk that is full");
    assert!(refused.contains("STORAGE_FAILED") && refused.contains("free space"), "{refused}");
    assert_eq!(note(&service).as_ref(), Some(&kept), "what was acknowledged is not there");

    // An operation that needs a record is refused before it is begun, and says why.
    let error =
        service.error(["install", Package::hostile("more", "well", "").path().to_str().unwrap()]);
    assert!(error["message"].as_str().unwrap().contains("free space"), "{error}");
    // Stopping is not.
    service.command(["disable", "doc"]).run();
    assert_eq!(service.plugin_processes(), [0; 0], "a full disk kept a plugin running");

    std::fs::remove_file(service.state_within().join("ballast")).unwrap();
    assert_eq!(note(&service).as_ref(), Some(&kept));
    let state: Value = service.json(["enable", "doc"])["state"].clone();
    assert_eq!(state, "enabled");
    assert_eq!(write("after").status, 200);
    assert_eq!(note(&service).as_deref(), Some("after"));
    service.json(["audit", "verify"]);
}
