//! What the kernel's Landlock cannot do is refused by `strict`, with the layer's name, and named by
//! `best-effort`: never silent. On a kernel that can do it, `strict` starts.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::process::bulkhead;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use serde_json::Value;

/// The layer that nothing covers where a plugin has a port of the machine's network: Landlock has ports from
/// ABI 4 on, and abstract sockets, which such a plugin could connect to, from ABI 6 on.
fn lacking() -> Option<&'static str> {
    let of = |layer| lane::layer_state(layer) == "missing";
    ["landlock-network", "landlock-scopes"].into_iter().find(|layer| of(layer))
}

/// Whether `strict` can be had here at all; else a skip.
fn strict(test: &str) -> bool {
    ["memory", "pids", "cpu"].into_iter().all(|layer| lane::require(test, layer))
}

/// The entry of a layer in what was measured of a compartment.
fn measured<'a>(enforcement: &'a Value, name: &str) -> &'a Value {
    let layers = enforcement["layers"].as_array().unwrap();
    layers.iter().find(|layer| layer["layer"] == name).unwrap_or_else(|| panic!("{enforcement}"))
}

#[test]
fn a_command_with_a_port_is_refused_by_name_or_held_to_it() {
    if !strict(test_name!()) {
        return;
    }
    let run = |mode: &str| {
        let program = bulkhead(["exec", mode, "--json", "--connect", "443", "--report", "-"]);
        program.args(["--", "sh", "-c", "echo started"]).run()
    };
    // The control: without the port nothing is missing for it.
    let control = bulkhead(["exec", "--strict", "--", "echo", "started"]).run().expect(0);
    assert_eq!(control.stdout, "started\n");
    let outcome = run("--strict");
    let Some(layer) = lacking() else {
        assert_eq!(outcome.expect(0).stdout, "started\n");
        return;
    };
    let outcome = outcome.expect(125);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("SANDBOX_UNAVAILABLE"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(layer), "{}", outcome.stderr);
    let outcome = run("--best-effort").expect(0);
    assert_eq!(outcome.stdout, "started\n");
    assert!(outcome.stderr.contains(layer), "{}", outcome.stderr);
}

#[test]
fn a_plugin_with_a_port_is_refused_by_name_or_held_to_it() {
    if !strict(test_name!()) {
        return;
    }
    let mut service = Service::in_mode("strict");
    service.enable(&Package::hostile("control", "well", ""));
    let port = Package::hostile("victim", "well", "[network]\nconnect = [443]");
    service.install(&port);
    let Some(layer) = lacking() else {
        let enabled = service.json(["enable", "victim"]);
        let enforcement = &enabled["plugin"]["enforcement"];
        assert_eq!(measured(enforcement, "landlock-network")["enforced"], true, "{enforcement}");
        return;
    };
    let error = service.error(["enable", "victim"]);
    assert_eq!(error["code"], "SANDBOX_UNAVAILABLE", "{error}");
    assert_eq!(error["details"]["layer"], layer, "{error}");
    service.stop().expect(0);
    let service = Service::in_mode("best-effort");
    service.enable(&port);
    let plugin = service.json(["inspect", "victim"]);
    let found = measured(&plugin["enforcement"], layer);
    assert_eq!(found["enforced"], false, "{found}");
    assert!(found["missing"]["remedy"].as_str().unwrap().contains("ABI"), "{found}");
    let shown = service.command(["inspect", "victim"]).run().expect(0).stdout;
    assert!(shown.lines().any(|line| line.contains(layer) && line.contains("missing")), "{shown}");
}
