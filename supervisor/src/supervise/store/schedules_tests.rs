use serde_json::json;

use super::*;
use crate::id::Digest;

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

fn key(name: &str) -> ScheduleKey {
    ScheduleKey { plugin: id("a"), name: name.to_owned() }
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-28T{text}Z").parse().unwrap()
}

fn rules(rules: &[(&str, &str)]) -> Vec<(String, String)> {
    rules.iter().map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned())).collect()
}

/// A store with the plugin `a`.
async fn store(directory: &tempfile::TempDir) -> Store {
    let store = Store::open(&directory.path().join("db")).unwrap();
    let row = crate::supervise::store::PluginRow {
        id: id("a"),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(b"a"),
        config: json!({}),
        enabled: true,
        installed_at: "2026-01-01T00:00:00.000Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: None,
    };
    store.put_plugin(row).await.unwrap();
    store
}

fn test(work: impl AsyncFnOnce(Store)) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { work(store(&directory).await).await });
}

#[test]
fn a_schedule_begins_when_it_is_new_and_goes_on_where_it_was() {
    test(async |store| {
        let adopt = async |all: &[(&str, &str)], now| {
            store.adopt_schedules(id("a"), rules(all), at(now)).await.unwrap()
        };
        let first = adopt(&[("m", "0 * * * * UTC"), ("n", "1 * * * * UTC")], "12:00").await;
        assert_eq!(first, [("m".into(), at("12:00")), ("n".into(), at("12:00"))].into());
        store.begin_run(key("m"), Some(at("13:00")), at("13:00:01")).await.unwrap();
        store.begin_run(key("n"), None, at("13:30")).await.unwrap();
        let again = adopt(&[("m", "0 * * * * UTC"), ("n", "1 * * * * UTC")], "15:00").await;
        assert_eq!(again, [("m".into(), at("13:00")), ("n".into(), at("12:00"))].into());
        // Another rule, and one that is gone and comes back.
        let other = adopt(&[("m", "5 * * * * UTC")], "16:00").await;
        assert_eq!(other, [("m".into(), at("16:00"))].into());
        let back = adopt(&[("m", "5 * * * * UTC"), ("n", "1 * * * * UTC")], "17:00").await;
        assert_eq!(back, [("m".into(), at("16:00")), ("n".into(), at("17:00"))].into());
    });
}

#[test]
fn a_run_is_there_from_its_beginning_to_its_end() {
    test(async |store| {
        store.adopt_schedules(id("a"), rules(&[("m", "r")]), at("12:00")).await.unwrap();
        let good = store.begin_run(key("m"), Some(at("13:00")), at("13:00:01")).await.unwrap();
        let bad = store.begin_run(key("m"), None, at("13:30")).await.unwrap();
        let dead = store.begin_run(key("m"), Some(at("14:00")), at("14:00")).await.unwrap();
        store.note_unrun(key("m"), at("16:00"), 2, RunOutcome::Missed).await.unwrap();
        let end = |code: Option<&str>| RunEnd {
            at: at("13:30:02"),
            duration_ms: 1500,
            code: code.map(str::to_owned),
        };
        store.end_run(good, end(None)).await.unwrap();
        store.end_run(bad, end(Some("TIMEOUT"))).await.unwrap();
        let interrupted = store.interrupt_runs().await.unwrap();
        assert_eq!(interrupted.len(), 1);
        assert_eq!((interrupted[0].0.clone(), interrupted[0].1.number), (id("a"), dead));
        assert_eq!(store.interrupt_runs().await.unwrap(), [], "once");
        let runs = store.runs(id("a")).await.unwrap();
        let outcomes: Vec<_> = runs.iter().map(|run| (run.due, run.outcome, run.count)).collect();
        assert_eq!(
            outcomes,
            [
                (Some(at("16:00")), Some(RunOutcome::Missed), 2),
                (Some(at("14:00")), Some(RunOutcome::Interrupted), 1),
                (None, Some(RunOutcome::Failed), 1),
                (Some(at("13:00")), Some(RunOutcome::Ok), 1),
            ]
        );
        assert_eq!((runs[2].code.as_deref(), runs[2].duration_ms), (Some("TIMEOUT"), Some(1500)));
        assert_eq!((runs[0].started, runs[3].started), (None, Some(at("13:00:01"))));
        let accounted = store.adopt_schedules(id("a"), rules(&[("m", "r")]), at("20:00")).await;
        assert_eq!(accounted.unwrap()["m"], at("16:00"));
    });
}

#[test]
fn the_history_is_bounded_by_number_and_by_age_and_goes_with_the_plugin() {
    test(async |store| {
        let running = store.begin_run(key("m"), None, at("00:00")).await.unwrap();
        for minute in 0..60 {
            let due = at("01:00") + jiff::SignedDuration::from_mins(minute);
            store.note_unrun(key("m"), due, 1, RunOutcome::SkippedOverlap).await.unwrap();
        }
        store.note_unrun(key("n"), at("01:00"), 1, RunOutcome::Missed).await.unwrap();
        let runs = store.runs(id("a")).await.unwrap();
        assert_eq!(runs.len() as i64, KEPT_RUNS + 2, "what runs stays, and so do others'");
        assert_eq!(runs.last().map(|run| run.number), Some(running));
        let before = "2026-11-28T01:30:00.000Z".to_owned();
        assert_eq!(store.prune_runs(before.clone(), 5).await.unwrap(), 5);
        while store.prune_runs(before.clone(), 100).await.unwrap() > 0 {}
        let left: Vec<_> = store.runs(id("a")).await.unwrap().into_iter().map(|r| r.due).collect();
        assert_eq!(left.len(), 32, "{left:?}");
        assert_eq!(left[0], Some(at("01:00")), "the newest of a schedule stays");
        assert_eq!(left.last(), Some(&None), "what runs stays, however long");
        store.remove_plugin(id("a")).await.unwrap();
        assert_eq!(store.runs(id("a")).await.unwrap(), []);
    });
}

#[test]
fn a_machines_seed_stays_and_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seed = |name: &str| {
        let path = directory.path().join(name);
        runtime.block_on(async { Store::open(&path).unwrap().schedule_seed().await.unwrap() })
    };
    assert_eq!(seed("one"), seed("one"));
    assert_ne!(seed("one"), seed("two"));
}
