//! What a plugin was told is kept is kept, whatever dies at that moment.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::admin::Admin;
use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// `BULKHEAD_STATE_ROUNDS`, or 500: half a minute.
fn rounds() -> u64 {
    let given = std::env::var("BULKHEAD_STATE_ROUNDS").ok().map(|text| text.parse().unwrap());
    given.unwrap_or(if lane::promised() { 20 } else { 500 })
}

/// In turn the supervisor is killed, and the launcher with all that it has started: a supervisor that
/// is killed again and again is started again more and more slowly.
#[test]
fn what_is_acknowledged_survives_a_kill_at_that_moment() {
    let mut service = Service::start();
    service.enable(&Package::witness("keeper", ""));
    let call = |service: &Service, method: &str, body: &Value| {
        let mut admin = Admin::connect(&service.socket()).unwrap();
        admin.post(&format!("/v1/plugins/keeper/call/{method}"), &body.to_string()).unwrap().json()
    };
    for round in 1..=rounds() {
        // Some are longer than a page, so that a torn one would show.
        let value = json!({ "round": round, "padding": "x".repeat((round % 7) as usize * 1000) });
        let supervisor = Pid::from_raw(service.supervisor());
        let version = call(&service, "set-state", &value);
        if round % 2 == 1 {
            kill(supervisor, Signal::SIGKILL).unwrap();
        } else {
            service.kill();
            service.wait_until_nothing_runs(supervisor.as_raw());
            service.run_again();
            service.wait_for("keeper", |plugin| plugin["state"] == "enabled");
        }
        assert_eq!(version, json!(round), "each write is there once");
        assert_eq!(call(&service, "get-state", &Value::Null), value, "after round {round}");
    }
    let whole = service.json(["audit", "verify"]);
    assert!(whole["rows"].as_u64().unwrap() >= rounds(), "and so is the audit: {whole}");
}
