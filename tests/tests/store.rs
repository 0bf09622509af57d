//! A store that is damaged: the service says so and ends, and the file stays as it is.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::process::bulkhead;
use bulkhead_tests::service::Service;

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
