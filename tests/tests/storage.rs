//! What a plugin keeps on disk is counted and bounded.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;

const HOARDED: u64 = 24 << 20;

fn hoarder(id: &str, storage: &str) -> Package {
    let manifest =
        format!("[limits]\nstorage = \"{storage}\"\n[lifecycle.restart]\npolicy = \"never\"");
    Package::hostile(id, "hoard-data 24", &manifest)
}

#[test]
fn a_plugin_that_fills_its_storage_is_stopped_and_told_why() {
    let service = Service::with("usage_interval = \"100ms\"");
    service.enable(&hoarder("modest", "64M"));
    service.enable(&hoarder("greedy", "16M"));
    service.json(["call", "modest", "echo"]);
    // Its call may be cut off by the stop.
    service.command(["call", "greedy", "echo"]).run();
    let stopped = service.wait_for("greedy", |plugin| plugin["process"].is_null());
    let error = &stopped["lastError"];
    assert_eq!(error["code"], "RESOURCE_EXHAUSTED", "{stopped}");
    assert_eq!(error["details"]["resource"], "storage", "{stopped}");
    assert!(error["details"]["used"].as_u64().unwrap() > 16 << 20, "{stopped}");
    assert_eq!(error["details"]["layer"], "quota", "{stopped}");
    assert_eq!(error["details"]["remedy"], "[limits] storage = \"32M\"", "{stopped}");
    // What it died of is the same, and not the signal that it was told to end by.
    let exit = &stopped["lastExit"];
    assert!(exit["explanation"].as_str().unwrap().starts_with("bulkhead stopped it: "), "{exit}");
    assert_eq!(
        (&exit["layer"], &exit["remedy"]),
        (&error["details"]["layer"], &error["details"]["remedy"])
    );
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let died = audit.lines().find(|row| row.contains("\"died\"")).unwrap();
    assert!(died.contains("\"layer\":\"quota\""), "{died}");
    // The control: with room for it the same plugin goes on, and its storage is told.
    let modest = service.json(["inspect", "modest"]);
    assert_eq!(modest["state"], "enabled");
    assert_eq!(modest["storage"]["enforcement"], "sampled");
    assert_eq!(modest["storage"]["limitBytes"], 64 << 20);
    assert!(modest["storage"]["dataBytes"].as_u64().unwrap() >= HOARDED, "{modest}");
    let text = service.command(["inspect", "modest"]).run().expect(0).stdout;
    assert!(text.contains("of 64 MiB, sampled"), "{text}");
    // It does not start before it keeps less.
    let refused = service.error(["enable", "greedy"]);
    assert_eq!(refused["code"], "RESOURCE_EXHAUSTED", "{refused}");
    let data = service.directory().join("state/plugins/greedy/data");
    // It may have been stopped before it had written all.
    for file in std::fs::read_dir(data).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(service.json(["enable", "greedy"])["state"], "enabled");
}

#[test]
fn a_plugin_whose_storage_is_nearly_full_is_warned_of_once() {
    let service = Service::with("usage_interval = \"100ms\"");
    let mut events = service.command(["events", "--follow", "--json"]).start();
    service.enable(&hoarder("near", "26M"));
    service.json(["call", "near", "echo"]);
    events.stdout.line(|line| line.contains("plugin:warning") && line.contains("nine tenths"));
    let samples = |events: &mut bulkhead_tests::process::Running| {
        events.stdout.line(|line| line.contains("plugin:resource:usage"));
    };
    samples(&mut events);
    samples(&mut events);
    let kept = service.command(["events", "--json"]).run().expect(0).stdout;
    assert_eq!(kept.matches("nine tenths").count(), 1, "{kept}");
    assert_eq!(service.json(["inspect", "near"])["state"], "enabled");
}

#[test]
fn a_plugin_that_cannot_start_with_the_service_is_tried_again_at_its_next_start() {
    let mut service = Service::start();
    service.enable(&hoarder("greedy", "1M"));
    service.stop().expect(0);
    let file = service.directory().join("state/plugins/greedy/data/left");
    std::fs::write(&file, vec![7; 2 << 20]).unwrap();
    service.run_again();
    let refused = service.wait_for("greedy", |plugin| !plugin["lastError"].is_null());
    assert_eq!(refused["lastError"]["code"], "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!((&refused["state"], &refused["desired"]), (&"disabled".into(), &"enabled".into()));
    let mut events = service.command(["events", "--follow", "--json"]).start();
    events.stdout.line(|line| line.contains("\"plugin:error\""));
    let kept = service.command(["events", "--json"]).run().expect(0).stdout;
    assert_eq!(kept.matches("\"plugin:error\"").count(), 1, "told once: {kept}");
    service.stop().expect(0);
    std::fs::remove_file(&file).unwrap();
    service.run_again();
    service.wait_for("greedy", |plugin| plugin["state"] == "enabled");
    // What an operator asks for and does not get stays as it was before.
    service.json(["disable", "greedy"]);
    std::fs::write(&file, vec![7; 2 << 20]).unwrap();
    assert_eq!(service.error(["enable", "greedy"])["code"], "RESOURCE_EXHAUSTED");
    assert_eq!(service.json(["inspect", "greedy"])["desired"], "disabled");
}
