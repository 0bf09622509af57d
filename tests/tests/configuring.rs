//! A configuration that is replaced: at rest, while the plugin runs, and against its will.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

/// `bulkhead config ID --set -`.
fn set(service: &Service, config: &Value, flags: &[&str]) -> Value {
    let words = ["config", "clinic", "--set", "-", "--json"].iter().chain(flags);
    let outcome = service.command(words).input(config.to_string()).run();
    let text = if outcome.code() == 0 { outcome.stdout } else { outcome.stderr };
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn in_force(service: &Service) -> Value {
    service.json(["call", "clinic", "seen"])["config"].clone()
}

const SCHEMA: &str = "[config.schema]\ntype = \"object\"\n[config.schema.properties.rooms]\n\
                      type = \"integer\"\n[config.defaults]\nrooms = 1";

#[test]
fn a_plugin_that_runs_takes_it_defers_it_or_refuses_it() {
    let service = Service::start();
    let package = Package::witness("clinic", SCHEMA);
    let before = service.enable(&package)["plugin"]["process"]["pid"].clone();
    assert_eq!(in_force(&service), json!({ "rooms": 1 }), "the default");

    // The configuration in force does not say `live`: it asks for a restart.
    let live = json!({ "rooms": 2, "live": true });
    assert_eq!(set(&service, &live, &[])["applied"], "at-restart");
    assert_eq!(in_force(&service), json!({ "rooms": 1 }));
    assert_eq!(service.json(["config", "clinic"]), live, "but it is kept");
    assert_eq!(set(&service, &live, &["--restart"])["applied"], "restarted");
    assert_eq!(in_force(&service), live);
    let process = service.json(["inspect", "clinic"])["process"]["pid"].clone();
    assert_ne!(process, before);

    let next = json!({ "rooms": 3, "live": true });
    assert_eq!(set(&service, &next, &[])["applied"], "now");
    assert_eq!(in_force(&service), next);
    assert_eq!(service.json(["inspect", "clinic"])["process"]["pid"], process, "the same process");

    for (config, code) in [
        (json!({ "rooms": "three" }), "CONFIG_INVALID"),
        (json!([3]), "CONFIG_INVALID"),
        (json!({ "rooms": 4, "refuse": "no room 4 here" }), "CONFIG_INVALID"),
    ] {
        let error = set(&service, &config, &[]);
        assert_eq!(error["code"], code, "{config}: {error}");
        assert_eq!(in_force(&service), next, "{config}");
        assert_eq!(service.json(["config", "clinic"]), next, "{config}");
    }
    let error = set(&service, &json!({ "refuse": "no room 4 here" }), &[]);
    assert!(error["message"].as_str().unwrap().contains("no room 4 here"), "{error}");

    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let applied: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "plugin:configured")
        .map(|event| event["applied"].clone())
        .collect();
    assert_eq!(applied, [json!("at-restart"), json!("at-restart"), json!("now")]);
    assert!(events.contains("RESTART_NEEDED"), "{events}");
}

#[test]
fn a_plugin_at_rest_has_it_at_its_start() {
    let service = Service::start();
    service.install(&Package::witness("clinic", SCHEMA));
    assert_eq!(service.json(["config", "clinic"]), json!({}));
    assert_eq!(set(&service, &json!({ "rooms": 5 }), &[])["applied"], "at-start");
    assert_eq!(set(&service, &json!({ "rooms": "five" }), &[])["code"], "CONFIG_INVALID");
    service.json(["enable", "clinic"]);
    assert_eq!(in_force(&service), json!({ "rooms": 5 }));
    let error = service.error(["config", "absent"]);
    assert_eq!((&error["code"], &error["exitCode"]), (&json!("NOT_FOUND"), &json!(3)));
}

#[test]
fn a_plugin_that_never_heard_of_it_is_restarted_if_asked() {
    let service = Service::start();
    service.enable(&Package::hostile("clinic", "well", ""));
    assert_eq!(set(&service, &json!({ "a": 1 }), &[])["applied"], "at-restart");
    assert_eq!(set(&service, &json!({ "a": 2 }), &["--restart"])["applied"], "restarted");
    assert_eq!(service.json(["inspect", "clinic"])["state"], "enabled");
}

#[test]
fn a_configuration_with_which_a_plugin_does_not_come_up_is_put_back() {
    let service = Service::start();
    service.enable(&Package::witness("clinic", ""));
    set(&service, &json!({ "rooms": 3 }), &["--restart"]);
    let bad = service.directory().join("bad.json");
    std::fs::write(&bad, json!({ "rooms": 4, "refuseStart": "no rooms" }).to_string()).unwrap();
    let set = ["config", "clinic", "--set", bad.to_str().unwrap(), "--restart"];
    let error = service.error(set);
    assert_eq!(error["code"], "CONFIG_INVALID", "{error}");
    let told = error["message"].as_str().unwrap();
    assert!(told.contains("before is in force again") && told.contains("no rooms"), "{told}");
    assert_eq!(in_force(&service), json!({ "rooms": 3 }));
    assert_eq!(service.json(["inspect", "clinic"])["config"], json!({ "rooms": 3 }));
}
