//! Many plugins, many clients, many calls at a time: each is bounded, and nobody is forgotten.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;

fn database(service: &Service) -> rusqlite::Connection {
    rusqlite::Connection::open(service.directory().join("state/supervisor/bulkhead.db")).unwrap()
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
