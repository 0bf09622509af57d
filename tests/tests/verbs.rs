//! The client verbs against a service of the test's own.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::plugin;
use bulkhead_tests::service::Service;
use serde_json::Value;

#[test]
fn a_plugins_life_by_the_command_line() {
    let service = Service::start();
    let provider = plugin::example(service.directory(), "appointments");
    let installed = service.json(["install".as_ref(), "--yes".as_ref(), provider.as_os_str()]);
    assert_eq!(
        (&installed["id"], &installed["state"]),
        (&"appointments".into(), &"disabled".into())
    );

    let config = service.directory().join("config.toml");
    std::fs::write(&config, "defaultDuration = 45\n").unwrap();
    let enabled = service.json([
        "enable".as_ref(),
        "appointments".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
    ]);
    assert_eq!(enabled["state"], "enabled");
    assert_eq!(enabled["plugin"]["config"]["defaultDuration"], 45);

    let listed = service.command(["ls"]).run().expect(0).stdout;
    let fields: Vec<&str> = listed.trim_end().split('\t').collect();
    assert_eq!((fields[0], fields[2]), ("appointments", "enabled"));

    let reply = service.command(["call", "appointments", "stats", "-"]).input("{}").run().expect(0);
    let reply: Value = serde_json::from_str(&reply.stdout).unwrap();
    assert_eq!(reply["patients"], 0);
    let patient = r#"{"ndjson":"{\"resourceType\":\"Patient\",\"id\":\"p1\"}\n"}"#;
    service.command(["call", "appointments", "import", patient]).run().expect(0);
    let state = service.json(["state", "appointments"]);
    assert!(!state["entries"].as_array().unwrap().is_empty(), "{state}");

    let inspected = service.command(["inspect", "appointments"]).run().expect(0).stdout;
    for part in ["appointments 0.1.0  enabled", "ok  seccomp", "pid ", "defaultDuration"] {
        assert!(inspected.contains(part), "no {part:?} in\n{inspected}");
    }
    let mut logs = service.command(["logs", "appointments", "-f"]).start();
    logs.stdout.line(|line| line.contains("imported"));
    drop(logs);

    let disabled = service.json(["disable", "appointments", "--timeout", "3s"]);
    assert_eq!((&disabled["state"], &disabled["budgetMs"]), (&"disabled".into(), &3000.into()));
    let stages: Vec<&str> = disabled["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["stage"].as_str().unwrap())
        .collect();
    let position = |name: &str| {
        stages.iter().position(|stage| *stage == name).unwrap_or_else(|| panic!("{stages:?}"))
    };
    assert!(position("drain") < position("exited") && position("exited") < position("removed"));

    let inspected = service.command(["inspect", "appointments"]).run().expect(0).stdout;
    assert!(inspected.contains("last exit") && inspected.contains("successfully"), "{inspected}");
    service.json(["uninstall", "appointments"]);
    assert_eq!(service.json(["ls"])["plugins"], Value::Array(vec![]));
}

#[test]
fn events_can_be_followed_and_resumed() {
    let service = Service::start();
    let provider = plugin::example(service.directory(), "appointments");
    let mut follower = service.command(["events", "-f"]).start();
    service.json(["install".as_ref(), "--yes".as_ref(), provider.as_os_str()]);
    follower.stdout.line(|line| line.contains("plugin:installing appointments"));
    let installed = follower.stdout.line(|line| line.contains("plugin:installed appointments"));
    drop(follower);
    let sequence = installed.split(' ').next().unwrap();
    service.json(["uninstall", "appointments"]);
    let rest = service.command(["events", "--since", sequence]).run().expect(0).stdout;
    assert!(!rest.contains("plugin:installed"), "{rest}");
    assert!(rest.find("plugin:uninstalling").unwrap() < rest.find("plugin:uninstalled").unwrap());
    for line in service.command(["events", "--json"]).run().expect(0).stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["sequence"].is_u64() && event["event"].is_string(), "{event}");
    }
}

#[test]
fn refusals_have_codes_and_exit_codes() {
    let service = Service::start();
    for (words, code, exit) in [
        (vec!["inspect", "absent"], "NOT_FOUND", 3),
        (vec!["enable", "absent"], "NOT_FOUND", 3),
        (vec!["call", "absent", "m"], "NOT_FOUND", 3),
        (vec!["logs", "absent"], "NOT_FOUND", 3),
        (vec!["uninstall", "absent"], "NOT_FOUND", 3),
    ] {
        let error = service.error(&words);
        assert_eq!((&error["code"], &error["exitCode"]), (&code.into(), &exit.into()), "{words:?}");
    }
    let provider = plugin::example(service.directory(), "appointments");
    service.json(["install".as_ref(), "--yes".as_ref(), provider.as_os_str()]);
    service.json(["enable", "appointments"]);
    let error = service.error(["call", "appointments", "no-such-method", "{}"]);
    assert_eq!(error["details"]["pluginCode"], "METHOD_UNKNOWN", "{error}");
    let scheduler = plugin::example(service.directory(), "appointment-scheduler");
    service.json(["disable", "appointments"]);
    service.json(["uninstall", "appointments"]);
    service.json(["install".as_ref(), "--yes".as_ref(), scheduler.as_os_str()]);
    let error = service.error(["enable", "appointment-scheduler"]);
    assert_eq!(error["code"], "DEPENDENCY_MISSING");
    assert_eq!(error["details"]["dependency"], "appointments");
    // A directory without a manifest, and one that is changed after it was installed.
    let empty = service.directory().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = service.error(["install".as_ref(), empty.as_os_str()]);
    assert!(error["message"].as_str().unwrap().contains("plugin.toml"), "{error}");
}

#[test]
fn a_plugin_that_ignores_the_stop_is_gone_at_its_budget() {
    let service = Service::start();
    let hostile = plugin::hostile(service.directory(), "ignore-sigterm", "");
    service.json(["install".as_ref(), hostile.as_os_str()]);
    service.json(["enable", "hostile"]);
    let stopped = service.json(["disable", "hostile", "--timeout", "1s"]);
    assert_eq!(stopped["forced"], true, "{stopped}");
    let stages = stopped["timeline"].as_array().unwrap();
    assert!(stages.iter().any(|stage| stage["stage"] == "sigkill"), "{stopped}");
    // From the request to the last process gone, without the start of the command line.
    let total = stopped["totalMs"].as_u64().unwrap();
    assert!((1000..3000).contains(&total), "{stopped}");
    let view = service.json(["inspect", "hostile"]);
    assert_eq!((&view["state"], &view["process"]), (&"disabled".into(), &Value::Null));
}
