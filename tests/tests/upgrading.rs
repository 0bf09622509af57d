//! Another version of a plugin: taken over, or put back with its state when the new one is no good.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

/// Upgrades by the verb; what it answers.
fn upgrade(service: &Service, package: &Package) -> Value {
    service.json(["upgrade", package.path().to_str().unwrap(), "--yes"])
}

/// The same, which must fail.
fn failing_upgrade(service: &Service, package: &Package) -> Value {
    service.error(["upgrade", package.path().to_str().unwrap(), "--yes"])
}

/// The plugin's state, as values by key.
fn state(service: &Service, id: &str) -> Value {
    let reply = service.json(["state", id]);
    reply["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["key"].as_str().unwrap().to_owned(), entry["value"].clone()))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

/// The events about a plugin, in order, without those of usage.
fn events(service: &Service, id: &str) -> Vec<Value> {
    let text = service.command(["events", "--json"]).run().expect(0).stdout;
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["pluginId"] == id && event["event"] != "plugin:resource:usage")
        .collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// How many trees the store has.
fn trees(service: &Service) -> usize {
    let entries = std::fs::read_dir(service.directory().join("state/store")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    entries.map(name).filter(|name| !name.to_str().unwrap().contains('.')).count()
}

#[test]
fn a_new_version_takes_over_state_and_configuration_and_can_be_rolled_back() {
    let service = Service::start();
    let one = Package::revision("doc", "1.0.0", "well", "");
    service.enable(&one);
    service.json(["call", "doc", "write", r#"["note", 7]"#]);
    let pid = service.json(["inspect", "doc"])["process"]["pid"].clone();

    let upgraded = upgrade(&service, &Package::revision("doc", "1.1.0", "well", ""));
    assert_eq!((&upgraded["version"], &upgraded["state"]), (&json!("1.1.0"), &json!("enabled")));
    assert_eq!(upgraded["previous"]["version"], "1.0.0");
    assert_ne!(upgraded["process"]["pid"], pid);
    // What the old version saved when it was drained was there for the new one.
    let kept = json!({"signed": ["1.0.0", "1.1.0"], "saved": "1.0.0", "note": 7});
    assert_eq!(state(&service, "doc"), kept);
    assert_eq!(trees(&service), 2, "the version before is kept");
    let told = events(&service, "doc");
    assert_eq!(
        names(&told)[4..],
        [
            "plugin:upgrading",
            "plugin:disabling",
            "plugin:disabled",
            "plugin:enabling",
            "plugin:enabled",
            "plugin:upgraded"
        ]
    );
    let body = told.last().unwrap();
    assert_eq!((&body["version"], &body["previous"]), (&json!("1.1.0"), &json!("1.0.0")));
    let shown = service.command(["inspect", "doc"]).run().expect(0).stdout;
    assert!(shown.contains("1.0.0"), "{shown}");

    // The tree before the one before goes.
    upgrade(&service, &Package::revision("doc", "1.2.0", "well", ""));
    assert_eq!(trees(&service), 2);
    let back = service.json(["rollback", "doc"]);
    assert_eq!((&back["version"], &back["state"]), (&json!("1.1.0"), &json!("enabled")));
    assert_eq!(back["previous"]["version"], "1.2.0", "a second rollback undoes the first");
    // With the state as it is now.
    assert_eq!(state(&service, "doc")["signed"], json!(["1.0.0", "1.1.0", "1.2.0", "1.1.0"]));
    service.json(["call", "doc", "write", r#"["note", 8]"#]);

    service.json(["uninstall", "doc"]);
    assert_eq!(trees(&service), 0, "both versions");
}

#[test]
fn a_new_version_that_fails_is_undone_with_all_that_it_wrote() {
    for (mode, lines, code, stage) in [
        ("crash-in-init", "", "INITIALIZATION_FAILED", "init"),
        ("hang-in-init", "[lifecycle]\ninit_timeout = \"500ms\"", "TIMEOUT", "init"),
        ("unhealthy", "", "INITIALIZATION_FAILED", "health"),
        ("refuse", "", "CONFIG_INVALID", "init"),
        ("die-soon", "[lifecycle]\nprobation = \"10s\"", "INITIALIZATION_FAILED", "probation"),
    ] {
        let service = Service::start();
        service.enable(&Package::revision("doc", "1.0.0", "well", ""));
        service.json(["call", "doc", "write", r#"["note", 7]"#]);
        let error = failing_upgrade(&service, &Package::revision("doc", "2.0.0", mode, lines));
        assert_eq!((&error["code"], &error["details"]["stage"]), (&json!(code), &json!(stage)));
        let back = (&error["details"]["restored"], &error["details"]["state"]);
        assert_eq!(back, (&json!("1.0.0"), &json!("enabled")), "{mode}: {error}");
        assert!(error["message"].as_str().unwrap().ends_with("; 1.0.0 is back, and enabled"));
        let plugin = service.json(["inspect", "doc"]);
        assert_eq!(
            (&plugin["version"], &plugin["state"], &plugin["previous"], &plugin["desired"]),
            (&json!("1.0.0"), &json!("enabled"), &Value::Null, &json!("enabled")),
            "{mode}"
        );
        // The old one signs again, as it was started again; of the new one there is nothing.
        let kept = json!({"signed": ["1.0.0", "1.0.0"], "saved": "1.0.0", "note": 7});
        assert_eq!(state(&service, "doc"), kept, "{mode}");
        assert_eq!(trees(&service), 1, "{mode}");
        let told = events(&service, "doc");
        let told = told.last().unwrap();
        assert_eq!(told["event"], "plugin:rolledback", "{mode}: {told}");
        assert_eq!(told["cause"]["code"], code, "{mode}: {told}");
        assert_eq!((&told["version"], &told["previous"]), (&json!("1.0.0"), &json!("2.0.0")));
    }
}

#[test]
fn a_version_that_stays_up_for_its_probation_is_kept_and_nothing_else_is_done_meanwhile() {
    let service = Service::start();
    let one = Package::revision("doc", "1.0.0", "well", "");
    service.enable(&one);
    let two = Package::revision("doc", "2.0.0", "well", "[lifecycle]\nprobation = \"1s\"");
    let path = two.path().to_str().unwrap();
    let upgrading = service.command(["upgrade", path, "--yes", "--json"]).start();
    service.wait_for("doc", |plugin| plugin["version"] == "2.0.0" && plugin["state"] == "enabled");
    let path = one.path().join("config.json");
    std::fs::write(&path, "{}").unwrap();
    for words in [&["config", "doc", "--set", path.to_str().unwrap()][..], &["enable", "doc"]] {
        let error = service.error(words);
        assert_eq!(
            (&error["code"], &error["details"]["state"]),
            (&json!("CONFLICT"), &json!("upgrading")),
            "{words:?}"
        );
    }
    // An operation waits for its turn.
    service.json(["uninstall", "doc"]);
    let upgraded = upgrading.wait().expect(0);
    assert!(upgraded.took.as_millis() >= 1000, "{:?}", upgraded.took);
    assert_eq!(names(&events(&service, "doc")).last(), Some(&"plugin:uninstalled"));
}

#[test]
fn a_disabled_plugin_is_upgraded_without_a_start() {
    let service = Service::start();
    service.install(&Package::revision("doc", "1.0.0", "well", ""));
    // It would fail, if it were started.
    let upgraded = upgrade(&service, &Package::revision("doc", "2.0.0", "crash-in-init", ""));
    assert_eq!((&upgraded["version"], &upgraded["state"]), (&json!("2.0.0"), &json!("disabled")));
    let error = service.error(["enable", "doc"]);
    assert_eq!(error["code"], "INITIALIZATION_FAILED");
    let back = service.json(["rollback", "doc"]);
    assert_eq!((&back["version"], &back["state"]), (&json!("1.0.0"), &json!("disabled")));
    assert_eq!(service.json(["enable", "doc"])["state"], "enabled");
}

#[test]
fn what_is_no_upgrade_is_refused_before_anything_happens() {
    let service = Service::start();
    let two = Package::revision("doc", "2.0.0", "well", "");
    let error = failing_upgrade(&service, &two);
    assert_eq!((&error["code"], &error["exitCode"]), (&json!("NOT_FOUND"), &json!(3)));
    let pid = service.enable(&two)["plugin"]["process"]["pid"].clone();
    let same = upgrade(&service, &two);
    assert_eq!((&same["version"], &same["process"]["pid"]), (&json!("2.0.0"), &pid), "satisfied");
    assert_eq!(service.error(["rollback", "doc"])["code"], "NOT_FOUND");

    let older = Package::revision("doc", "1.9.0", "well", "");
    let error = failing_upgrade(&service, &older);
    assert_eq!(
        (&error["code"], &error["details"]["what"]),
        (&json!("VERSION_INCOMPATIBLE"), &json!("downgrade"))
    );
    let other = Package::revision("doc", "2.0.0", "well", "description = \"other\"");
    assert_eq!(failing_upgrade(&service, &other)["code"], "ALREADY_EXISTS");
    let lines = "[config.schema]\ntype = \"object\"\nrequired = [\"a\"]";
    let picky = Package::revision("doc", "3.0.0", "well", lines);
    assert_eq!(failing_upgrade(&service, &picky)["code"], "CONFIG_INVALID");
    let needy = Package::revision("doc", "3.0.0", "well", "[dependencies]\nabsent = \"1\"");
    assert_eq!(failing_upgrade(&service, &needy)["code"], "DEPENDENCY_MISSING");
    assert_eq!(service.json(["inspect", "doc"])["process"]["pid"], pid, "it was not touched");
    assert_eq!(trees(&service), 1);

    let path = older.path().to_str().unwrap();
    let down = service.json(["upgrade", path, "--yes", "--allow-downgrade"]);
    assert_eq!((&down["version"], &down["state"]), (&json!("1.9.0"), &json!("enabled")));
}

#[test]
fn a_version_that_an_enabled_dependent_cannot_use_is_refused() {
    let service = Service::start();
    service.enable(&Package::revision("base", "1.0.0", "well", ""));
    let lines = "[dependencies]\nbase = \"^1\"";
    service.enable(&Package::revision("user", "1.0.0", "well", lines));
    let two = Package::revision("base", "2.0.0", "well", "");
    let error = failing_upgrade(&service, &two);
    assert_eq!(error["code"], "VERSION_INCOMPATIBLE");
    assert_eq!(error["details"]["dependent"], "user");
    assert_eq!(error["details"]["required"], "^1");
    // One that fits is taken while the dependent stays up.
    let pid = service.json(["inspect", "user"])["process"]["pid"].clone();
    upgrade(&service, &Package::revision("base", "1.5.0", "well", ""));
    assert_eq!(service.json(["inspect", "user"])["process"]["pid"], pid);
    // And one that is disabled keeps nobody.
    service.json(["disable", "user"]);
    assert_eq!(upgrade(&service, &two)["version"], "2.0.0");
    assert_eq!(service.error(["enable", "user"])["code"], "DEPENDENCY_MISSING");
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let service = Service::start();
    service.enable(&Package::revision("doc", "1.0.0", "well", ""));
    let two = Package::revision("doc", "2.0.0", "well", "");
    let path = two.path().to_str().unwrap();
    let review = service.json(["upgrade", path, "--dry-run"]);
    assert_eq!((&review["id"], &review["version"]), (&json!("doc"), &json!("2.0.0")));
    assert_eq!(service.json(["inspect", "doc"])["version"], "1.0.0");
    assert_eq!(trees(&service), 1);
}
