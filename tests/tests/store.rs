//! A store that is damaged, or another user's: the service says so and ends, and it stays as it is.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::unix::fs::MetadataExt as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::{Program, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};

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
