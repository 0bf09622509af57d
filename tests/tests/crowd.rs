//! Many plugins, many clients, many calls at a time: each is bounded, and nobody is forgotten.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

fn database(service: &Service) -> rusqlite::Connection {
    rusqlite::Connection::open(service.directory().join("state/supervisor/bulkhead.db")).unwrap()
}

/// Installs that many plugins that end at once, which are wanted from the next start on, with more lines
/// of manifest. Their ids.
fn crowd(service: &mut Service, many: usize, lines: &str) -> Vec<String> {
    let below = tempfile::tempdir().unwrap();
    let mut admin = service.admin();
    let ids: Vec<String> = (0..many).map(|nth| format!("guest{nth:02}")).collect();
    for id in &ids {
        let directory = below.path().join(id);
        std::fs::create_dir_all(directory.join("bin")).unwrap();
        let manifest = format!("id = \"{id}\"\nversion = \"1.0.0\"\n{lines}\n");
        std::fs::write(directory.join("plugin.toml"), manifest).unwrap();
        let entry = directory.join("bin").join(id);
        std::fs::copy("/bin/true", &entry).unwrap();
        std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(0o755)).unwrap();
        let body = json!({ "directory": directory, "consent": "all" });
        let reply = admin.post("/v1/plugins", &body.to_string()).unwrap();
        assert!(reply.status < 300, "{}", reply.json());
    }
    service.stop();
    database(service).execute("UPDATE plugin SET enabled = 1", []).unwrap();
    ids
}

/// Why each of them did not start, in any order.
fn refusals(service: &Service, many: usize) -> Vec<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let told = service.command(["events", "--json"]).run().expect(0).stdout;
        let told = told.lines().filter(|line| line.contains("\"plugin:error\""));
        let found: Vec<Value> = told.map(|line| serde_json::from_str(line).unwrap()).collect();
        if found.len() >= many {
            return found.into_iter().map(|event| event["error"].clone()).collect();
        }
        assert!(Instant::now() < deadline, "{} of {many}: {found:?}", found.len());
    }
}

#[test]
fn more_plugins_than_the_launcher_starts_at_a_time_are_all_started_with_the_service() {
    const MANY: usize = 72;
    let mut service = Service::start();
    crowd(&mut service, MANY, "");
    service.run_again();
    let refusals = refusals(&service, MANY);
    // Each came as far as to its process, which ended.
    let codes: Vec<&Value> = refusals.iter().map(|error| &error["code"]).collect();
    assert!(codes.iter().all(|code| **code == "INITIALIZATION_FAILED"), "{refusals:?}");
    assert_eq!(codes.len(), MANY);
}

#[test]
fn more_that_hang_in_their_start_than_are_started_at_a_time_keep_no_other_down() {
    const MANY: usize = 17;
    let mut service = Service::start();
    let patient = "[lifecycle]\ninit_timeout = \"1h\"";
    for nth in 0..MANY {
        service.install(&Package::hostile(&format!("guest{nth:02}"), "hang-in-init", patient));
    }
    // They are started in this order.
    service.install(&Package::hostile("last", "well", ""));
    service.stop();
    database(&service).execute("UPDATE plugin SET enabled = 1", []).unwrap();
    service.run_again();
    service.wait_for("last", |plugin| plugin["state"] == "enabled");
    // The control: all the others still hang.
    let hanging = service.json(["ls"]);
    let hanging = hanging["plugins"].as_array().unwrap().iter();
    assert_eq!(hanging.filter(|plugin| plugin["state"] == "enabling").count(), MANY);
}

#[test]
fn none_of_many_starts_with_more_than_it_may_keep() {
    const MANY: usize = 12;
    let mut service = Service::start();
    let ids = crowd(&mut service, MANY, "[limits]\nstorage = \"1M\"");
    // A start makes the storage.
    service.run_again();
    refusals(&service, MANY);
    service.stop();
    for id in &ids {
        let data = service.directory().join("state/plugins").join(id).join("data");
        // More than are counted at once.
        for nth in 0..2100 {
            std::fs::write(data.join(nth.to_string()), "").unwrap();
        }
    }
    database(&service).execute_batch("DELETE FROM event; UPDATE plugin SET enabled = 1").unwrap();
    service.run_again();
    let refusals = refusals(&service, MANY);
    let storage = |error: &&Value| error["details"]["resource"] == "storage files";
    assert_eq!(refusals.iter().filter(storage).count(), MANY, "{refusals:?}");
}

fn memory_peak(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn who_asks_for_all_its_keys_again_and_again_takes_little_memory_and_puts_off_nobody() {
    let mut service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    let lines = "[limits]\nstorage = \"64M\"\n[lifecycle.restart]\npolicy = \"never\"";
    service.install(&Package::hostile("victim", "list-flood 60", lines));
    service.stop();
    database(&service)
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO state (plugin, key, value, version)
             SELECT 'victim', printf('%0500d', i), x'31', 1 FROM n;",
        )
        .unwrap();
    service.run_again();
    let supervisor = service.supervisor();
    service.json(["enable", "victim"]);
    let mut log = service.command(["logs", "victim", "--follow"]).start();
    log.stdout.line(|line| line.contains("asked"));
    service.json(["disable", "sibling", "--timeout", "5s"]);
    // Whatever it had asked is answered before this.
    service.json(["call", "victim", "echo", "[1]"]);
    assert_eq!(service.supervisor(), supervisor, "it was started anew");
    let peak = memory_peak(supervisor);
    assert!(peak < 256 << 20, "it took {peak} bytes");
    // The control: a part of them is there for whoever asks so.
    let mut admin = service.admin();
    let (mut keys, mut after) = (0, String::new());
    loop {
        let path = format!("/v1/plugins/victim/state?after={after}");
        let part = admin.ask("GET", &path, "").unwrap().json();
        keys += part["entries"].as_array().unwrap().len();
        match part["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(keys, 20_000);
    let shown = service.json(["state", "victim"]);
    assert_eq!(shown["entries"].as_array().unwrap().len(), 20_000, "the command line asks for all");
}

/// Asks on a connection; what is answered.
fn ask(stream: &mut UnixStream) -> String {
    let mut answer = vec![0; 4096];
    // One that is hung up on may not even take the question.
    let _ = stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: bulkhead\r\n\r\n");
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn a_user_has_no_more_connections_than_leave_the_service_its_descriptors() {
    let service = Service::start();
    let socket = service.socket();
    let open = |socket: &Path| UnixStream::connect(socket).unwrap();
    let mut idle: Vec<UnixStream> = (0..256).map(|_| open(&socket)).collect();
    // Each is let in by now: the last is answered.
    assert!(ask(idle.last_mut().unwrap()).starts_with("HTTP/1.1 200"));
    let refused = ask(&mut open(&socket));
    assert!(refused.contains("RESOURCE_EXHAUSTED") && refused.contains("connections"), "{refused}");
    let error = service.error(["ls"]);
    assert_eq!(error["details"]["limit"], 256, "{error}");
    // Who hangs up makes room.
    drop(idle);
    let deadline = Instant::now() + DEADLINE;
    while !ask(&mut open(&socket)).starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "there is no room again");
    }
    service.json(["ls"]);
}
