//! Events for plugins: of the host application, of each other, and of the service itself.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::admin::Reply;
use bulkhead_tests::exposition::Scrape;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Program, Running};
use bulkhead_tests::service::Service;
use bulkhead_tests::{plugin, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn witness(id: &str, subscribes: &str, publishes: &str) -> Package {
    Package::witness(
        id,
        &format!("[events]\nsubscribes = [{subscribes}]\npublishes = [{publishes}]"),
    )
}

fn announce(service: &Service, event: &Value) -> Reply {
    service.admin().ask("POST", "/v1/events", &event.to_string()).unwrap()
}

/// The first `count` events that a witness has heard; it waits for them.
fn heard(service: &Service, id: &str, count: usize) -> Vec<(String, Value)> {
    let reply = service.json(["call", id, "heard", &count.to_string()]);
    let news = reply.as_array().unwrap().iter();
    news.map(|it| (it["topic"].as_str().unwrap().to_owned(), it["data"].clone())).collect()
}

fn publish(service: &Service, id: &str, topic: &str, data: &Value, times: u32) {
    let news = json!({ "topic": topic, "data": data, "times": times });
    service.command(["call", id, "publish", &news.to_string()]).run().expect(0);
}

fn follow(service: &Service) -> Running {
    service.command(["events", "--follow", "--json"]).start()
}

fn next(events: &mut Running, name: &str, plugin: &str) -> Value {
    let wanted = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"] == name && event["pluginId"] == plugin
    };
    serde_json::from_str(&events.stdout.line(wanted)).unwrap()
}

#[test]
fn an_event_of_the_host_reaches_those_that_subscribe() {
    let service = Service::start();
    service.enable(&witness("clinic", "\"appointments.*\"", ""));
    service.enable(&witness("ward", "\"appointments.opened\"", ""));
    service.enable(&witness("deaf", "\"other.*\"", ""));
    service.install(&witness("asleep", "\"appointments.*\"", ""));

    let opened = json!({ "name": "appointments.opened", "body": { "id": 17 } });
    let reply = announce(&service, &opened);
    assert_eq!(reply.status, 202);
    assert_eq!(
        reply.json(),
        json!({
            "delivered": ["clinic", "ward"],
            "missed": [{ "id": "asleep", "reason": "disabled" }],
        })
    );
    let only = json!({ "name": "appointments.closed", "plugins": ["clinic", "deaf"] });
    assert_eq!(
        announce(&service, &only).json(),
        json!({
            "delivered": ["clinic"],
            "missed": [{ "id": "deaf", "reason": "not-subscribed" }],
        })
    );
    let topic = |name: &str| format!("appointments.{name}");
    let expected = [(topic("opened"), json!({ "id": 17 })), (topic("closed"), Value::Null)];
    assert_eq!(heard(&service, "clinic", 2), expected);
    assert_eq!(heard(&service, "ward", 1), expected[..1]);

    for (event, status, code) in [
        (json!({ "name": "plugin:enabled" }), 400, "INVALID_REQUEST"),
        (json!({ "name": "a b" }), 400, "INVALID_REQUEST"),
        (json!({ "body": 1 }), 400, "INVALID_REQUEST"),
        (json!({ "name": "a", "plugins": ["absent"] }), 404, "NOT_FOUND"),
        (json!({ "name": "a", "plugins": ["No_Id"] }), 400, "INVALID_REQUEST"),
    ] {
        let reply = announce(&service, &event);
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &problem["code"]), (status, &code.into()), "{event}: {problem}");
    }
}

#[test]
fn a_plugin_tells_others_what_its_manifest_allows() {
    let service = Service::start();
    service.enable(&witness("speaker", "\"*\"", "\"clinic.*\""));
    service.enable(&witness("liar", "", "\"*\""));
    service.enable(&witness("listener", "\"clinic.*\", \"plugin:disabled\", \"other\"", ""));
    let mut events = follow(&service);

    publish(&service, "speaker", "other", &json!(0), 3);
    publish(&service, "liar", "plugin:disabled", &json!({ "pluginId": "listener" }), 1);
    publish(&service, "speaker", "clinic.opened", &json!({ "rooms": 3 }), 1);
    // Of all that, only what is allowed arrived.
    let opened = ("clinic.opened".to_owned(), json!({ "rooms": 3 }));
    assert_eq!(heard(&service, "listener", 1), [opened]);
    let refused = next(&mut events, "plugin:warning", "speaker");
    assert_eq!(
        (&refused["code"], &refused["count"], &refused["topic"]),
        (&json!("EVENTS_REFUSED"), &json!(3), &json!("other")),
        "{refused}"
    );
    let line = json!("[events] publishes = [\"other\"]");
    assert_eq!((&refused["layer"], &refused["remedy"]), (&json!("grant"), &line));
    let refused = next(&mut events, "plugin:warning", "liar");
    assert_eq!(
        (&refused["count"], &refused["topic"]),
        (&json!(1), &json!("plugin:disabled")),
        "{refused}"
    );
    assert_eq!(refused["remedy"], Value::Null, "nobody but the service says that");
    // A publisher does not hear itself, though it listens to everything.
    service.json(["disable", "listener"]);
    let own = heard(&service, "speaker", 1);
    assert!(own[0].0.starts_with("plugin:"), "{own:?}");
}

#[test]
fn the_services_own_events_reach_plugins_without_others_details() {
    let service = Service::start();
    service.enable(&witness("watcher", "\"plugin:enabled\", \"plugin:error\"", ""));
    service.enable(&Package::hostile("other", "well", ""));
    service.install(&Package::hostile("victim", "crash-in-init", ""));
    service.error(["enable", "victim"]);
    let heard = heard(&service, "watcher", 3);
    // The first is its own: it was enabled when that was told.
    let names: Vec<(&str, &Value)> =
        heard.iter().map(|(topic, data)| (topic.as_str(), &data["pluginId"])).collect();
    assert_eq!(
        names,
        [
            ("plugin:enabled", &json!("watcher")),
            ("plugin:enabled", &json!("other")),
            ("plugin:error", &json!("victim")),
        ]
    );
    assert_eq!(heard[2].1["error"], json!({ "code": "INITIALIZATION_FAILED" }));
}

#[test]
fn a_subscription_ends_with_the_disable_and_comes_back_with_the_enable() {
    let service = Service::start();
    service.enable(&witness("clinic", "\"news\"", ""));
    let event = |body: u32| json!({ "name": "news", "body": body });
    assert_eq!(announce(&service, &event(1)).json()["delivered"], json!(["clinic"]));
    service.json(["disable", "clinic"]);
    let missed = announce(&service, &event(2)).json();
    assert_eq!(missed["missed"], json!([{ "id": "clinic", "reason": "disabled" }]));
    service.json(["enable", "clinic"]);
    announce(&service, &event(3)).json();
    assert_eq!(heard(&service, "clinic", 1), [("news".to_owned(), json!(3))]);
    service.json(["uninstall", "clinic"]);
    assert_eq!(announce(&service, &event(4)).json(), json!({ "delivered": [], "missed": [] }));
}

#[test]
fn a_subscriber_that_does_not_read_loses_events_and_holds_up_nobody() {
    const EVENTS: usize = 24;
    let service = Service::start();
    let lines = "[events]\nsubscribes = [\"news\"]\n[limits]\nmemory = \"256M\"";
    service.enable(&Package::witness("reader", lines));
    let sleeper = Package::hostile("sleeper", "hang-in-call", "[events]\nsubscribes = [\"news\"]");
    service.enable(&sleeper);
    service.error(["call", "sleeper", "echo", "--timeout", "100ms"]);
    let mut events = follow(&service);
    let mut admin = service.admin();
    let padding = "x".repeat(1_000_000);
    let mut busy = 0;
    for number in 0..EVENTS {
        let event = json!({ "name": "news", "body": { "number": number, "padding": padding } });
        let reply = admin.post("/v1/events", &event.to_string()).unwrap().json();
        assert!(reply["delivered"].as_array().unwrap().contains(&json!("reader")), "{reply}");
        if let Some(missed) = reply["missed"].get(0) {
            assert_eq!(missed, &json!({ "id": "sleeper", "reason": "busy" }));
            busy += 1;
        }
        // The reader keeps up, so that nothing but its own sleep costs the sleeper an event.
        service.json(["call", "reader", "seen"]);
    }
    assert!(busy > 0, "24 MB fit into a queue");
    let mut told = 0;
    while told < busy {
        let warning = next(&mut events, "plugin:warning", "sleeper");
        assert_eq!(warning["code"], "EVENTS_MISSED", "{warning}");
        told += warning["count"].as_u64().unwrap();
    }
    assert_eq!(told, busy, "every loss is in one count");
    let scrape = Scrape::parse(&service.command(["metrics"]).run().expect(0).stdout).unwrap();
    let missed = [("plugin", "sleeper"), ("reason", "missed")];
    assert_eq!(scrape.value("bulkhead_events_lost_total", &missed), Some(busy as f64));
    let missed = [("plugin", "reader"), ("reason", "missed")];
    assert_eq!(scrape.value("bulkhead_events_lost_total", &missed), Some(0.0));
    let heard = heard(&service, "reader", EVENTS);
    let numbers: Vec<u64> =
        heard.iter().map(|(_, data)| data["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..EVENTS as u64).collect::<Vec<_>>());
    // A stop is still heard, or else done without it.
    assert_eq!(service.json(["disable", "sleeper", "--timeout", "1s"])["state"], "disabled");
}

#[test]
fn what_each_publishes_is_heard_in_its_order() {
    // Together less than the SDK keeps of what nobody has asked for yet.
    const EACH: u32 = 100;
    let service = Service::start();
    service.enable(&witness("listener", "\"news\"", ""));
    for id in ["one", "two"] {
        service.enable(&witness(id, "", "\"news\""));
    }
    let publishing = ["one", "two"].map(|id| {
        let news = json!({ "topic": "news", "data": { "by": id }, "times": EACH });
        service.command(["call", id, "publish", &news.to_string()]).start()
    });
    for running in publishing {
        running.wait().expect(0);
    }
    let heard = heard(&service, "listener", EACH as usize * 2);
    for id in ["one", "two"] {
        let by = heard.iter().filter(|(_, data)| data["by"] == id);
        let numbers: Vec<u64> = by.map(|(_, data)| data["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..u64::from(EACH)).collect::<Vec<_>>(), "of {id}");
    }
}

#[test]
fn an_event_is_heard_at_most_once_also_when_the_supervisor_dies() {
    const BEFORE: u64 = 20;
    const AFTER: u64 = 20;
    let service = Service::start();
    service.enable(&witness("listener", "\"news\"", ""));
    let post = |numbers: std::ops::Range<u64>| {
        let mut admin = service.admin();
        for number in numbers {
            let event = json!({ "name": "news", "body": { "number": number } });
            let reply = admin.post("/v1/events", &event.to_string()).unwrap().json();
            assert_eq!(reply["delivered"], json!(["listener"]), "{reply}");
        }
    };
    post(0..BEFORE);
    let old = service.supervisor();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    // What it has accepted by then is lost with it.
    let deadline = Instant::now() + DEADLINE;
    while service.supervisor() == old {
        assert!(Instant::now() < deadline, "{old} is still there");
    }
    service.wait_for("listener", |plugin| plugin["state"] == "enabled");
    post(BEFORE..BEFORE + AFTER);
    let last = |news: &[(String, Value)]| news.last().unwrap().1["number"].as_u64().unwrap();
    let mut news = heard(&service, "listener", AFTER as usize);
    while last(&news) != BEFORE + AFTER - 1 {
        news = heard(&service, "listener", news.len() + 1);
    }
    let numbers: Vec<u64> = news.iter().map(|(_, it)| it["number"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {numbers:?}");
    let expected: Vec<u64> = (BEFORE..BEFORE + AFTER).collect();
    assert!(numbers.ends_with(&expected), "all that came later: {numbers:?}");
}

#[test]
fn what_waits_for_a_plugin_that_dies_is_lost_with_it() {
    let service = Service::start();
    let lines = "[events]\nsubscribes = [\"news\"]\n[lifecycle.restart]\nbackoff = \"10ms\"";
    let before = service.enable(&Package::witness("listener", lines));
    let before = before["plugin"]["process"]["pid"].clone();
    let pid = Pid::from_raw(i32::try_from(before.as_i64().unwrap()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let event = |number: u32| json!({ "name": "news", "body": number });
    for number in 0..3 {
        assert_eq!(announce(&service, &event(number)).json()["delivered"], json!(["listener"]));
    }
    let mut events = follow(&service);
    kill(pid, Signal::SIGKILL).unwrap();
    next(&mut events, "plugin:error", "listener");
    service.wait_for("listener", |plugin| {
        plugin["state"] == "enabled" && plugin["process"]["pid"] != before
    });
    assert_eq!(announce(&service, &event(3)).json()["delivered"], json!(["listener"]));
    assert_eq!(heard(&service, "listener", 1), [("news".to_owned(), json!(3))]);
}

#[test]
fn what_plugins_use_is_told_and_not_kept() {
    let service = Service::with("usage_interval = \"100ms\"");
    service.enable(&witness("clinic", "", ""));
    let mut events = follow(&service);
    let first = next(&mut events, "plugin:resource:usage", "clinic");
    let metrics = first["metrics"].as_object().unwrap();
    for key in ["memory", "cpu", "storage", "network", "pids"] {
        assert!(metrics.contains_key(key), "no {key}: {first}");
    }
    assert_eq!(first["sequence"], Value::Null, "{first}");
    assert!(metrics["storage"]["stateBytes"].is_u64(), "{first}");
    if bulkhead_tests::lane::layer_state("memory") == "enforced" {
        assert!(metrics["memory"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{first}");
    }
    if bulkhead_tests::lane::layer_state("net-namespace") == "enforced" {
        // A namespace of its own where nothing is up.
        let nothing = json!({ "receivedBytes": 0, "sentBytes": 0 });
        assert_eq!(metrics["network"], nothing, "{first}");
    }
    let second = next(&mut events, "plugin:resource:usage", "clinic");
    if let Some(cpu) = second["metrics"]["cpu"].as_object() {
        assert!(cpu["percent"].as_f64().is_some_and(|percent| percent >= 0.0), "{second}");
        assert!(cpu["usec"].as_u64() >= first["metrics"]["cpu"]["usec"].as_u64(), "{second}");
    }
    service.json(["disable", "clinic"]);
    next(&mut events, "plugin:disabled", "clinic");
    let kept = service.command(["events", "--json"]).run().expect(0).stdout;
    assert!(kept.contains("plugin:disabled") && !kept.contains("plugin:resource:usage"), "{kept}");
}

/// The pair of examples: what the provider tells empties the scheduler's cache.
#[test]
fn a_handler_hears_what_another_plugin_tells() {
    let service = Service::start();
    for id in ["appointments", "appointment-scheduler"] {
        let directory = plugin::example(service.directory(), id);
        service.json(["install".as_ref(), directory.as_os_str(), "--yes".as_ref()]);
        service.json(["enable", id]);
    }
    let booked = || {
        let agenda = r#"{"date":"2027-03-15"}"#;
        let agenda = service.json(["call", "appointment-scheduler", "agenda", agenda]);
        agenda["appointments"].as_array().unwrap().len()
    };
    assert_eq!(booked(), 0);
    let patient = r#"{"ndjson":"{\"resourceType\":\"Patient\",\"id\":\"p1\"}\n"}"#;
    service.json(["call", "appointments", "import", patient]);
    let create = json!({ "appointment": {
        "resourceType": "Appointment",
        "status": "booked",
        "start": "2027-03-15T14:00:00-04:00",
        "end": "2027-03-15T15:00:00-04:00",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    }});
    service.json(["call", "appointments", "create", &create.to_string()]);
    // The news is handled beside the calls: one of them sees it.
    let until = Instant::now() + DEADLINE;
    while booked() != 1 {
        assert!(Instant::now() < until, "the agenda is that of before");
    }

    let described = Program::new(program::path("appointment-scheduler")).arg("--describe").run();
    let described: Value = serde_json::from_str(&described.expect(0).stdout).unwrap();
    assert_eq!(described["events"], json!(["appointments.changed"]));
}

#[test]
fn a_handler_that_would_hear_nothing_fails_the_start() {
    let service = Service::start();
    let directory = plugin::example(service.directory(), "appointments");
    service.json(["install".as_ref(), directory.as_os_str(), "--yes".as_ref()]);
    service.json(["enable", "appointments"]);
    let directory = plugin::example(service.directory(), "appointment-scheduler");
    let path = directory.join("plugin.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    assert!(manifest.contains("\"appointments.changed\""));
    std::fs::write(&path, manifest.replace("\"appointments.changed\"", "\"other.*\"")).unwrap();
    service.json(["install".as_ref(), directory.as_os_str(), "--yes".as_ref()]);
    let error = service.error(["enable", "appointment-scheduler"]);
    assert_eq!(error["code"], "INITIALIZATION_FAILED");
    assert_eq!(error["details"]["pluginCode"], "NOT_SUBSCRIBED");
    assert!(error["message"].as_str().unwrap().contains("appointments.changed"), "{error}");
}

/// A number that the journal has not reached is of another one, before the store was made anew.
#[test]
fn a_number_beyond_the_newest_hides_nothing() {
    let service = Service::start();
    service.install(&Package::hostile("victim", "well", ""));
    let since = |number: &str| {
        service.command(["events", "--json", "--since", number]).run().expect(0).stdout
    };
    let all = since("0");
    assert!(all.lines().count() >= 2, "{all}");
    assert_eq!(since("99999999999"), all);
    let newest = all.lines().count().to_string();
    assert_eq!(since(&newest), "", "the newest itself is one that it has");
}
