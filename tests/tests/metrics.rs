//! What Prometheus is shown: in its format to the letter, and true.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::exposition::Scrape;
use bulkhead_tests::package::Package;
use bulkhead_tests::plugin;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const OFTEN: &str = "usage_interval = \"200ms\"";

fn scrape(service: &Service) -> Scrape {
    let text = service.command(["metrics"]).run().expect(0).stdout;
    Scrape::parse(&text).unwrap_or_else(|fault| panic!("{fault} in\n{text}"))
}

/// The first scrape that is as wanted.
fn scrape_until(service: &Service, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = scrape(service);
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {found:#?}");
    }
}

#[test]
fn the_service_is_shown_in_the_format_of_prometheus() {
    let service = Service::with(OFTEN);
    let reply = service.admin().ask("GET", "/metrics", "").unwrap();
    assert_eq!(reply.media_type, "text/plain; version=0.0.4; charset=utf-8");
    service.json(["ls"]);
    service.json(["ls"]);
    service.error(["inspect", "absent"]);
    service.install(&Package::witness("idle", ""));
    let found = scrape_until(&service, |it| it.value("bulkhead_events_total", &[]) >= Some(2.0));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(found.value("bulkhead_build_info", &version), Some(1.0));
    assert_eq!(found.value("bulkhead_supervisor_starts_total", &[]), Some(1.0));
    assert_eq!(found.value("bulkhead_plugins", &[("state", "disabled")]), Some(1.0));
    assert_eq!(found.value("bulkhead_plugins", &[("state", "enabled")]), Some(0.0));
    assert!(found.value("bulkhead_audit_rows_total", &[]) >= Some(2.0));
    assert!(found.value("bulkhead_store_bytes", &[]) > Some(0.0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let started = found.value("bulkhead_start_time_seconds", &[]).unwrap();
    let age = now.as_secs_f64() - started;
    assert!((-1.0..3600.0).contains(&age), "started {age} s ago");
    let requests = |method: &str, route: &str, status: &str| {
        let labels = [("method", method), ("route", route), ("status", status)];
        found.value("bulkhead_admin_requests_total", &labels)
    };
    assert_eq!(requests("GET", "/v1/plugins", "200"), Some(2.0));
    assert_eq!(requests("GET", "/v1/plugins/{id}", "404"), Some(1.0));
    assert_eq!(requests("POST", "/v1/plugins", "201"), Some(1.0));
    // Nothing runs, so nothing is known of what it uses.
    assert_eq!(found.value("bulkhead_cpu_seconds_total", &[("plugin", "idle")]), None);
    assert_eq!(
        found.value("bulkhead_state", &[("plugin", "idle"), ("state", "disabled")]),
        Some(1.0)
    );

    let supervisor = Pid::from_raw(service.supervisor());
    kill(supervisor, Signal::SIGKILL).unwrap();
    let mut again = None;
    let deadline = Instant::now() + DEADLINE;
    while again.is_none() && Instant::now() < deadline {
        let outcome = service.command(["metrics"]).run();
        again = Scrape::parse(&outcome.stdout)
            .ok()
            .filter(|it| it.value("bulkhead_supervisor_starts_total", &[]) == Some(2.0));
    }
    assert!(again.is_some(), "the second supervisor is not counted");
}

#[test]
fn a_path_that_nobody_has_made_no_series_of_its_own() {
    let service = Service::start();
    let mut admin = service.admin();
    for path in ["/nothing", "/nothing/else", "/v1/plugins/a/b/c"] {
        assert_eq!(admin.ask("GET", path, "").unwrap().status, 404);
    }
    let found = scrape(&service);
    let labels = [("route", "none"), ("status", "404")];
    assert_eq!(found.value("bulkhead_admin_requests_total", &labels), Some(3.0));
}

#[test]
fn calls_are_counted_by_their_outcome() {
    let service = Service::with(OFTEN);
    let provider = plugin::example(service.directory(), "appointments");
    let scheduler = plugin::example(service.directory(), "appointment-scheduler");
    service.json(["install".as_ref(), provider.as_os_str(), "--yes".as_ref()]);
    let grant = "--grant=read:appointments";
    service.json(["install".as_ref(), scheduler.as_os_str(), grant.as_ref()]);
    let conflicts = ["call", "appointment-scheduler", "conflicts", "{}"];
    assert_eq!(service.error(conflicts)["code"], "CONFLICT");
    service.json(["enable", "appointment-scheduler"]);
    let before = scrape(&service);
    for _ in 0..3 {
        service.json(conflicts);
    }
    service.json(["call", "appointment-scheduler", "scheduling/conflicts", "{}"]);
    let book = json!({ "patient": "p", "practitioner": "dr-lee", "start": "2027-03-15T10:00" });
    let book = ["call", "appointment-scheduler", "book", &book.to_string()];
    assert_eq!(service.error(book)["code"], "PERMISSION_DENIED");
    service.error(["call", "appointment-scheduler", "no-such", "{}"]);
    service.error(["call", "appointment-scheduler", "none-either", "{}"]);
    let found = scrape_until(&service, |found| {
        found.value("bulkhead_pids_limit", &[("plugin", "appointments")]) == Some(8.0)
    });
    let calls = |plugin: &str, method: &str, outcome: &str| {
        let labels = [("plugin", plugin), ("method", method), ("outcome", outcome)];
        found.value("bulkhead_calls_total", &labels)
    };
    assert_eq!(calls("appointment-scheduler", "conflicts", "ok"), Some(4.0));
    assert_eq!(calls("appointment-scheduler", "conflicts", "unavailable"), Some(1.0));
    assert_eq!(calls("appointment-scheduler", "other", "failed"), Some(2.0));
    // It passes on that it was refused: its own call failed, the one that it made was refused.
    assert_eq!(calls("appointment-scheduler", "book", "failed"), Some(1.0));
    let labels = [("plugin", "appointments"), ("outcome", "refused")];
    let refused = found.all("bulkhead_calls_total", &labels);
    let refused: Vec<f64> = refused.iter().map(|series| series.value).collect();
    assert_eq!(refused, [1.0]);
    let labels = [("plugin", "appointment-scheduler"), ("kind", "call")];
    assert_eq!(found.value("bulkhead_refusals_total", &labels), Some(1.0));
    let labels = [("plugin", "appointment-scheduler"), ("method", "conflicts")];
    let count = found.value("bulkhead_call_duration_seconds_count", &labels);
    assert_eq!(count, Some(4.0), "the one that found it disabled took none of its time");
    assert!(found.value("bulkhead_call_duration_seconds_sum", &labels) > Some(0.0));
    assert!(before.value("bulkhead_call_duration_seconds_count", &labels).is_none());

    // How its cache of agendas fares is measured without its doing.
    let agenda = ["call", "appointment-scheduler", "agenda", "{\"date\": \"2027-03-15\"}"];
    assert_eq!(service.json(agenda), service.json(agenda));
    let cache = |found: &Scrape, what: &str| {
        let name = format!("bulkhead_plugin_sdk_cache_{what}");
        found.value(&name, &[("plugin", "appointment-scheduler")])
    };
    let found = scrape_until(&service, |found| cache(found, "hits_total") >= Some(1.0));
    assert_eq!(
        (cache(&found, "hits_total"), cache(&found, "misses_total")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(cache(&found, "entries"), Some(1.0));

    // No counter goes back, and nothing of it is left.
    let later = scrape(&service);
    for name in found.names().filter(|name| name.ends_with("_total")) {
        for series in found.all(name, &[]) {
            let labels: Vec<(&str, &str)> =
                series.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert!(later.value(name, &labels) >= Some(series.value), "{series:?} went back");
        }
    }
    service.json(["uninstall", "appointment-scheduler", "--force"]);
    let left = scrape(&service);
    for name in later.names() {
        for suffix in ["", "_bucket"] {
            let series =
                left.all(&format!("{name}{suffix}"), &[("plugin", "appointment-scheduler")]);
            assert!(series.is_empty(), "{series:?}");
        }
    }
}

#[test]
fn what_a_plugin_uses_and_how_it_dies_is_shown() {
    let service = Service::with(OFTEN);
    let lines = "[limits]\nmemory = \"32M\"\nstorage = \"2M\"\ncpu = \"50%\"\n\
                 [lifecycle.restart]\npolicy = \"on-failure\"\nbackoff = \"10ms\"";
    let enabled = service.enable(&Package::witness("keeper", lines));
    let pid = enabled["plugin"]["process"]["pid"].as_i64().unwrap();
    service.json(["call", "keeper", "set-state", "{\"a\":1}"]);
    let of = [("plugin", "keeper")];
    let state = [("plugin", "keeper"), ("kind", "state")];
    let found =
        scrape_until(&service, |it| it.value("bulkhead_storage_bytes", &state) >= Some(8.0));
    assert_eq!(found.value("bulkhead_memory_limit_bytes", &of), Some(f64::from(32 << 20)));
    assert_eq!(found.value("bulkhead_storage_limit_bytes", &of), Some(f64::from(2 << 20)));
    assert_eq!(found.value("bulkhead_cpu_limit_cores", &of), Some(0.5));
    // What cannot be observed here is absent; what inspect knows is there.
    let usage = &service.json(["inspect", "keeper"])["usage"];
    for (name, key) in [
        ("bulkhead_memory_bytes", "memoryBytes"),
        ("bulkhead_cpu_seconds_total", "cpuUsec"),
        ("bulkhead_pids", "pids"),
    ] {
        let known = !usage[key].is_null();
        assert_eq!(found.value(name, &of).is_some(), known, "{name}: {usage}");
    }
    assert_eq!(found.value("bulkhead_restarts_total", &of), Some(0.0));
    let deaths = |found: &Scrape| -> Vec<f64> {
        let all = found.all("bulkhead_deaths_total", &of);
        all.iter().map(|series| series.value).filter(|count| *count > 0.0).collect()
    };
    assert_eq!(found.all("bulkhead_deaths_total", &of).len(), 8, "each reason, none yet");
    assert_eq!(deaths(&found), [0.0; 0]);

    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    service.wait_for("keeper", |plugin| {
        plugin["state"] == "enabled" && plugin["process"]["pid"] != json!(pid)
    });
    let found = scrape(&service);
    assert_eq!(deaths(&found), [1.0]);
    assert_eq!(found.value("bulkhead_restarts_total", &of), Some(1.0));
    service.json(["disable", "keeper"]);
    let found = scrape(&service);
    assert_eq!(deaths(&found), [1.0], "a stop is no death");
    assert_eq!(found.value("bulkhead_cpu_seconds_total", &of), None, "it does not run");
    assert!(found.value("bulkhead_storage_bytes", &state).is_some(), "what it keeps is there");
}

#[test]
fn what_is_written_and_lost_is_counted() {
    let service = Service::with(OFTEN);
    let speaks = "[events]\npublishes = [\"a\"]\nsubscribes = [\"none\"]";
    service.enable(&Package::witness("speaker", speaks));
    let news = json!({ "topic": "other", "data": 0, "times": 3 });
    service.command(["call", "speaker", "publish", &news.to_string()]).run().expect(0);
    let found = scrape(&service);
    let refused = [("plugin", "speaker"), ("reason", "refused")];
    assert_eq!(found.value("bulkhead_events_lost_total", &refused), Some(3.0));
    let lines = service.command(["logs", "speaker", "-n", "1000", "--json"]).run().expect(0).stdout;
    let found = scrape(&service);
    let counted: f64 = found
        .all("bulkhead_log_lines_total", &[("plugin", "speaker")])
        .iter()
        .map(|it| it.value)
        .sum();
    assert!(counted >= lines.lines().count() as f64, "{counted} of {lines}");
    assert_eq!(found.value("bulkhead_log_lost_bytes_total", &[("plugin", "speaker")]), Some(0.0));
}

#[test]
fn what_a_plugin_measures_itself_is_shown_while_it_runs() {
    let service = Service::with(OFTEN);
    let enabled = service.enable(&Package::witness("meter", ""));
    let measure = |name: &str, label: &str, value: f64| {
        let measurement = json!({ "name": name, "label": label, "value": value });
        service.command(["call", "meter", "measure", &measurement.to_string()]).run().expect(0);
    };
    measure("made_total", "a\"b\\\n", 2.0);
    measure("made_total", "a\"b\\\n", 1.0);
    measure("made_total", "c", 5.0);
    measure("level", "", -1.5);
    measure("wait_seconds", "x", 0.25);
    measure("wait_seconds", "x", 7.0);
    let last = [("plugin", "meter"), ("of", "x")];
    let count = "bulkhead_plugin_wait_seconds_count";
    let found = scrape_until(&service, |it| it.value(count, &last) == Some(2.0));
    let made = |label: &str| {
        found.value("bulkhead_plugin_made_total", &[("plugin", "meter"), ("of", label)])
    };
    assert_eq!((made("a\"b\\\n"), made("c")), (Some(3.0), Some(5.0)));
    assert_eq!(found.value("bulkhead_plugin_level", &[("of", "")]), Some(-1.5));
    let below = [("plugin", "meter"), ("of", "x"), ("le", "0.5")];
    assert_eq!(found.value("bulkhead_plugin_wait_seconds_bucket", &below), Some(1.0));
    let of = [("plugin", "meter")];
    assert_eq!(found.value("bulkhead_metrics_dropped_total", &of), Some(0.0));

    // A supervisor that starts anew is told all of it, by the same process.
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    service.wait_for("meter", |plugin| plugin["state"] == "enabled");
    assert_eq!(
        service.json(["inspect", "meter"])["process"]["pid"],
        enabled["plugin"]["process"]["pid"]
    );
    scrape_until(&service, |it| it.value(count, &last) == Some(2.0));

    // Beyond the bounds it is dropped, counted and warned of once.
    measure("Not a name", "", 1.0);
    measure("worse-", "", 1.0);
    scrape_until(&service, |it| it.value("bulkhead_metrics_dropped_total", &of) == Some(2.0));
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    assert_eq!(events.matches("METRICS_DROPPED").count(), 1, "{events}");

    service.json(["disable", "meter"]);
    let found = scrape(&service);
    assert!(found.names().all(|name| !name.starts_with("bulkhead_plugin_")), "{found:#?}");
    service.json(["uninstall", "meter"]);
    let found = scrape(&service);
    assert!(found.names().all(|name| found.all(name, &of).is_empty()), "{found:#?}");
}
