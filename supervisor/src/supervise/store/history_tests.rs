use super::*;
use crate::id::{Digest, PluginId};

/// A beginning of a quarter of an hour.
const QUARTER: i64 = 1_767_225_600;

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

async fn installed(store: &Store, name: &str) {
    let row = PluginRow {
        id: id(name),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(b"x"),
        config: serde_json::json!({}),
        enabled: true,
        installed_at: "2026-01-01T00:00:00.000Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: None,
    };
    store.put_plugin(row).await.unwrap();
}

async fn store(directory: &Path) -> Store {
    let store = Store::open(&directory.join("db")).unwrap();
    installed(&store, "a").await;
    store
}

fn used(time: i64) -> Used {
    Used { time, covered_ms: 60_000, ..Used::default() }
}

#[tokio::test]
async fn minutes_are_rolled_up_into_quarters_as_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path()).await;
    let first = Used {
        memory_bytes: Some(100),
        memory_peak_bytes: Some(900),
        cpu_usec: Some(5),
        pids: Some(3),
        storage_bytes: Some(70),
        io_read_bytes: Some(1),
        ..used(QUARTER + 7)
    };
    let second = Used {
        covered_ms: 20_000,
        memory_bytes: Some(500),
        memory_peak_bytes: Some(600),
        cpu_usec: Some(7),
        pids: Some(9),
        storage_bytes: Some(50),
        network_sent_bytes: Some(4),
        ..used(QUARTER + 899)
    };
    let third = Used { cpu_usec: Some(1), ..used(QUARTER + 900) };
    let all = [first, second, third].map(|used| (id("a"), used));
    store.add_usage(all.to_vec()).await.unwrap();
    let minutes = store.usage(id("a"), Step::Minute, 0, 10).await.unwrap();
    let expected = [
        Used { time: QUARTER, ..first },
        Used { time: QUARTER + 840, ..second },
        Used { time: QUARTER + 900, ..third },
    ];
    assert_eq!(minutes, expected);
    let quarters = store.usage(id("a"), Step::Quarter, 0, 10).await.unwrap();
    let rolled = Used {
        time: QUARTER,
        covered_ms: 80_000,
        memory_bytes: Some(200),
        memory_peak_bytes: Some(900),
        cpu_usec: Some(12),
        pids: Some(9),
        storage_bytes: Some(50),
        io_read_bytes: Some(1),
        network_sent_bytes: Some(4),
        ..Used::default()
    };
    assert_eq!(quarters, [rolled, Used { time: QUARTER + 900, ..third }]);
    // What a second supervisor saw of the same minute is added to it, also where nothing is covered.
    let again = Used { memory_bytes: Some(7), cpu_usec: Some(2), covered_ms: 0, ..used(QUARTER) };
    store.add_usage(vec![(id("a"), again)]).await.unwrap();
    let minutes = store.usage(id("a"), Step::Minute, QUARTER, 10).await.unwrap();
    assert_eq!(minutes[0], Used { time: QUARTER, cpu_usec: Some(7), ..first });
}

#[tokio::test]
async fn a_part_of_the_history_is_the_newest_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path()).await;
    let minutes = (0..5).map(|minute| (id("a"), used(QUARTER + minute * 60)));
    store.add_usage(minutes.collect()).await.unwrap();
    let times = |rows: Vec<Used>| -> Vec<i64> {
        rows.iter().map(|row| (row.time - QUARTER) / 60).collect()
    };
    let since = store.usage(id("a"), Step::Minute, QUARTER + 120, 10).await.unwrap();
    assert_eq!(times(since), [2, 3, 4]);
    assert_eq!(times(store.usage(id("a"), Step::Minute, 0, 2).await.unwrap()), [3, 4]);
    assert_eq!(store.usage(id("b"), Step::Minute, 0, 2).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_old_goes_and_what_is_uninstalled_has_no_history() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path()).await;
    installed(&store, "b").await;
    let of = |name: &str, minute: i64| (id(name), used(QUARTER + minute * 60));
    let all = vec![of("a", 0), of("b", 1), of("a", 2), of("b", 20), of("absent", 3)];
    store.add_usage(all).await.unwrap();
    let prune = |limit| store.prune_usage(Step::Minute, QUARTER + 120, limit);
    assert_eq!((prune(1).await, prune(9).await, prune(9).await), (Ok(1), Ok(1), Ok(0)));
    let count = async |name| store.usage(id(name), Step::Minute, 0, 10).await.unwrap().len();
    assert_eq!((count("a").await, count("b").await, count("absent").await), (1, 1, 0));
    let quarters = store.usage(id("b"), Step::Quarter, 0, 10).await.unwrap();
    assert_eq!(quarters.len(), 2, "the minutes went, the quarters did not");
    store.remove_plugin(id("b")).await.unwrap();
    installed(&store, "b").await;
    assert_eq!(count("b").await, 0);
}
