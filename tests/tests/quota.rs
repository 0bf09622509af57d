//! Hard limits of the file system: set once by root, seen by a service that could not set them.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::unix::fs::MetadataExt as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::{Outcome, bulkhead};
use bulkhead_tests::program;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use serde_json::{Value, json};

const DISK: u64 = 160 << 20;
const LIMIT: u64 = 16 << 20;
/// More than that.
const HOARDED: u64 = 24 << 20;

/// A plugin that writes 24 MiB when it is called, and says how far it came.
fn hoarder(id: &str, storage: &str) -> Package {
    let manifest =
        format!("[limits]\nstorage = \"{storage}\"\n[lifecycle.restart]\npolicy = \"never\"");
    Package::hostile(id, "hoard-data 24", &manifest)
}

/// `bulkhead VERB … --config … --json`, where the service's disk is seen.
fn beside(service: &Service, arguments: &[&str]) -> Outcome {
    let program = service.beside(program::bulkhead()).args(arguments);
    program.arg("--config").arg(service.config()).arg("--json").run()
}

fn json_of(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn quota_init(service: &Service, arguments: &[&str]) -> Value {
    let outcome = beside(service, &[&["quota-init"], arguments].concat()).expect(0);
    json_of(&outcome)
}

fn storage(service: &Service, id: &str) -> Value {
    service.json(["inspect", id])["storage"].clone()
}

#[test]
fn a_plugin_cannot_keep_more_than_its_hard_limit_and_goes_on() {
    if !lane::quotas(test_name!()) {
        return;
    }
    let service = Service::on_disk_with_quotas("usage_interval = \"100ms\"", DISK);
    // The control: without a hard limit the same plugin writes all of it.
    let doctor = json_of(&beside(&service, &["doctor"]))["storage"].clone();
    assert_eq!(doctor["enforcement"], "sampled", "{doctor}");
    assert!(doctor["remedy"].as_str().unwrap().contains("quota-init"), "{doctor}");
    service.enable(&hoarder("free", "64M"));
    service.json(["call", "free", "echo"]);
    let free = storage(&service, "free");
    assert!(free["dataBytes"].as_u64().unwrap() >= HOARDED, "{free}");
    assert_eq!((&free["enforcement"], &free["hardLimitBytes"]), (&json!("sampled"), &Value::Null));
    service.json(["uninstall", "free", "--force"]);

    let dry = quota_init(&service, &["--limit", "16M", "--dry-run"]);
    assert_eq!((&dry["changed"], &dry["uids"]), (&json!(99), &json!(99)), "{dry}");
    let done = quota_init(&service, &["--limit", "16M"]);
    assert_eq!(done["changed"], 99, "a dry run has changed nothing: {done}");
    assert_eq!((&done["filesystem"], &done["over"]), (&json!("ext4"), &json!([])), "{done}");
    assert_eq!(quota_init(&service, &["--limit", "16M"])["changed"], 0, "once is enough");
    let doctor = json_of(&beside(&service, &["doctor"]))["storage"].clone();
    assert_eq!(doctor["enforcement"], "hard", "{doctor}");

    service.enable(&hoarder("bounded", "64M"));
    let before = service.json(["inspect", "bounded"]);
    assert_eq!(before["storage"]["enforcement"], "hard", "{before}");
    assert_eq!(before["storage"]["limitBytes"], LIMIT, "{before}");
    let mut events = service.command(["events", "--follow", "--json"]).start();
    service.json(["call", "bounded", "echo"]);
    events.stdout.line(|line| line.contains("plugin:warning") && line.contains("EDQUOT"));
    let after = service.json(["inspect", "bounded"]);
    let kept = after["storage"]["dataBytes"].as_u64().unwrap();
    assert!((LIMIT / 2..=LIMIT).contains(&kept), "{after}");
    assert_eq!(after["process"]["generation"], before["process"]["generation"], "{after}");
    assert_eq!((&after["state"], &after["lastError"]), (&json!("enabled"), &Value::Null));
    let logs = service.command(["logs", "bounded"]).run().expect(0).stdout;
    assert!(logs.contains("quota exceeded"), "{logs}");
    let text = service.command(["inspect", "bounded"]).run().expect(0).stdout;
    assert!(text.contains("of 16 MiB, hard"), "{text}");
    // One that was full is started again all the same.
    service.json(["disable", "bounded"]);
    service.json(["enable", "bounded"]);
    // Without the limits all is as it was.
    assert_eq!(quota_init(&service, &["--remove"])["changed"], 99);
    assert_eq!(storage(&service, "bounded")["enforcement"], "sampled");
}

#[test]
fn a_hard_limit_above_a_plugins_own_leaves_that_in_force() {
    if !lane::quotas(test_name!()) {
        return;
    }
    let mut service = Service::on_disk_with_quotas("usage_interval = \"100ms\"", DISK);
    quota_init(&service, &["--limit", "64M"]);
    // They are the disk's, and outlive the service.
    service.stop().expect(0);
    service.run_again();
    service.enable(&hoarder("greedy", "16M"));
    let greedy = storage(&service, "greedy");
    assert_eq!((&greedy["enforcement"], &greedy["limitBytes"]), (&json!("sampled"), &json!(LIMIT)));
    assert_eq!(greedy["hardLimitBytes"], 64 << 20, "{greedy}");
    // Its call may be cut off by the stop.
    service.command(["call", "greedy", "echo"]).run();
    let stopped = service.wait_for("greedy", |plugin| plugin["process"].is_null());
    assert_eq!(stopped["lastError"]["code"], "RESOURCE_EXHAUSTED", "{stopped}");
    // Who keeps more than a limit that comes later is named.
    let done = quota_init(&service, &["--limit", "4M"]);
    let over = done["over"].as_array().unwrap();
    assert_eq!(over.len(), 1, "{done}");
    assert!(over[0]["usedBytes"].as_u64().unwrap() > 4 << 20, "{done}");
}

#[test]
fn who_gets_a_uid_next_does_not_pay_for_the_one_before() {
    if !lane::quotas(test_name!()) {
        return;
    }
    let mut service = Service::on_disk_with_quotas("", DISK);
    service.stop().expect(0);
    // One uid for the supervisor and one for plugins.
    let config = std::fs::read_to_string(service.config()).unwrap();
    assert!(config.contains("count = 100\n"), "{config}");
    let config = config.replace("count = 100\n", "count = 2\n");
    std::fs::write(service.config(), config).unwrap();
    service.run_again();
    assert_eq!(quota_init(&service, &["--limit", "16M"])["uids"], 1);
    let fill = |id: &str| {
        let package = hoarder(id, "64M");
        service.install(&package);
        let data = service.state_within().join("plugins").join(id).join("data");
        let uid = std::fs::metadata(data).unwrap().uid();
        let empty = storage(&service, id);
        assert_eq!(empty["dataFiles"], 1, "{empty}");
        service.json(["enable", id]);
        service.json(["call", id, "echo"]);
        let full = storage(&service, id)["dataBytes"].as_u64().unwrap();
        service.json(["uninstall", id]);
        (uid, full)
    };
    let (first, first_full) = fill("first");
    let (second, second_full) = fill("second");
    assert_eq!(first, second, "there is only one to lease");
    assert!(first_full > LIMIT / 2 && second_full.abs_diff(first_full) < 1 << 20);
}

#[test]
fn who_cannot_set_limits_is_told_why_and_what_to_do() {
    let refused = |outcome: Outcome, exit: i32| -> Value {
        let outcome = outcome.expect(exit);
        serde_json::from_str(&outcome.stderr).unwrap()
    };
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("bulkhead.toml");
    let init = |state: &str| {
        std::fs::write(&file, format!("state = \"{state}\"\n")).unwrap();
        bulkhead(["quota-init", "--json", "--config"]).arg(&file).run()
    };
    if !lane::root(test_name!()) {
        assert_eq!(refused(init("/proc/self"), 4)["code"], "PERMISSION_DENIED");
        return;
    }
    let error = refused(init("/proc/self"), 1);
    assert_eq!(
        (&error["code"], &error["details"]["mount"]),
        (&json!("STORAGE_FAILED"), &json!("/proc"))
    );
    assert!(error["message"].as_str().unwrap().contains("ext4 or XFS"), "{error}");
    let error = refused(init("/nonexistent/state"), 3);
    assert!(error["message"].as_str().unwrap().contains("start the service once"), "{error}");
    bulkhead(["quota-init", "--limit", "4K"]).run().expect(2);
    if !lane::quotas(test_name!()) {
        return;
    }
    // Root of a container, or of a unit like ours.
    let service = Service::on_disk_with_quotas("", DISK);
    let lesser = service.beside("setpriv").args(["--bounding-set", "-sys_admin"]);
    let lesser = lesser.arg(program::bulkhead()).args(["quota-init", "--json", "--config"]);
    let error = refused(lesser.arg(service.config()).run(), 4);
    assert_eq!(error["details"]["permission"], "CAP_SYS_ADMIN", "{error}");
    quota_init(&service, &["--limit", "16M"]);
}
