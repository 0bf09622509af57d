//! What plugins used is kept, minute by minute.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::{Duration, Instant};

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The rest of a minute, and some.
const A_MINUTE: Duration = Duration::from_secs(120);

fn points(service: &Service, query: &str) -> Value {
    let reply = service.admin().ask("GET", &format!("/v1/plugins/idle/usage{query}"), "").unwrap();
    reply.json()
}

#[test]
fn a_minute_is_kept_for_the_next_supervisor_and_goes_with_the_plugin() {
    let service = Service::with("usage_interval = \"200ms\"");
    service.enable(&Package::witness("idle", ""));
    assert_eq!(points(&service, "")["step"], "1m");
    let deadline = Instant::now() + A_MINUTE;
    let kept = loop {
        let kept = points(&service, "?since=2h");
        if !kept["points"].as_array().unwrap().is_empty() {
            break kept;
        }
        assert!(Instant::now() < deadline, "no minute is kept");
        // A sample, and with it the next chance.
        let mut events = service.command(["events", "--follow", "--json"]).start();
        events.stdout.line(|line| line.contains("plugin:resource:usage"));
    };
    assert_eq!((&kept["plugin"], &kept["step"]), (&"idle".into(), &"1m".into()));
    let point = &kept["points"][0];
    let time = point["time"].as_str().unwrap();
    assert!(time.ends_with(":00Z"), "{point}");
    assert!(point["seconds"].as_u64().is_some_and(|seconds| seconds <= 61), "{point}");
    assert!(point["storageBytes"].as_u64().is_some(), "{point}");
    let keys = [
        "cpuPercent",
        "cpuThrottledPercent",
        "ioReadBytes",
        "ioWrittenBytes",
        "memoryBytes",
        "memoryPeakBytes",
        "networkReceivedBytes",
        "networkSentBytes",
        "pids",
        "seconds",
        "storageBytes",
        "time",
    ];
    assert_eq!(point.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    let quarters = points(&service, "?since=2h&step=15m");
    assert_eq!(quarters["step"], "15m");
    let quarter = &quarters["points"][0];
    assert!(quarter["time"].as_str().unwrap() <= time, "{quarters}");
    let rows = service.command(["usage", "idle", "--since", "2h"]).run().expect(0).stdout;
    assert!(rows.starts_with(&format!("{time}\t")), "{rows}");
    // What is yet to come.
    assert_eq!(points(&service, "?since=2100-01-01T00:00:00Z")["points"], serde_json::json!([]));

    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + A_MINUTE;
    let after = loop {
        // Until the next one answers.
        let outcome = service.command(["usage", "idle", "--since", "2h", "--json"]).run();
        if let Ok(found) = serde_json::from_str::<Value>(&outcome.stdout) {
            break found;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
    };
    assert_eq!(&after["points"][0], point, "{after}");

    service.json(["uninstall", "idle", "--force"]);
    assert_eq!(service.error(["usage", "idle"])["code"], "NOT_FOUND");
    service.install(&Package::witness("idle", ""));
    assert_eq!(points(&service, "?since=2h")["points"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let service = Service::start();
    service.install(&Package::witness("idle", ""));
    let ask = |path: &str| {
        let reply = service.admin().ask("GET", path, "").unwrap();
        (reply.status, serde_json::from_slice::<Value>(&reply.body).unwrap())
    };
    for (query, value) in [("since=yesterday", "yesterday"), ("step=5m", "5m")] {
        let (status, problem) = ask(&format!("/v1/plugins/idle/usage?{query}"));
        assert_eq!((status, &problem["code"]), (400, &"INVALID_REQUEST".into()), "{problem}");
        assert_eq!(problem["details"]["value"], value);
    }
    let (status, found) = ask("/v1/plugins/idle/usage?since=90m&step=15m");
    assert_eq!((status, &found["points"]), (200, &serde_json::json!([])));
    assert_eq!(ask("/v1/plugins/absent/usage").0, 404);
    assert_eq!(service.error(["usage", "idle", "--step", "2h"])["code"], "INVALID_REQUEST");
}
