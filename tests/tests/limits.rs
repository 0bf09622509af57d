//! What a plugin is told about, and its operator, when it comes near its limits or is refused more.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::process::Running;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use serde_json::{Value, json};

const NEVER: &str = "[lifecycle.restart]\npolicy = \"never\"";

fn follow(service: &Service) -> Running {
    service.command(["events", "--follow", "--json"]).start()
}

/// The next event of that name about that plugin.
fn next(events: &mut Running, name: &str, id: &str) -> Value {
    let wanted = |line: &str| {
        serde_json::from_str::<Value>(line)
            .is_ok_and(|event| event["event"] == name && event["pluginId"] == id)
    };
    serde_json::from_str(&events.stdout.line(wanted)).unwrap()
}

/// The warnings about a resource that are kept.
fn warnings(service: &Service, id: &str, resource: &str) -> Vec<Value> {
    let kept = service.command(["events", "--json"]).run().expect(0).stdout;
    let all = kept.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == "plugin:warning" && event["pluginId"] == id)
        .filter(|event| event["details"]["resource"] == resource)
        .collect()
}

#[test]
fn a_thread_that_is_refused_is_told_at_once_and_counted() {
    if !lane::require(test_name!(), "pids") {
        return;
    }
    // The next sample is an hour away.
    let service = Service::with("usage_interval = \"1h\"");
    service.enable(&Package::witness("sibling", ""));
    let mut events = follow(&service);
    let greedy = Package::hostile("greedy", "threads 40", &format!("[limits]\npids = 16\n{NEVER}"));
    service.enable(&greedy);
    let warning = loop {
        let warning = next(&mut events, "plugin:warning", "greedy");
        if warning["code"] == "RESOURCE_EXHAUSTED" {
            break warning;
        }
    };
    let details = &warning["details"];
    // One more for the compartment's init.
    assert_eq!((&details["resource"], &details["limit"]), (&"pids".into(), &17.into()));
    assert!(details["used"].as_u64().is_some_and(|used| used <= 17), "{warning}");
    assert!(warning["count"].as_u64().is_some_and(|count| count >= 1), "{warning}");
    let line = "[limits] pids = 32";
    assert_eq!((&warning["layer"], &warning["remedy"]), (&"pids".into(), &line.into()));
    // It lives on, and so does the other, of which nothing is told.
    for id in ["greedy", "sibling"] {
        assert_eq!(service.json(["inspect", id])["state"], "enabled");
    }
    let refused = &service.json(["inspect", "greedy"])["limitEvents"]["pidsRefused"];
    assert!(refused.as_u64().is_some_and(|refused| refused >= 1), "{refused}");
    assert_eq!(service.json(["inspect", "sibling"])["limitEvents"]["pidsRefused"], 0);
    assert_eq!(warnings(&service, "sibling", "pids"), [Value::Null; 0]);
    let told = warnings(&service, "greedy", "pids");
    let exhausted = told.iter().filter(|event| event["code"] == "RESOURCE_EXHAUSTED").count();
    assert_eq!(exhausted, 1, "{told:?}");
}

#[test]
fn memory_that_is_nearly_used_up_is_told_once() {
    if !lane::require(test_name!(), "memory") {
        return;
    }
    let service = Service::with("usage_interval = \"500ms\"");
    let mut events = follow(&service);
    let lines = format!("[limits]\nmemory = \"128M\"\n{NEVER}");
    service.enable(&Package::hostile("modest", "leak-memory 64", &lines));
    service.enable(&Package::hostile("full", "leak-memory 118", &lines));
    let warning = next(&mut events, "plugin:warning", "full");
    assert_eq!(warning["code"], "RESOURCE_NEAR_LIMIT", "{warning}");
    let details = &warning["details"];
    assert_eq!((&details["resource"], &details["limit"]), (&"memory".into(), &(128 << 20).into()));
    let used = details["used"].as_u64().unwrap();
    assert!(((128 << 20) / 10 * 9..=128 << 20).contains(&used), "{warning}");
    let usage = next(&mut events, "plugin:resource:usage", "full");
    assert_eq!(usage["metrics"]["limits"]["memoryBytes"], 128 << 20, "{usage}");
    next(&mut events, "plugin:resource:usage", "full");
    assert_eq!(service.json(["inspect", "full"])["state"], "enabled");
    assert_eq!(warnings(&service, "full", "memory").len(), 1);
    assert_eq!(warnings(&service, "modest", "memory"), [Value::Null; 0]);
}

#[test]
fn each_disk_is_bounded_as_the_manifest_says() {
    if !lane::require(test_name!(), "io") {
        return;
    }
    let service = Service::start();
    let lines = "[limits]\nio_write = \"7M\"\nio_read_ops = 900";
    service.enable(&Package::witness("bounded", lines));
    service.enable(&Package::witness("free", ""));
    let io = |id: &str| {
        let plugin = service.json(["inspect", id]);
        let layers = plugin["enforcement"]["layers"].as_array().unwrap();
        layers.iter().find(|layer| layer["layer"] == "io").cloned()
    };
    let bound = io("bounded").unwrap();
    assert_eq!(bound["enforced"], true, "{bound}");
    let measured = bound["measured"].as_str().unwrap();
    for disk in measured.split(", ") {
        assert!(disk.ends_with("rbps=max wbps=7340032 riops=900 wiops=max"), "{bound}");
    }
    assert_eq!(io("free"), None, "it asked for none");
}

/// How a service bounds what one plugin can have.
fn bound(service: &mut Service, cpu: &str) {
    service.stop();
    let config = std::fs::read_to_string(service.config()).unwrap();
    let bounded = config.replace("cpu = \"150%\"", &format!("cpu = \"{cpu}\""));
    assert_ne!(config, bounded);
    std::fs::write(service.config(), bounded).unwrap();
    service.run_again();
}

#[test]
fn a_manifest_that_asks_for_more_than_the_administrator_gives_is_refused() {
    let mut service = Service::with("[limits]\ncpu = \"150%\"\nio_write = \"8M\"");
    for (lines, key, value) in [
        ("cpu = \"151%\"", "limits.cpu", "151%"),
        ("cpu = \"100000%\"", "limits.cpu", "100000%"),
        ("io_write = \"9M\"", "limits.io_write", "9M"),
    ] {
        let greedy = Package::witness("greedy", &format!("[limits]\n{lines}"));
        let refused = service.error(["install", "--yes", greedy.path().to_str().unwrap()]);
        assert_eq!(refused["code"], "RESOURCE_EXHAUSTED", "{refused}");
        let details = &refused["details"];
        assert_eq!((&details["key"], &details["value"]), (&json!(key), &json!(value)), "{refused}");
        assert_eq!(service.error(["inspect", "greedy"])["code"], "NOT_FOUND");
    }
    // The control: as much as is given can be had.
    service.enable(&Package::witness("modest", "[limits]\ncpu = \"150%\"\nio_write = \"8M\""));

    // A bound that is set later holds for what was installed before, and the next start is refused.
    bound(&mut service, "100%");
    let refused = service.error(["enable", "modest"]);
    assert_eq!(refused["code"], "RESOURCE_EXHAUSTED", "{refused}");
    assert_eq!(refused["details"]["key"], "limits.cpu", "{refused}");
    assert_eq!(service.json(["inspect", "modest"])["state"], "disabled");
}

#[test]
fn one_that_asks_for_no_bound_on_disks_has_the_administrators() {
    let service = Service::with("[limits]\nio_read = \"9M\"\nio_write = \"8M\"");
    let plugin =
        service.enable(&Package::witness("quiet", "[limits]\nio_write = \"1M\""))["plugin"].clone();
    let limits = &plugin["limits"];
    let of_disks = (&limits["io_read"], &limits["io_write"], &limits["io_read_ops"]);
    assert_eq!(of_disks, (&json!(9 << 20), &json!(1 << 20), &Value::Null), "{limits}");
    let layers = plugin["enforcement"]["layers"].as_array().unwrap();
    let io = layers.iter().find(|layer| layer["layer"] == "io").unwrap();
    assert_eq!(io["asked"], "each disk limited", "{io}");
    if lane::require(test_name!(), "io") {
        for disk in io["measured"].as_str().unwrap().split(", ") {
            assert!(disk.ends_with("rbps=9437184 wbps=1048576 riops=max wiops=max"), "{io}");
        }
    }
}
