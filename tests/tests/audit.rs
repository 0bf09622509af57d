//! The audit of a real service: who did what, what died, who was refused, and that it cannot be
//! changed behind its back.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Program, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::signing::Signer;
use bulkhead_tests::{lane, plugin, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn rows(service: &Service, arguments: &[&str]) -> Vec<Value> {
    let all = [&["audit", "--json"], arguments].concat();
    let lines = service.command(all).run().expect(0).stdout;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of an action, but those that only say that it has begun.
fn of(service: &Service, action: &str) -> Vec<Value> {
    let ended = |row: &Value| row["action"] == action && row["outcome"] != "begun";
    rows(service, &[]).into_iter().filter(ended).collect()
}

fn database(service: &Service) -> rusqlite::Connection {
    rusqlite::Connection::open(service.directory().join("state/supervisor/bulkhead.db")).unwrap()
}

#[test]
fn every_operation_has_its_principal_and_its_outcome() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let person =
        ["call", "victim", "echo", "{\"secret\":\"payload-canary\"}", "--on-behalf-of", "dr.smith"];
    service.command(person).run().expect(0);
    service.command(["call", "victim", "echo", "1"]).run().expect(0);
    service.error(["enable", "absent"]);
    service.json(["disable", "victim"]);
    let all = rows(&service, &["--plugin", "victim"]);
    let said: Vec<(&str, &str)> = all
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("install", "ok"),
            ("enable", "begun"),
            ("enable", "ok"),
            ("call", "begun"),
            ("call", "ok"),
            ("disable", "begun"),
            ("disable", "ok"),
        ],
        "the call on nobody's behalf is not there"
    );
    let uid = nix::unistd::getuid().as_raw();
    assert!(all.iter().all(|row| row["principal"]["uid"] == uid), "{all:?}");
    let call = &all[4];
    assert_eq!(call["principal"]["onBehalfOf"], "dr.smith");
    assert_eq!((&call["details"]["method"], &call["begun"]), (&json!("echo"), &all[3]["sequence"]));
    assert_eq!(all[0]["details"]["version"], "1.0.0");
    let failed = of(&service, "enable");
    assert_eq!(
        (&failed[1]["outcome"], &failed[1]["pluginId"]),
        (&json!("NOT_FOUND"), &json!("absent"))
    );
    let text = service.command(["audit"]).run().expect(0).stdout;
    assert!(text.contains("for dr.smith") && !text.contains("payload-canary"), "{text}");
    assert!(text.contains("service-started"), "{text}");
    assert_eq!(service.json(["audit", "verify"])["rows"], json!(rows(&service, &[]).len()));
}

#[test]
fn a_death_is_recorded_and_so_are_the_restart_and_the_recovery() {
    let service = Service::start();
    let lines = "[lifecycle.restart]\npolicy = \"on-failure\"\nbackoff = \"10ms\"";
    let enabled = service.enable(&Package::hostile("victim", "well", lines));
    let pid = enabled["plugin"]["process"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    service.wait_for("victim", |plugin| {
        plugin["state"] == "enabled" && plugin["process"]["pid"] != json!(pid)
    });
    service.command(["events"]).run().expect(0);
    let died = of(&service, "died");
    assert_eq!(died.len(), 1, "{died:?}");
    assert!(died[0]["details"]["explanation"].as_str().unwrap().contains("SIGKILL"), "{died:?}");
    assert_eq!(of(&service, "restarting").len(), 1);
    assert_eq!(of(&service, "recovered").len(), 1);
    service.json(["disable", "victim"]);
    assert_eq!(of(&service, "died").len(), 1, "an end that was asked for is no death");
}

#[test]
fn a_plugin_that_calls_without_the_permission_is_recorded() {
    let service = Service::start();
    let place = service.directory();
    let provider = plugin::example(place, "appointments");
    service.json(["install".as_ref(), provider.as_os_str(), "--yes".as_ref()]);
    service.json(["enable", "appointments"]);
    let consumer = plugin::example(place, "appointment-scheduler");
    let manifest = std::fs::read_to_string(consumer.join("plugin.toml")).unwrap();
    let call = ["call", "appointment-scheduler", "conflicts", "{}"];
    let permissions = "permissions = [\"read:appointments\", \"write:appointments\"]\n";
    assert!(manifest.contains(permissions));
    service.json(["install".as_ref(), consumer.as_os_str(), "--yes".as_ref()]);
    service.json(["enable", "appointment-scheduler"]);
    service.json(call);
    assert_eq!(of(&service, "denied").len(), 0, "the control: with the permission it may");
    service.json(["uninstall", "appointment-scheduler"]);
    std::fs::write(consumer.join("plugin.toml"), manifest.replace(permissions, "")).unwrap();
    service.json(["install".as_ref(), consumer.as_os_str(), "--yes".as_ref()]);
    service.json(["enable", "appointment-scheduler"]);
    service.error(call);
    let denied = of(&service, "denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["principal"]["name"], "plugin:appointment-scheduler");
    assert_eq!(denied[0]["pluginId"], "appointment-scheduler");
    assert_eq!(denied[0]["details"]["permission"], "read:appointments");
}

#[test]
fn who_is_refused_on_the_socket_is_recorded() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    service.json(["ls"]);
    assert_eq!(of(&service, "denied").len(), 0, "the control: root is not refused");
    let socket = service.socket();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let nobody = Program::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(bulkhead_tests::program::bulkhead())
        .arg("--socket")
        .arg(&socket)
        .args(["ls"])
        .run();
    assert_eq!(nobody.code(), 4, "{}", nobody.stderr);
    let denied = of(&service, "denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["principal"]["uid"], 65534);
    assert_eq!(denied[0]["outcome"], "PERMISSION_DENIED");
}

/// The rows about the trust store, once there are so many.
fn trust_rows(service: &Service, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = of(service, "trust-changed");
        if found.len() >= count {
            assert_eq!(found.len(), count, "{found:?}");
            return found;
        }
        assert!(Instant::now() < deadline, "{count} rows are not there: {found:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_done_to_the_trust_store_by_hand_is_recorded_whenever_it_is_done() {
    let mut service = Service::start();
    let config = service.config();
    let config = config.to_str().unwrap();
    assert_eq!(trust_rows(&service, 0), [Value::Null; 0], "the control: nothing was done");
    let signer = Signer::new();
    let key = signer.trust(&service, &["appointments"]);
    let added = trust_rows(&service, 1).remove(0);
    let details = &added["details"];
    assert_eq!((&details["key"], &details["change"]), (&json!(key), &json!("added")));
    assert_eq!(details["after"]["plugins"], json!(["appointments"]), "{added}");
    assert_eq!(details["after"]["publicKey"], json!(signer.public()), "{added}");
    assert_eq!(details["fileOwner"], nix::unistd::getuid().as_raw(), "{added}");
    assert_eq!(added["principal"]["uid"], Value::Null, "nobody knows who it was: {added}");
    signer.trust(&service, &["clinic-*"]);
    let rescoped = &trust_rows(&service, 2)[1]["details"];
    assert_eq!(rescoped["before"]["plugins"], json!(["appointments"]), "{rescoped}");
    assert_eq!(rescoped["after"]["plugins"], json!(["appointments", "clinic-*"]), "{rescoped}");
    // A supervisor that was not there for it, and a service that was not.
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    service.json(["trust", "rm", &key, "--config", config]);
    assert_eq!(trust_rows(&service, 3)[2]["details"]["change"], "revoked");
    service.stop().expect(0);
    std::fs::remove_file(service.directory().join(format!("trust/{key}.toml"))).unwrap();
    let other = Signer::new();
    let verb = ["trust", "add", &other.public(), "--for", "*", "--config", config];
    bulkhead(verb).run().expect(0);
    service.run_again();
    let rows = trust_rows(&service, 5);
    let mut kinds = rows.iter().map(|row| row["details"]["change"].as_str().unwrap());
    let mut last: Vec<&str> = kinds.by_ref().skip(3).collect();
    last.sort_unstable();
    assert_eq!(last, ["added", "removed"], "in the order of their ids, which is chance");
    service.stop().expect(0);
    service.run_again();
    service.json(["audit", "verify"]);
    trust_rows(&service, 5);
}

#[test]
fn what_was_done_to_the_store_behind_the_services_back_is_found() {
    let cases: &[(&str, &str)] = &[
        (
            "altered",
            "UPDATE audit SET content = replace(content, 'victim', 'other!') || ' ' WHERE sequence = 3",
        ),
        ("missing", "DELETE FROM audit WHERE sequence = 3"),
        ("truncated", "DELETE FROM audit WHERE sequence > 3"),
        ("erased", "UPDATE audit SET content = NULL WHERE sequence = 3"),
    ];
    for (reason, sql) in cases {
        let mut service = Service::start();
        service.enable(&Package::hostile("victim", "well", ""));
        service.json(["audit", "verify"]);
        service.stop();
        database(&service).execute_batch(sql).unwrap();
        service.run_again();
        let error = service.error(["audit", "verify"]);
        assert_eq!(error["code"], "AUDIT_BROKEN", "{reason}: {error}");
        let found = error["details"]["reason"].as_str().unwrap();
        // The service goes on with new rows: when they are as many as were cut off, these are others.
        let as_well = *reason == "truncated" && found == "rewritten";
        assert!(found == *reason || as_well, "{reason}: {error}");
    }
}

/// The program of `docs/audit.md`, which knows nothing of ours, comes to the same head.
#[test]
fn another_program_can_check_it() {
    if !lane::program(test_name!(), "python3") {
        return;
    }
    let mut service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    service.json(["uninstall", "victim"]);
    service.stop();
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/audit.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let program = guide.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let database = service.directory().join("state/supervisor/bulkhead.db");
    let check = || Program::new("python3").args(["-c", program]).arg(&database).run();
    let head = std::fs::read_to_string(service.directory().join("state/audit.head")).unwrap();
    assert_eq!(check().expect(0).stdout, head, "all is anchored when the service has ended");
    let altered = "UPDATE audit SET content = content || ' ' WHERE content IS NOT NULL";
    rusqlite::Connection::open(&database).unwrap().execute_batch(altered).unwrap();
    assert!(check().stderr.contains("is altered"));
}

#[test]
fn a_store_that_was_put_back_is_found_by_the_launcher_and_by_a_place_that_was_kept() {
    let mut service = Service::start();
    service.install(&Package::hostile("first", "well", ""));
    service.stop();
    // With what is not yet in the file itself.
    let state = service.directory().join("state/supervisor");
    let path = |end: &str| state.join(format!("bulkhead.db{end}"));
    let old = ["", "-wal"].map(|end| (path(end), std::fs::read(path(end)).unwrap_or_default()));
    service.run_again();
    service.install(&Package::hostile("second", "well", ""));
    let place = service.json(["audit", "verify"])["place"].as_str().unwrap().to_owned();
    service.json(["audit", "verify", "--head", &place]);
    service.stop();
    let _ = std::fs::remove_file(path("-shm"));
    for (path, bytes) in old {
        std::fs::write(path, bytes).unwrap();
    }
    service.run_again();
    // It goes on as if nothing were, and soon has as many rows as before.
    for _ in 0..5 {
        service.error(["enable", "absent"]);
    }
    let error = service.error(["audit", "verify"]);
    assert_eq!(error["code"], "AUDIT_BROKEN", "{error}");
    // The launcher's word is not replaced by itself.
    let anchor = service.directory().join("state/audit.head");
    for spoiled in [Some(""), None] {
        service.stop();
        match spoiled {
            Some(text) => std::fs::write(&anchor, text).unwrap(),
            None => std::fs::remove_file(&anchor).unwrap(),
        }
        service.run_again();
        let error = service.error(["audit", "verify"]);
        assert_eq!(error["code"], "AUDIT_BROKEN", "{error}");
        let reason = if spoiled.is_some() { "anchor-unreadable" } else { "anchor-missing" };
        assert_eq!(error["details"]["reason"], reason, "{error}");
        assert!(error["message"].as_str().unwrap().contains("audit.head"), "{error}");
    }
    // On root's word it begins where the store stands; then only who kept a place can tell.
    service.stop();
    std::fs::write(&anchor, "begin\n").unwrap();
    service.run_again();
    service.json(["audit", "verify"]);
    let error = service.error(["audit", "verify", "--head", &place]);
    assert_eq!(error["code"], "AUDIT_BROKEN", "{error}");
}

#[test]
fn what_the_audit_said_of_an_uninstalled_plugin_is_gone_and_the_chain_is_whole() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    service.install(&Package::hostile("other", "well", ""));
    service.json(["uninstall", "victim"]);
    let of_victim = rows(&service, &["--plugin", "victim"]);
    let (last, before) = of_victim.split_last().unwrap();
    assert!(before.iter().all(|row| row["removed"] == true && row.get("principal").is_none()));
    assert_eq!((&last["action"], &last["outcome"]), (&json!("uninstall"), &json!("ok")));
    assert!(rows(&service, &["--plugin", "other"]).iter().all(|row| row.get("removed").is_none()));
    let whole = service.json(["audit", "verify"]);
    assert_eq!(whole["removed"], json!(before.len()));
}

#[test]
fn an_operation_that_the_service_did_not_survive_is_closed_by_the_next() {
    let service = Service::start();
    let lines = "[lifecycle]\ninit_timeout = \"30s\"";
    service.install(&Package::hostile("victim", "hang-in-init", lines));
    let enable = service.command(["enable", "victim"]).start();
    service.wait_for("victim", |plugin| plugin["state"] == "enabling");
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    assert_ne!(enable.wait().code(), 0);
    let ended = of(&service, "enable");
    assert_eq!(ended[0]["outcome"], "interrupted", "{ended:?}");
    assert_eq!(ended[0]["principal"]["uid"], nix::unistd::getuid().as_raw());
    service.json(["audit", "verify"]);
}
