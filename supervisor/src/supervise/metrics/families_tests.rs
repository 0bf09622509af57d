//! Every family there can be, held against what names them: the guide, the dashboard, the alerts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::counts::Outcome;
use super::super::sample::ServiceSample;
use super::super::service_families::{self, Launched};
use super::super::{Metrics, series};
use super::*;
use crate::supervise::plugin::Kept;
use crate::supervise::spans::SpanCounts;
use crate::supervise::store::Extent;
use crate::supervise::usage::{LimitEvents, Stall, Stalls, Usage};

const GUIDE: &str = include_str!("../../../../docs/monitoring.md");
const DASHBOARD: &str = include_str!("../../../../packaging/grafana-dashboard.json");
const RULES: &str = include_str!("../../../../packaging/prometheus-rules.yml");

/// A scrape of a machine that can observe everything, where everything has happened.
fn everything() -> String {
    let store = Some(Extent { events: 1, audit_rows: 1, bytes: 1 });
    let service = ServiceSample { time: 1.0, store };
    let mut known = Known { service, ..Known::default() };
    known.requests.insert(("GET", "/metrics".to_owned(), 200), 1);
    let id = "a".parse().unwrap();
    known.measured(&id, bulkhead_ipc_protocol::metrics::MetricsPush::default());
    let mut counts = Counts { oom_kills: 1, ..Counts::default() };
    counts.called("book", Outcome::Ok, Duration::from_millis(1));
    let one = Some(1);
    let stall = Some(Stall { avg10: 1.0, total_usec: 1 });
    let process = ProcessSample {
        generation: 1,
        usage: Usage {
            memory_bytes: one,
            memory_peak_bytes: one,
            memory_working_set_bytes: one,
            cpu_usec: one,
            pids: one,
            pids_peak: one,
            io_read_bytes: one,
            io_written_bytes: one,
            io_read_operations: one,
            io_write_operations: one,
        },
        limit_events: LimitEvents {
            periods: one,
            throttled_periods: one,
            throttled_usec: one,
            memory_high: one,
            memory_max: one,
            oom: one,
            oom_kills: one,
            pids_refused: one,
        },
        stalls: Stalls { cpu: stall, memory: stall, io: stall },
        network: Some((1, 1)),
    };
    let sample = Sample { process: Some(process), kept: Some(Kept::default()) };
    let limits = Limits::default();
    let seen = Seen {
        id: "a",
        version: "1.0.0".to_owned(),
        state: "enabled",
        enabled: true,
        limits: &limits,
        exposure: Score::default(),
        process: Some(process),
        sample: Some(&sample),
        counts: Some(&counts),
        circuit: "closed",
        logs: LogCounts::default(),
    };
    let mut out = Exposition::default();
    service_families::write(&mut out, &known, &Launched::of_test(), ["enabled"].into_iter());
    service_families::spans(&mut out, Some(SpanCounts::default()));
    families(&mut out, &[seen]);
    series::write(&mut out, &known, |_| true);
    out.text()
}

/// The families, and the series of histograms by what else they are called.
fn families_shown() -> BTreeSet<String> {
    let text = everything();
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    heads.map(|head| head.split(' ').next().unwrap().to_owned()).collect()
}

/// All words of a text that name a family.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // Those of plugins, among them the SDK's, are not ours.
    let ours = |word: &&str| word.starts_with("bulkhead_") && !word.starts_with("bulkhead_plugin_");
    let names = words.filter(ours);
    let family = |word: &str| {
        let histogram = "bulkhead_call_duration_seconds";
        if word.starts_with(histogram) { histogram.to_owned() } else { word.to_owned() }
    };
    names.map(family).collect()
}

/// The expressions of the dashboard's panels and variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "expr" || key == "definition" => {
                        found.push(text.clone());
                    }
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let mut found = Vec::new();
    expressions(&dashboard["panels"], &mut found);
    assert!(found.len() >= 20, "the panels have moved: this test must follow them");
    expressions(&dashboard["templating"], &mut found);
    let shown = families_shown();
    for expression in &found {
        let names = named(expression);
        assert!(!names.is_empty(), "no metric: {expression}");
        let unknown: Vec<_> = names.difference(&shown).collect();
        assert!(unknown.is_empty(), "there is no {unknown:?}: {expression}");
    }
    let ids: Vec<_> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64()).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "a panel's id is given twice");
}

#[test]
fn the_alerts_go_by_what_there_is() {
    let shown = families_shown();
    let expressions: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim_start().strip_prefix("expr: ")).collect();
    let alerts = RULES.matches("- alert: ").count();
    assert!(alerts >= 8);
    assert_eq!(alerts, expressions.len(), "each alert has an expression on one line");
    assert_eq!(alerts, RULES.matches("severity: ").count());
    assert_eq!(alerts, RULES.matches("summary: ").count());
    for expression in expressions {
        let names = named(expression);
        assert!(!names.is_empty(), "no metric: {expression}");
        let unknown: Vec<_> = names.difference(&shown).collect();
        assert!(unknown.is_empty(), "there is no {unknown:?}: {expression}");
    }
}

#[test]
fn the_guide_names_all_of_them_and_no_other() {
    let (shown, told) = (families_shown(), named(GUIDE));
    let untold: Vec<_> = shown.difference(&told).collect();
    assert!(untold.is_empty(), "docs/monitoring.md does not name {untold:?}");
    let unknown: Vec<_> = told.difference(&shown).collect();
    assert!(unknown.is_empty(), "docs/monitoring.md names {unknown:?}, which there is not");
}

#[test]
fn what_is_not_known_is_absent() {
    let limits = Limits::default();
    let seen = Seen {
        id: "a",
        version: "1.0.0".to_owned(),
        state: "disabled",
        enabled: false,
        limits: &limits,
        exposure: Score::default(),
        process: None,
        sample: None,
        counts: None,
        circuit: "closed",
        logs: LogCounts::default(),
    };
    let mut out = Exposition::default();
    families(&mut out, &[seen]);
    let text = out.text();
    for name in ["memory_bytes", "cpu_seconds", "pids ", "storage_bytes", "oom_kills", "network"] {
        assert!(!text.contains(&format!("bulkhead_{name}")), "{name}: {text}");
    }
    assert!(text.contains("bulkhead_deaths_total{plugin=\"a\",reason=\"signal\"} 0\n"), "{text}");
}

#[test]
fn what_is_forgotten_is_not_shown_and_a_call_that_is_given_up_is_counted() {
    let text = "id = 'a'\nversion = '1.0.0'";
    let manifest = crate::manifest::Manifest::parse(text.as_bytes(), Path::new("plugin.toml"));
    let (metrics, manifest) = (Metrics::default(), std::sync::Arc::new(manifest.unwrap()));
    drop(metrics.call(&manifest, "whatever"));
    let counted = metrics.known().counts[&manifest.id].calls["other"].outcomes().next();
    assert_eq!(counted, Some(("cancelled", 1)));
    metrics.keep_only(std::slice::from_ref(&manifest.id));
    assert_eq!(metrics.known().counts.len(), 1);
    metrics.forget(&manifest.id);
    assert!(metrics.known().counts.is_empty());
    drop(metrics.call(&manifest, "late"));
    metrics.keep_only(&[]);
    assert!(metrics.known().counts.is_empty());
}
