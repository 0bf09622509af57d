//! The store. One that is damaged, or another user's: the service says so and ends, and it stays as it is.
//! One with much in it: all that is done with little can be done with it.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Program, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use serde_json::{Value, json};

#[test]
fn a_damaged_store_ends_the_service_with_its_name_and_is_left_alone() {
    let mut service = Service::start();
    service.install(&Package::hostile("victim", "well", ""));
    service.stop();
    let database = service.directory().join("state/supervisor/bulkhead.db");
    let damaged = b"this is no database, but a text of some length".repeat(200);
    std::fs::write(&database, &damaged).unwrap();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", database.display()));
    }
    // It is tried a few times, as another supervisor might do better, and then it is the end.
    let config = service.directory().join("bulkhead.toml");
    let ended = bulkhead(["serve", "--config"]).arg(config).run().expect(1);
    for part in ["bulkhead.db", "STORAGE_FAILED", "left as it is"] {
        assert!(ended.stderr.contains(part), "no {part:?} in\n{}", ended.stderr);
    }
    assert_eq!(std::fs::read(&database).unwrap(), damaged);
}

#[test]
fn a_state_of_another_user_is_refused_with_what_would_help() {
    if !lane::root(test_name!()) {
        return;
    }
    let mut service = Service::start();
    service.install(&Package::hostile("victim", "well", ""));
    service.stop();
    // As when the user `bulkhead` is made on a machine where the service ran without.
    let state = service.directory().join("state/supervisor");
    let owner = std::fs::metadata(&state).unwrap().uid();
    let text = std::fs::read_to_string(service.config()).unwrap();
    let other = owner + 1;
    let changed = text.replace(&format!("user = \"{owner}\""), &format!("user = \"{other}\""));
    assert_ne!(changed, text);
    std::fs::write(service.config(), changed).unwrap();
    let ended = bulkhead(["serve", "--config"]).arg(service.config()).run().expect(1);
    let (set, hand_over) =
        (format!("user = \"{owner}\""), format!("chown -R {other}:{other} {}", state.display()));
    for part in [&set, &hand_over] {
        assert!(ended.stderr.contains(part), "no {part:?} in\n{}", ended.stderr);
    }
    assert_eq!(std::fs::metadata(&state).unwrap().uid(), owner);
    // What it says helps.
    Program::new("sh").args(["-c", &hand_over]).run().expect(0);
    service.run_again();
    assert_eq!(service.json(["inspect", "victim"])["state"], "disabled");
}

/// Calls a plugin's method with more than a command line takes.
fn call(service: &Service, method: &str, argument: &Value) -> Value {
    let path = format!("/v1/plugins/keeper/call/{method}");
    let reply = service.admin().post(&path, &argument.to_string()).unwrap();
    let answered = reply.json();
    assert_eq!(reply.status, 200, "{answered}");
    answered
}

/// SQLite makes files for what does not fit its memory, where it is not told otherwise: outside of what
/// the supervisor's compartment has.
#[test]
fn much_is_changed_at_once_by_a_supervisor_in_its_compartment() {
    let mut service = Service::start();
    let package = Package::witness("keeper", "");
    service.enable(&package);
    let large = |letter: &str| json!(letter.repeat(1_000_000));
    for (version, letter) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(call(&service, "set-state", &large(letter)), version);
    }

    // Both ways the state is put back from a copy of it.
    let manifest = std::fs::read_to_string(package.path().join("plugin.toml")).unwrap();
    package.write("plugin.toml", &manifest.replace("1.0.0", "1.1.0"));
    service.json(["upgrade", package.path().to_str().unwrap(), "--yes"]);
    service.json(["rollback", "keeper"]);
    assert_eq!(call(&service, "get-state", &Value::Null), large("c"));

    // Of many events what is over goes at the next start, and of many rows of the audit what they said
    // when their plugin goes.
    service.stop();
    let database = service.directory().join("state/supervisor/bulkhead.db");
    let store = rusqlite::Connection::open(&database).unwrap();
    store
        .execute_batch(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
             SELECT i FROM n;
             INSERT INTO event (time, name, body)
             SELECT '2000-01-01T00:00:00.000Z', 'plugin:warning',
                    json_object('code', hex(randomblob(500))) FROM n;
             INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash)
             SELECT (SELECT max(sequence) FROM audit) + i, 'keeper',
                    json_object('time', '2100-01-01T00:00:00.000Z', 'details', hex(randomblob(500))),
                    zeroblob(32), zeroblob(32), zeroblob(32) FROM n;",
        )
        .unwrap();
    let count = |rows: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {rows}");
        store.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    let (old, told) =
        ("event WHERE time < '2001'", "audit WHERE plugin = 'keeper' AND content IS NOT NULL");
    assert_eq!(count(old), 400);
    assert!(count(told) > 400);
    service.run_again();
    let deadline = Instant::now() + DEADLINE / 2;
    // The newest of all stays, whatever its age.
    while count(old) > 1 {
        assert!(Instant::now() < deadline, "{} old events are still there", count(old));
        std::thread::yield_now();
    }
    service.json(["uninstall", "keeper", "--yes"]);
    assert_eq!(count(told), 1, "that it was uninstalled");
}
