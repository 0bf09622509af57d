//! One bad plugin never delays another.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::exposition::Scrape;
use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;

/// Half a CPU, and a start after each death.
const RIOT: &str = "[limits]\ncpu = \"50%\"\n[lifecycle.restart]\nbackoff = \"10ms\"\n\
    backoff_max = \"10ms\"\nlimit = 4294967295";

#[test]
fn calls_are_answered_in_time_beside_plugins_that_spin_flood_and_crash() {
    const CALLS: u32 = 100;
    const RIOTERS: [&str; 2] = ["one", "two"];
    let service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    for id in RIOTERS {
        service.enable(&Package::hostile(id, "riot", RIOT));
    }
    let mut admin = service.admin();
    let call = format!("/v1/plugins/sibling/call/echo?timeout={}", lane::slack().as_millis());
    let mut calls = 0;
    let until = Instant::now() + DEADLINE;
    let found = loop {
        // Each within its deadline, or it is no success.
        for _ in 0..CALLS {
            let reply = admin.post(&call, "[1]").unwrap();
            assert_eq!(reply.json(), serde_json::json!([1]));
            calls += 1;
        }
        let scrape = admin.ask("GET", "/metrics", "").unwrap();
        let found = Scrape::parse(str::from_utf8(&scrape.body).unwrap()).unwrap();
        let value = |name, id| found.value(name, &[("plugin", id)]).unwrap_or(0.0);
        if RIOTERS.iter().all(|id| value("bulkhead_restarts_total", id) >= 2.0) {
            break found;
        }
        assert!(Instant::now() < until, "they do not crash as they should, after {calls} calls");
    };
    // They did what they were to do.
    for id in RIOTERS {
        let refused = [("plugin", id), ("reason", "refused")];
        assert!(found.value("bulkhead_events_lost_total", &refused).unwrap() > 100.0, "{id}");
        let lines = found.all("bulkhead_log_lines_total", &[("plugin", id)]);
        assert!(lines.iter().map(|it| it.value).sum::<f64>() > 100.0, "{id}");
    }
    let answered = [("plugin", "sibling"), ("method", "other"), ("outcome", "ok")];
    assert_eq!(found.value("bulkhead_calls_total", &answered), Some(f64::from(calls)));
    assert_eq!(found.value("bulkhead_restarts_total", &[("plugin", "sibling")]), Some(0.0));
    for id in RIOTERS {
        service.json(["disable", id]);
    }
}
