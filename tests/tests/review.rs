//! What an installation finds out about a plugin before its first start.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{elf, lane, test_name};
use serde_json::json;

#[test]
fn a_library_that_the_compartment_lacks_is_told_at_the_installation() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    let whole = std::fs::read(package.entry()).unwrap();
    if !elf::replace(&package.entry(), "libc.so.6", "libq.so.6") {
        lane::skip(test_name!(), "the test plugin is linked statically here");
        return;
    }
    let error = service.error(["install", package.path().to_str().unwrap()]);
    assert_eq!(
        (&error["code"], &error["details"]["dependency"]),
        (&json!("DEPENDENCY_MISSING"), &json!("libq.so.6")),
        "{error}"
    );
    assert_eq!(error["details"]["neededBy"], "/plugin/bin/victim");
    assert_eq!(service.json(["ls"])["plugins"], json!([]));
    let store = service.directory().join("state/store");
    assert_eq!(std::fs::read_dir(store).unwrap().count(), 0, "the tree is left behind");
    // The control: the same binary with the library's true name installs and runs.
    std::fs::write(package.entry(), whole).unwrap();
    service.enable(&package);
}

#[test]
fn a_library_of_the_package_is_found_as_the_review_says() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    // The machine's own library under another name, beside the binary, where only $ORIGIN leads.
    let Some(own) = elf::loaded_library("libgcc_s.so.1") else {
        lane::skip(test_name!(), "the test plugin does not load libgcc_s.so.1 here");
        return;
    };
    if !elf::replace(&package.entry(), "libgcc_s.so.1", "libgcc_q.so.1") {
        lane::skip(test_name!(), "the test plugin does not need libgcc_s.so.1 here");
        return;
    }
    let library = package.path().join("bin/libgcc_q.so.1");
    std::fs::copy(own, &library).unwrap();
    let error = service.error(["install", package.path().to_str().unwrap()]);
    assert_eq!(error["details"]["dependency"], "libgcc_q.so.1", "no RUNPATH leads there: {error}");
    if !elf::add_runpath(&package.entry(), "$ORIGIN") {
        lane::skip(test_name!(), "the test plugin's dynamic section has no room for a RUNPATH");
        return;
    }
    let enabled = service.enable(&package);
    assert_eq!(enabled["state"], "enabled", "{enabled}");
}
