//! What no plugin and no operation knows is removed at the next start; data is not.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;
use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;

/// Storage as the launcher makes it, for a plugin that nobody has installed.
fn forge_storage(home: &Path, uid: u32) {
    for path in [home.to_owned(), home.join("data")] {
        fs::DirBuilder::new().mode(0o700).create(path).unwrap();
    }
    chown(home.join("data"), Some(uid), Some(uid)).unwrap();
}

#[test]
fn storage_logs_and_trees_without_a_plugin_go_and_data_stays() {
    let mut service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    service.stop();
    let state = service.directory().join("state");
    let uid = fs::metadata(state.join("plugins/victim/data")).unwrap().uid();
    let root = nix::unistd::geteuid().is_root();
    // Without privilege all storage has the one owner there is.
    let other = |step: u32| if root { uid + step } else { uid };
    let (empty, full) = (state.join("plugins/empty"), state.join("plugins/full"));
    forge_storage(&empty, other(1));
    forge_storage(&full, other(2));
    fs::write(full.join("data/record"), "of a patient").unwrap();
    let own = fs::metadata(state.join("supervisor")).unwrap();
    let logs = state.join("supervisor/logs/empty");
    fs::create_dir(&logs).unwrap();
    chown(&logs, Some(own.uid()), Some(own.gid())).unwrap();
    let digest = "0".repeat(64);
    let tree = state.join("store").join(&digest);
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("plugin.toml"), "id = \"empty\"\nversion = \"1.0.0\"\n").unwrap();
    fs::write(state.join("store").join(format!("{digest}.sums")), "").unwrap();

    service.run_again();
    let deadline = Instant::now() + DEADLINE;
    for gone in [&empty, &logs, &tree] {
        while gone.exists() {
            assert!(Instant::now() < deadline, "{} is still there", gone.display());
            std::thread::yield_now();
        }
    }
    assert_eq!(fs::read_to_string(full.join("data/record")).unwrap(), "of a patient");
    service.wait_for("victim", |plugin| plugin["state"] == "enabled");
    // It is whose it was: installed again, the plugin has it.
    service.enable(&Package::hostile("full", "well", ""));
    assert!(full.join("data/record").exists());
}
