//! What plugins write: which of it is asked for, what follows it, and what a flood costs.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use bulkhead_tests::exposition::Scrape;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Running};
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// No plugin of a test writes as much.
const BOUNDLESS: &str = "[logs]\nlines_per_second = 1000000\nbytes_per_second = \"1G\"";

fn follow(service: &Service, arguments: &[&str]) -> Running {
    service.command(arguments).args(["--follow", "--json"]).start()
}

fn next(log: &mut Running) -> Value {
    serde_json::from_str(&log.stdout.line(|_| true)).unwrap()
}

fn records(service: &Service, arguments: &[&str]) -> Vec<Value> {
    let outcome = service.command(arguments).arg("--json").run().expect(0);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lines that are kept, and those that are told as dropped.
fn sum<'a>(records: impl IntoIterator<Item = &'a Value>) -> (u64, u64) {
    records.into_iter().fold((0, 0), |(kept, dropped), record| {
        match record["dropped"]["lines"].as_u64() {
            Some(more) => (kept, dropped + more),
            None => (kept + 1, dropped),
        }
    })
}

/// What lies in a directory, in bytes.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    // A spool may be gone by now.
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// The memory of a process, in KiB.
fn memory(pid: i32) -> u64 {
    // Not of smaps, which is for root to read: the supervisor is not dumpable.
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_flood_costs_neither_memory_nor_disk_nor_the_calls_of_a_sibling() {
    const LINES: u64 = 60_000;
    let service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    // It answers nothing before it has written it all, which takes an emulated machine a while.
    let patient = "[lifecycle]\nhealth_timeout = \"60s\"\n";
    service.install(&Package::hostile("flood", &format!("log-flood {LINES}"), patient));
    let logs = service.directory().join("state/supervisor/logs/flood");
    let supervisor = service.supervisor();
    let mut log = follow(&service, &["logs", "flood"]);
    let mut events = service.command(["events", "--follow", "--json"]).start();
    service.json(["call", "sibling", "echo", "1"]);
    let before = memory(supervisor);
    let (mut disk, mut most) = (0, before);

    service.json(["enable", "flood"]);
    let mut sibling = service.admin();
    let mut answered = 0;
    let deadline = Instant::now() + DEADLINE;
    let (mut kept, mut dropped) = (0, 0);
    while kept + dropped < 2 * LINES {
        assert!(Instant::now() < deadline, "{kept} kept and {dropped} dropped");
        let reply = sibling.post("/v1/plugins/sibling/call/echo", "[7]").unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"[7]"[..]));
        answered += 1;
        disk = disk.max(size(&logs));
        most = most.max(memory(supervisor));
        // As many as there are until one that sums up.
        loop {
            let record = next(&mut log);
            let (one, more) = sum([&record]);
            (kept, dropped) = (kept + one, dropped + more);
            if more > 0 || kept % 500 == 0 || kept + dropped >= 2 * LINES {
                break;
            }
        }
    }
    assert_eq!(kept + dropped, 2 * LINES, "each line is kept or counted: {kept} and {dropped}");
    assert!(kept >= 5000, "a burst is kept: {kept}");
    assert!(dropped > LINES, "it was a flood: {dropped}");
    assert!(answered > 3, "{answered}");
    assert!(disk < 12 << 20, "{disk} bytes on disk");
    assert!(most < before + (8 << 10), "{before} KiB, then {most} KiB");

    // The plugin waited for nobody for long, and is served.
    assert_eq!(service.json(["call", "flood", "echo", "1"]), json!(1));
    assert_eq!(sum(&records(&service, &["logs", "flood", "-n", "1000000"])), (kept, dropped));
    let warning = events.stdout.line(|line| line.contains("LOG_FLOOD"));
    let warning: Value = serde_json::from_str(&warning).unwrap();
    assert_eq!(warning["event"], "plugin:warning");
    assert_eq!(warning["limit"], json!({ "linesPerSecond": 1000, "bytesPerSecond": 1 << 20 }));
    assert!(warning["lines"].as_u64().unwrap() <= dropped, "{warning}");
    let told = service.command(["events", "--json"]).run().expect(0).stdout;
    assert_eq!(told.matches("\"LOG_FLOOD\"").count(), 1, "{told}");
    let metrics = service.command(["metrics"]).run().expect(0).stdout;
    let labels = [("plugin", "flood"), ("reason", "rate_limit")];
    let counted = Scrape::parse(&metrics).unwrap();
    assert_eq!(counted.value("bulkhead_log_lost_lines_total", &labels), Some(dropped as f64));
}

#[test]
fn following_goes_on_without_gap_or_double_whatever_restarts() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "count", ""));
    let mut log = follow(&service, &["logs", "victim", "-n", "1000000"]);
    let mut sequence = 0;
    // Until the start of this number writes, and then some more.
    let mut read = |log: &mut Running, generation: u64| {
        let mut count = 0;
        while count < 20 {
            let record = next(log);
            sequence += 1;
            assert_eq!(record["sequence"], sequence, "{record}");
            count += u32::from(record["generation"] == generation);
        }
    };
    let running = || service.json(["inspect", "victim"])["process"]["generation"].as_u64().unwrap();
    let mut generation = running();
    read(&mut log, generation);
    for _ in 0..3 {
        kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
        read(&mut log, generation);
        service.json(["disable", "victim"]);
        service.json(["enable", "victim"]);
        generation = running();
        read(&mut log, generation);
    }
    // It has the end of the plugin as its own.
    service.json(["uninstall", "victim"]);
    let ended = log.wait();
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("NOT_FOUND"), "{}", ended.stderr);
}

#[test]
fn following_goes_on_through_rotations() {
    const LINES: u64 = 25_000;
    let service = Service::with(BOUNDLESS);
    service.install(&Package::hostile("victim", &format!("log-flood {LINES}"), ""));
    let mut log = follow(&service, &["logs", "victim"]);
    service.json(["enable", "victim"]);
    for sequence in 1..=2 * LINES {
        let record = next(&mut log);
        assert_eq!(record["sequence"], sequence, "{record}");
    }
    let logs = service.directory().join("state/supervisor/logs/victim");
    assert!(logs.join("previous.jsonl").exists(), "it was not rotated");
}

#[test]
fn records_are_asked_for_by_time_level_and_stream() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "log-flood 3", ""));
    let mut log = follow(&service, &["logs", "victim"]);
    for _ in 0..6 {
        next(&mut log);
    }
    let count = |arguments: &[&str]| {
        let all = [&["logs", "victim"], arguments].concat();
        records(&service, &all).len()
    };
    assert_eq!(count(&[]), 6);
    assert_eq!(count(&["--since", "1h"]), 6);
    assert_eq!(count(&["--since", "2020-01-01T00:00:00Z", "-n", "4"]), 4);
    assert_eq!(count(&["--since", "2999-01-01T00:00:00+01:00"]), 0);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--until", "2999-01-01T00:00:00Z"]), 6);
    assert_eq!(count(&["--level", "info"]), 6);
    assert_eq!(count(&["--level", "warn"]), 3);
    assert_eq!(count(&["--level", "error"]), 0);
    assert_eq!(count(&["--stream", "stdout"]), 3);
    for (option, value) in
        [("since", "yesterday"), ("until", "10"), ("level", "loud"), ("stream", "stdin")]
    {
        let error = service.error(["logs", "victim", &format!("--{option}"), value]);
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        assert_eq!(error["details"][option], value, "{error}");
        assert!(error["message"].as_str().unwrap().contains(value), "{error}");
    }
    let mut admin = service.admin();
    let path = "/v1/plugins/victim/logs?follow=true&until=1h";
    assert_eq!(admin.ask("GET", path, "").unwrap().status, 400);
    // What is followed is chosen in the same way.
    let mut errors = follow(&service, &["logs", "victim", "--level", "warn"]);
    for _ in 0..3 {
        assert_eq!(next(&mut errors)["stream"], "stderr");
    }
    // Who is shown none can go on all the same.
    let sequence = |query: &str| {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let path = format!("/v1/plugins/victim/logs?{query}");
        let request = format!("GET {path} HTTP/1.1\r\nhost: bulkhead\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let mut head = reply.lines().take_while(|line| !line.is_empty());
        head.find_map(|line| line.strip_prefix("bulkhead-log-sequence: ").map(str::to_owned))
    };
    assert_eq!(sequence("lines=0").as_deref(), Some("6"));
    assert_eq!(sequence("level=error").as_deref(), Some("6"));
    assert_eq!(sequence("lines=1"), None);
}
