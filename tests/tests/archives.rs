//! What an uninstalled plugin leaves behind, and a later installation that takes it up again.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use bulkhead_tests::package::Package;
use bulkhead_tests::plugin;
use bulkhead_tests::service::Service;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use serde_json::{Value, json};

fn data(service: &Service, id: &str) -> PathBuf {
    service.directory().join("state/plugins").join(id).join("data")
}

/// Gives what a test has made to the plugin whose data it is.
fn give(path: &Path, data: &Path) {
    if geteuid().is_root() {
        let uid = fs::metadata(data).unwrap().uid();
        chown(path, Some(uid), Some(uid)).unwrap();
    }
}

fn archives(service: &Service) -> Vec<Value> {
    service.json(["archives"])["archives"].as_array().unwrap().clone()
}

/// The files that the service has for archives, drafts too.
fn files(service: &Service) -> usize {
    fs::read_dir(service.directory().join("state/supervisor/archives")).unwrap().count()
}

fn uninstall_and_preserve(service: &Service, id: &str) -> String {
    let reply = service.json(["uninstall", id, "--preserve-data"]);
    reply["archive"].as_str().unwrap_or_else(|| panic!("no archive: {reply}")).to_owned()
}

#[test]
fn state_configuration_and_data_come_back() {
    let service = Service::start();
    let provider = plugin::example(service.directory(), "appointments");
    let provider = provider.to_str().unwrap();
    service.json(["install", "--yes", provider]);
    let config = service.directory().join("config.json");
    fs::write(&config, "{\"defaultDuration\": 45}").unwrap();
    service.json(["enable", "appointments", "--config", config.to_str().unwrap()]);
    let patient = r#"{"ndjson":"{\"resourceType\":\"Patient\",\"id\":\"p1\"}\n"}"#;
    service.command(["call", "appointments", "import", patient]).run().expect(0);
    service.json(["disable", "appointments"]);
    let state = service.json(["state", "appointments"])["entries"].clone();
    // Whatever a plugin may make of its data.
    let at = data(&service, "appointments");
    let odd = OsStr::from_bytes(b"\xff \n\x1b[2J");
    fs::create_dir(at.join("notes")).unwrap();
    fs::write(at.join("notes/one"), "kept").unwrap();
    fs::write(at.join(odd), "odd").unwrap();
    symlink("/etc/shadow", at.join("link")).unwrap();
    mkfifo(&at.join("pipe"), Mode::S_IRWXU).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(48 << 20).unwrap();
    sparse.write_all_at(b"end", (48 << 20) - 3).unwrap();
    for name in ["notes", "notes/one", "sparse"] {
        give(&at.join(name), &at);
    }
    give(&at.join(odd), &at);

    let name = uninstall_and_preserve(&service, "appointments");
    assert!(!at.exists() && service.json(["ls"])["plugins"] == json!([]));
    let listed = archives(&service);
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &json!(name)));
    assert_eq!(listed[0]["record"]["config"], json!({"defaultDuration": 45}));
    assert!(listed[0]["bytes"].as_u64().unwrap() < 1 << 20, "holes are nothing: {listed:?}");
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let told = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = told.filter(|event| event["archive"] == json!(name)).collect();
    let names: Vec<_> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"plugin:archived") && names.contains(&"plugin:uninstalled"),
        "{names:?}"
    );

    service.json(["install", "--yes", "--restore", &name, provider]);
    assert_eq!(service.json(["inspect", "appointments"])["config"], json!({"defaultDuration": 45}));
    let values = |entries: &Value| -> Vec<Value> {
        let all = entries.as_array().unwrap();
        all.iter().map(|entry| json!([entry["key"], entry["value"], entry["bytes"]])).collect()
    };
    assert_eq!(values(&service.json(["state", "appointments"])["entries"]), values(&state));
    let owner = fs::metadata(&at).unwrap().uid();
    for (path, content) in [("notes/one", "kept"), ("link", "")] {
        let metadata = fs::symlink_metadata(at.join(path)).unwrap();
        assert_eq!(metadata.uid(), owner, "{path}");
        if !metadata.is_symlink() {
            assert_eq!(fs::read_to_string(at.join(path)).unwrap(), content);
        }
    }
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("/etc/shadow"));
    assert_eq!(fs::read(at.join(odd)).unwrap(), b"odd");
    let sparse = fs::metadata(at.join("sparse")).unwrap();
    assert_eq!(sparse.len(), 48 << 20);
    assert!(sparse.blocks() * 512 < 1 << 20, "the holes are filled");
    assert!(!at.join("pipe").exists(), "what is no data is left out");
    service.json(["enable", "appointments"]);
    let stats = service.command(["call", "appointments", "stats", "{}"]).run().expect(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&stats).unwrap()["patients"], 1);

    // It is there until somebody removes it.
    let error = service.error(["install", "--yes", "--restore", &name, provider]);
    assert_eq!(error["code"], "CONFLICT", "{error}");
    service.json(["archives", "rm", &name]);
    assert_eq!((archives(&service), files(&service)), (vec![], 0));
    assert_eq!(service.error(["archives", "rm", &name])["exitCode"], 3);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_lost() {
    let service = Service::with("[retention]\narchives = \"16K\"");
    let package = Package::hostile("victim", "well", "");
    service.install(&package);
    let first = uninstall_and_preserve(&service, "victim");
    service.install(&package);
    let at = data(&service, "victim");
    // What no compression makes small.
    let noise: Vec<u8> = fs::read(package.entry()).unwrap()[..15_000].to_vec();
    fs::write(at.join("noise"), &noise).unwrap();
    give(&at.join("noise"), &at);
    let large = fs::File::create(at.join("large")).unwrap();
    large.set_len(64 << 10).unwrap();
    give(&at.join("large"), &at);
    let error = service.error(["uninstall", "victim", "--preserve-data"]);
    assert_eq!(error["code"], "RESOURCE_EXHAUSTED", "{error}");
    assert_eq!(error["details"]["resource"], "archives");
    assert_eq!(service.json(["inspect", "victim"])["state"], "disabled");
    assert_eq!(fs::read(at.join("noise")).unwrap(), noise);
    assert_eq!((archives(&service).len(), files(&service)), (1, 1), "the other one stays");
    service.json(["enable", "victim"]);
    service.json(["uninstall", "victim"]);
    assert_eq!(archives(&service)[0]["name"], json!(first));
}

#[test]
fn an_archive_that_is_not_its_own_or_damaged_installs_nothing() {
    let service = Service::start();
    let victim = Package::hostile("victim", "well", "");
    service.install(&victim);
    let name = uninstall_and_preserve(&service, "victim");
    let other = Package::hostile("other", "well", "");
    let refused = |package: &Package, name: &str, code: &str| {
        let path = package.path().to_str().unwrap();
        let error = service.error(["install", path, "--restore", name]);
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(service.json(["ls"])["plugins"], json!([]));
        for place in ["state/store", "state/plugins", "state/supervisor/logs"] {
            let left = fs::read_dir(service.directory().join(place)).unwrap().count();
            assert_eq!(left, 0, "{code} leaves something in {place}");
        }
    };
    refused(&other, &name, "INVALID_REQUEST");
    refused(&victim, "victim-9.9.9-20200101T000000.000Z.tar.zst", "NOT_FOUND");
    refused(&victim, "../victim.tar.zst", "INVALID_REQUEST");
    let path = service.directory().join("state/supervisor/archives").join(&name);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    fs::write(&path, damaged).unwrap();
    refused(&victim, &name, "INTEGRITY_FAILED");
    fs::write(&path, whole).unwrap();
    // The control.
    service.json(["install", victim.path().to_str().unwrap(), "--restore", &name]);
    service.json(["enable", "victim"]);
}
