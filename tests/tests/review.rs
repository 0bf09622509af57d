//! What an installation finds out about a plugin before its first start.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::admin::Admin;
use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{elf, lane, plugin, test_name};
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

#[test]
fn crates_with_a_known_fault_are_told_or_refused() {
    let database = tempfile::tempdir().unwrap();
    let place = database.path().join("crates/smallvec");
    std::fs::create_dir_all(&place).unwrap();
    bulkhead_tests::open_to_all(database.path());
    let advisory = "```toml\n[advisory]\nid = \"RUSTSEC-2021-0003\"\npackage = \"smallvec\"\n\
                    date = \"2021-01-08\"\n[versions]\npatched = [\">=1.6.1\"]\n```\n\
                    # Buffer overflow in insert_many\n";
    std::fs::write(place.join("RUSTSEC-2021-0003.md"), advisory).unwrap();
    let path = database.path().display();
    for (policy, version, refused) in
        [("warn", "1.6.0", false), ("refuse", "1.6.0", true), ("refuse", "1.6.1", false)]
    {
        let lines = format!("advisories = \"{path}\"\nadvisories_policy = \"{policy}\"");
        let service = Service::with(&lines);
        let package = Package::hostile("victim", "well", "");
        let list = json!({"packages": [
            {"name": "victim", "version": "1.0.0", "source": "local", "root": true},
            {"name": "smallvec", "version": version, "source": "crates.io"},
        ]});
        elf::add_section(&package.entry(), ".dep-v0", &elf::deflated(list.to_string().as_bytes()));
        if refused {
            let error = service.error(["install", "--yes", package.path().to_str().unwrap()]);
            assert_eq!(error["code"], "VULNERABLE_DEPENDENCY", "{error}");
            assert_eq!(error["details"]["advisories"], json!(["RUSTSEC-2021-0003"]));
            assert_eq!(service.json(["ls"])["plugins"], json!([]));
            continue;
        }
        let review = service.install(&package)["review"].clone();
        assert_eq!(review["crates"], 2, "{review}");
        let found = review["advisories"].as_array().unwrap();
        assert_eq!(found.is_empty(), version == "1.6.1", "{review}");
        // A binary with one section more is still a binary.
        service.json(["enable", "victim"]);
    }
}

#[test]
fn a_plugin_that_is_not_there_yet_is_a_warning() {
    let service = Service::start();
    let consumer = Package::hostile("consumer", "well", "[dependencies]\nprovider = \"^1\"");
    let review = service.install(&consumer)["review"].clone();
    assert_eq!(review["dependencies"][0]["satisfied"], false, "{review}");
    assert!(review["warnings"][0].as_str().unwrap().contains("provider ^1"), "{review}");
    let error = service.error(["enable", "consumer"]);
    assert_eq!(error["code"], "DEPENDENCY_MISSING", "{error}");
    service.install(&Package::hostile("provider", "well", ""));
    service.json(["enable", "consumer"]);
}

const ASKING: &str = "permissions = [\"read:x\"]\n[sandbox]\nallow_syscalls = [\"getrusage\"]";

#[test]
fn what_a_plugin_asks_for_takes_a_word() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", ASKING);
    let path = package.path().to_str().unwrap();
    let error = service.error(["install", path]);
    assert_eq!(error["code"], "CONSENT_REQUIRED", "{error}");
    assert_eq!(error["details"]["added"], json!(["call getrusage", "permission read:x"]));
    // A dry run tells the same, and neither leaves anything.
    let review = service.json(["install", "--dry-run", path]);
    assert_eq!(review["digest"], error["details"]["digest"]);
    assert_eq!(review["added"], error["details"]["added"]);
    let text = service.command(["install", "--dry-run", path]).run().expect(0).stdout;
    assert!(text.contains("permission read:x"), "{text}");
    assert_eq!(service.json(["ls"])["plugins"], json!([]));
    let left = std::fs::read_dir(service.directory().join("state/store")).unwrap().count();
    assert_eq!(left, 0, "the tree is left behind");
    // The word is for this content.
    let install = |consent: &str| {
        let body = json!({ "directory": path, "consent": consent }).to_string();
        Admin::connect(&service.socket()).unwrap().post("/v1/plugins", &body).unwrap()
    };
    let digest = review["digest"].as_str().unwrap();
    package.write("other", "content");
    let refused = install(digest);
    assert_eq!(refused.status, 409, "{}", String::from_utf8_lossy(&refused.body));
    std::fs::remove_file(package.path().join("other")).unwrap();
    let installed = install(digest).json();
    assert_eq!(installed["granted"], json!(["read:x"]));
    // The same again is already satisfied, and has the word already.
    service.json(["install", path]);
    service.json(["enable", "victim"]);
}

#[test]
fn options_that_are_not_known_or_do_not_fit_are_refused() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    let path = package.path().to_str().unwrap();
    for (option, value, status) in [
        ("conifg", json!(1), 400),
        ("consent", json!("maybe"), 400),
        ("permissions", json!(["write:y"]), 400),
        ("id", json!("other"), 409),
        ("version", json!("1.0.1"), 409),
    ] {
        let body = json!({ "directory": path, option: value }).to_string();
        let reply = Admin::connect(&service.socket()).unwrap().post("/v1/plugins", &body).unwrap();
        assert_eq!(reply.status, status, "{option}: {}", String::from_utf8_lossy(&reply.body));
    }
    let body = json!({ "directory": path, "id": "victim", "version": "1.0.0" }).to_string();
    Admin::connect(&service.socket()).unwrap().post("/v1/plugins", &body).unwrap().json();
}

#[test]
fn what_is_withheld_cannot_be_done() {
    let service = Service::start();
    let provider = plugin::example(service.directory(), "appointments");
    service.json(["install".as_ref(), "--yes".as_ref(), provider.as_os_str()]);
    let scheduler = plugin::example(service.directory(), "appointment-scheduler");
    let scheduler = scheduler.to_str().unwrap();
    let review = service.json(["install", "--dry-run", scheduler]);
    let opens = review["asks"]["permissions"][1]["opens"].to_string();
    assert!(opens.contains("appointments/create: books an appointment"), "{review}");
    let booking = r#"{"patient": "p1", "practitioner": "dr-lee", "start": "2027-03-15T10:00"}"#;
    let book = || service.command(["call", "appointment-scheduler", "book", booking]).run();
    service.json(["install", "--grant", "read:appointments", scheduler]);
    let inspected = service.command(["inspect", "appointment-scheduler"]).run().expect(0).stdout;
    assert!(inspected.contains("write:appointments (withheld)"), "{inspected}");
    service.json(["enable", "appointment-scheduler"]);
    let slots = r#"{"from": "2027-03-15"}"#;
    service.command(["call", "appointment-scheduler", "slots", slots]).run().expect(0);
    let denied = book();
    assert!(denied.stderr.contains("withheld"), "{}", denied.stderr);
    // The control: with all that it asks for, the very same call gets past that.
    service.json(["disable", "appointment-scheduler"]);
    service.json(["uninstall", "appointment-scheduler"]);
    service.json(["install", "--yes", scheduler]);
    service.json(["enable", "appointment-scheduler"]);
    assert!(!book().stderr.contains("withheld"), "{}", book().stderr);
}

#[test]
fn a_plugin_that_there_is_no_room_for_is_not_enabled() {
    let service = Service::with("[admission]\nmemory = \"150M\"");
    let limits = "[limits]\nmemory = \"64M\"";
    service.enable(&Package::hostile("one", "well", limits));
    service.enable(&Package::hostile("two", "well", limits));
    service.install(&Package::hostile("three", "well", limits));
    let error = service.error(["enable", "three"]);
    assert_eq!(error["code"], "RESOURCE_EXHAUSTED", "{error}");
    let details = json!({
        "resource": "memory", "limit": 150 << 20, "used": 128 << 20, "asked": 64 << 20
    });
    assert_eq!(error["details"], details);
    let plugin = service.json(["inspect", "three"]);
    assert_eq!((&plugin["state"], &plugin["desired"]), (&json!("disabled"), &json!("disabled")));
    // What is up already has its place, and a place that is given up is free.
    service.json(["enable", "one"]);
    service.json(["disable", "one"]);
    let plugin = service.json(["inspect", "one"]);
    assert!(plugin["lastUsage"]["time"].is_string(), "{plugin}");
    service.json(["enable", "three"]);
    let error = service.error(["enable", "one"]);
    assert_eq!(error["details"]["resource"], "memory", "{error}");
}
