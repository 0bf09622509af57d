//! A plugin's whole life, over and over: afterwards everything is as it was before.
//!
//! `BULKHEAD_ROUNDS` is how often; `scripts/test --full` sets it to 1000 in the host lane, which takes one to
//! four minutes.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use bulkhead_tests::admin::Admin;
use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use serde_json::json;

/// Where nobody says how often, and on an emulated machine.
const ROUNDS: usize = 500;
const EMULATED: usize = 50;
/// The memory that a process may have come to use from the tenth part of the rounds to the last: as
/// much as buffers and caches of a fixed size still fill up, and a thousandth of it a round for 1000.
const GROWTH: u64 = 1 << 20;

fn rounds() -> usize {
    match std::env::var("BULKHEAD_ROUNDS") {
        Ok(text) => text.parse().expect("BULKHEAD_ROUNDS is a number"),
        Err(_) if lane::promised() => EMULATED,
        Err(_) => ROUNDS,
    }
}

/// What there is of a service.
#[derive(Debug, PartialEq, Eq)]
struct Inventory {
    files: BTreeSet<String>,
    /// Trees, storage with its uid leases, cgroups, processes.
    remains: Vec<String>,
    launcher: Footprint,
    supervisor: Footprint,
}

/// What a process has that can leak by number.
#[derive(Debug, PartialEq, Eq)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    mappings: bool,
}

fn footprint(pid: i32) -> Footprint {
    let count = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    // A descriptor that is closed and still mapped would be none of those counted.
    let mappings = maps.lines().any(|line| line.ends_with("(deleted)"));
    Footprint { descriptors: count("fd"), threads: count("task"), mappings }
}

fn files(below: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        }
        found.insert(path.display().to_string());
    }
}

fn inventory(service: &Service, supervisor: i32) -> Inventory {
    let mut found = BTreeSet::new();
    files(service.directory(), &mut found);
    Inventory {
        files: found,
        remains: service.remains(),
        launcher: footprint(service.pid()),
        supervisor: footprint(supervisor),
    }
}

/// The anonymous memory of a process, its share of what it has in common with others, in bytes. What
/// is mapped from files is left out: its share changes whenever another service of another test,
/// which has the same program, comes or goes.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

fn round(admin: &mut Admin, package: &Package) {
    let install = json!({ "directory": package.path(), "consent": "all" });
    let id = package.id();
    for (method, path, body) in [
        ("POST", "/v1/plugins".to_owned(), install.to_string()),
        ("POST", format!("/v1/plugins/{id}/enable"), String::new()),
        ("POST", format!("/v1/plugins/{id}/disable"), String::new()),
        ("DELETE", format!("/v1/plugins/{id}"), String::new()),
    ] {
        let header = "content-type: application/json\r\n";
        admin.ask_with(method, &path, header, body).unwrap().json();
    }
}

#[test]
fn a_life_leaves_nothing_however_often_it_is_lived() {
    let rounds = rounds();
    let service = Service::start();
    let supervisor = service.supervisor();
    let package = Package::hostile("mayfly", "well", "");
    let mut admin = service.admin();
    for _ in 0..rounds / 10 {
        round(&mut admin, &package);
    }
    let before = inventory(&service, supervisor);
    let used = [service.pid(), supervisor].map(memory);
    let started = Instant::now();
    for number in rounds / 10..rounds {
        round(&mut admin, &package);
        if number % (rounds / 10) == 0 {
            println!("{number} rounds: {} bytes in the supervisor", memory(supervisor));
        }
    }
    let took = started.elapsed() / (rounds - rounds / 10) as u32;
    // What is being closed when the last answer is given needs a moment.
    let deadline = Instant::now() + DEADLINE;
    let mut after = inventory(&service, supervisor);
    while after != before && Instant::now() < deadline {
        std::thread::yield_now();
        after = inventory(&service, supervisor);
    }
    assert_eq!(after, before, "after {rounds} rounds");
    assert_eq!(after.remains, [""; 0]);
    assert_eq!(service.supervisor(), supervisor, "it was not restarted meanwhile");
    for (name, pid, used) in
        [("launcher", service.pid(), used[0]), ("supervisor", supervisor, used[1])]
    {
        let now = memory(pid);
        println!("{name}: {used} bytes after {} rounds, {now} after {rounds}", rounds / 10);
        assert!(now < used + GROWTH, "{name}: {used} bytes grew to {now} in {rounds} rounds");
    }
    println!("{took:?} a round");
}
