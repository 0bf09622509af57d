use serde_json::json;

use super::*;
use crate::id::{Digest, PluginId};

/// No quota.
const MAX: u64 = u64::MAX;

fn row(id: &str) -> PluginRow {
    PluginRow {
        id: id.parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        digest: Digest::of(id.as_bytes()),
        config: json!({"defaultDuration": 60}),
        enabled: false,
        installed_at: "2026-01-01T00:00:00Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: None,
    }
}

/// All keys that begin so.
fn all(prefix: &str) -> Part {
    Part { prefix: prefix.to_owned(), after: String::new(), limit: usize::MAX, bytes: usize::MAX }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn what_is_acknowledged_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bulkhead.db");
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        let store = Store::open(&path).unwrap();
        store.put_plugin(row("a")).await.unwrap();
        store.set_enabled(id.clone(), true).await.unwrap();
        assert_eq!(store.set_state(id.clone(), "k".into(), b"1".into(), None, MAX).await, Ok(1));
        assert_eq!(store.set_state(id.clone(), "k".into(), b"2".into(), Some(1), MAX).await, Ok(2));
    });
    block_on(async {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.plugins().await.unwrap(), [PluginRow { enabled: true, ..row("a") }]);
        let entry = store.state(id.clone(), "k".into()).await.unwrap().unwrap();
        assert_eq!(entry, state::Entry { version: 2, value: b"2".to_vec() });
        store.remove_plugin(id.clone()).await.unwrap();
        assert_eq!(store.state(id, "k".into()).await.unwrap(), None, "state goes with the plugin");
    });
}

#[test]
fn a_write_that_expected_another_version_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        let set = |value: &'static str, expected| {
            store.set_state(id.clone(), "k".into(), value.into(), expected, MAX)
        };
        set("new", Some(0)).await.unwrap();
        for expected in [0, 2] {
            let failure = set("other", Some(expected)).await.unwrap_err();
            assert_eq!(failure.code, Code::StateConflict);
            assert_eq!(failure.details, json!({"key": "k", "expected": expected, "found": 1}));
        }
        let failure = store.delete_state(id.clone(), "k".into(), Some(7)).await.unwrap_err();
        assert_eq!(failure.code, Code::StateConflict);
        assert_eq!(store.state(id.clone(), "k".into()).await.unwrap().unwrap().value, b"new");
        assert_eq!(store.delete_state(id.clone(), "k".into(), Some(1)).await, Ok(true));
        assert_eq!(store.delete_state(id.clone(), "k".into(), None).await, Ok(false));
    });
}

#[test]
fn a_failing_job_leaves_its_neighbours_in_the_batch_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        let stranger: PluginId = "stranger".parse().unwrap();
        let jobs = (0..20).map(|n| {
            let owner = if n % 2 == 0 { id.clone() } else { stranger.clone() };
            let store = store.clone();
            async move { store.set_state(owner, format!("k{n:02}"), vec![n], None, MAX).await }
        });
        let results = futures_join(jobs.collect()).await;
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result.is_ok(), n % 2 == 0, "job {n}: {result:?}");
        }
        let keys = store.list_state(id, all("k")).await.unwrap().items;
        assert_eq!(keys.len(), 10);
        assert_eq!(keys[1], ("k02".to_owned(), 1));
    });
}

/// Runs all at once on this thread, so that they meet in one batch.
async fn futures_join<T: 'static>(jobs: Vec<impl Future<Output = T> + 'static>) -> Vec<T> {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let tasks: Vec<_> = jobs.into_iter().map(tokio::task::spawn_local).collect();
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await.unwrap());
            }
            results
        })
        .await
}

#[test]
fn a_prefix_is_taken_literally() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        for key in ["a%", "a_1", "ab", "é1", "é2", "\0nul", "n\0"] {
            store.set_state(id.clone(), key.into(), vec![], None, MAX).await.unwrap();
        }
        let keys = |prefix: &str| {
            let listed = store.list_state(id.clone(), all(prefix));
            async {
                listed.await.unwrap().items.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
            }
        };
        assert_eq!(keys("a%").await, ["a%"]);
        assert_eq!(keys("a_").await, ["a_1"]);
        assert_eq!(keys("é").await, ["é1", "é2"]);
        assert_eq!(keys("").await.len(), 7);
        // For some of SQLite's functions a text ends at a NUL.
        assert_eq!(keys("\0n").await, ["\0nul"]);
        assert_eq!(keys("n\0").await, ["n\0"]);
    });
}

#[test]
fn a_part_is_bounded_and_the_next_goes_on_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        for key in ["a", "b1", "b2", "b3", "c"] {
            store.set_state(id.clone(), key.into(), vec![7; 100], None, MAX).await.unwrap();
        }
        let keys = async |after: &str, limit, bytes| {
            let part = Part { after: after.to_owned(), limit, bytes, ..all("b") };
            let Page { items, more } = store.state_part(id.clone(), part.clone()).await.unwrap();
            let keys: Vec<String> = items.into_iter().map(|(key, _)| key).collect();
            if bytes == usize::MAX {
                let listed = store.list_state(id.clone(), part).await.unwrap();
                let listed: Vec<String> = listed.items.into_iter().map(|(key, _)| key).collect();
                assert_eq!(listed, keys);
            }
            (keys.join(" "), more)
        };
        let (part, most) = (|keys: &str, more| (keys.to_owned(), more), usize::MAX);
        assert_eq!(keys("", most, most).await, part("b1 b2 b3", false));
        assert_eq!(keys("", 2, most).await, part("b1 b2", true));
        assert_eq!(keys("b2", 2, most).await, part("b3", false));
        assert_eq!(keys("a", 3, most).await, part("b1 b2 b3", false), "before all of them");
        assert_eq!(keys("b11", 1, most).await, part("b2", true), "a key that is gone");
        assert_eq!(keys("b3", 9, most).await, part("", false));
        assert_eq!(keys("c", 9, most).await, part("", false));
        assert_eq!(keys("", most, 204).await, part("b1 b2", true));
        assert_eq!(keys("", most, 203).await, part("b1", true));
        assert_eq!(keys("", most, 1).await, part("b1", true), "one is always read");
        assert_eq!(keys("b2", most, 1).await, part("b3", false));
    });
}

#[test]
fn a_number_that_is_beyond_all_is_followed_by_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    block_on(async {
        let row =
            || NewAuditRow { kind: Kind::Single, plugin: None, content: Box::new(str::to_owned) };
        store.append_audit(row()).await.unwrap();
        let told = ("2026-01-01T00:00:00.000Z".to_owned(), "a".to_owned(), None, json!({}));
        store.append_event(told.0, told.1, told.2, told.3, None).await.unwrap();
        let (audited, events) =
            (store.audit_since(0, None, 9).await, store.events_since(0, 9).await);
        assert_eq!((audited.unwrap().len(), events.unwrap().len()), (1, 1));
        for since in [1, i64::MAX as u64 + 1, u64::MAX] {
            assert_eq!(store.audit_since(since, None, 9).await.unwrap(), []);
            assert_eq!(store.audit_since(since, Some("a".parse().unwrap()), 9).await.unwrap(), []);
            assert_eq!(store.events_since(since, 9).await.unwrap(), []);
        }
    });
}

#[test]
fn bad_keys_and_values_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        for key in [String::new(), "k".repeat(513)] {
            let failure = store.set_state(id.clone(), key, vec![], None, MAX).await.unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest);
        }
        store.set_state(id.clone(), "k".repeat(512), vec![0; 1 << 20], None, MAX).await.unwrap();
        let long =
            store.set_state(id, "k".into(), vec![0; (1 << 20) + 1], None, MAX).await.unwrap_err();
        assert_eq!(long.code, Code::ResourceExhausted);
        assert_eq!(long.details["limit"], 1 << 20);
    });
}

#[test]
fn events_are_numbered_and_read_from_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    block_on(async {
        let store = Store::open(&path).unwrap();
        for n in 1..=5 {
            let body = json!({"n": n});
            let appended =
                store.append_event("t".into(), "plugin:x".into(), None, body, None).await;
            assert_eq!(appended, Ok(n));
        }
        let some = store.events_since(2, 2).await.unwrap();
        assert_eq!(some.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(some[0].body, json!({"n": 3}));
    });
    block_on(async {
        let store = Store::open(&path).unwrap();
        let appended =
            store.append_event("t".into(), "plugin:y".into(), None, json!({}), None).await;
        assert_eq!(appended, Ok(6), "the numbers go on after a restart");
    });
}

#[test]
fn a_corrupt_or_newer_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let garbage = vec![0x5a; 8192];
    std::fs::write(&path, &garbage).unwrap();
    let failure = Store::open(&path).err().unwrap();
    assert_eq!(failure.code, Code::StorageFailed);
    assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
    assert_eq!(std::fs::read(&path).unwrap(), garbage);

    let newer = directory.path().join("newer");
    drop(Store::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let failure = Store::open(&newer).err().unwrap();
    assert!(failure.message.contains("version 99"), "{failure}");
}

#[test]
fn state_is_bounded_by_its_quota_and_can_always_shrink() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    block_on(async {
        store.put_plugin(row("a")).await.unwrap();
        let set = |key: &str, bytes: usize, quota: u64| {
            store.set_state(id.clone(), key.into(), vec![0; bytes], None, quota)
        };
        set("k1", 98, 100).await.unwrap();
        let over = set("k2", 0, 100).await.unwrap_err();
        assert_eq!(over.code, Code::ResourceExhausted);
        assert_eq!(over.details, json!({"resource": "state", "limit": 100, "used": 102}));
        assert_eq!(store.state(id.clone(), "k2".into()).await.unwrap(), None, "taken back");
        set("k1", 50, 10).await.expect("less than before, though over a quota made smaller");
        set("k2", 46, 100).await.unwrap();
        set("k3", 1, 100).await.unwrap_err();
        store.delete_state(id.clone(), "k1".into(), None).await.unwrap();
        set("k3", 1, 100).await.unwrap();
    });
}

#[test]
fn old_events_go_by_age_and_by_size_and_the_newest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    block_on(async {
        for n in 1..=40_u64 {
            let time = format!("2026-01-{n:02}T00:00:00.000Z");
            let body = json!({ "text": "x".repeat(89) });
            store.append_event(time, "plugin:x".into(), None, body, None).await.unwrap();
        }
        let first = || async { store.events_since(0, 1).await.unwrap()[0].sequence };
        let day = |n: u64| format!("2026-01-{n:02}T00:00:00.000Z");
        assert_eq!(store.prune_events(day(11), 1 << 20, 4).await, Ok(4), "a piece");
        assert_eq!(store.prune_events(day(11), 1 << 20, 100).await, Ok(6));
        assert_eq!(store.prune_events(day(11), 1 << 20, 100).await, Ok(0));
        assert_eq!(first().await, 11);
        // 30 bodies of 100 bytes are left.
        assert_eq!(store.prune_events(String::new(), 1050, 100).await, Ok(20));
        assert_eq!(first().await, 31);
        assert_eq!(store.prune_events("9".into(), 0, 100).await, Ok(9));
        assert_eq!(first().await, 40, "the numbers go on from it");
        let next = store.append_event("t".into(), "plugin:x".into(), None, json!({}), None).await;
        assert_eq!(next, Ok(41));
    });
}

/// What is wrong with a file is told with a code, and the file stays as it is.
type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_file_is_told_and_left_alone() {
    let made = tempfile::tempdir().unwrap();
    let path = made.path().join("db");
    block_on(async {
        let store = Store::open(&path).unwrap();
        store.put_plugin(row("a")).await.unwrap();
        for n in 0..200 {
            let key = format!("k{n:03}");
            store.set_state("a".parse().unwrap(), key, vec![7; 500], None, MAX).await.unwrap();
        }
    });
    // All of it in one file.
    let whole = Connection::open(&path).unwrap();
    whole.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE").unwrap();
    drop(whole);
    let whole = std::fs::read(&path).unwrap();
    let read_all = |path: &Path| {
        block_on(async {
            let store = Store::open(path)?;
            store.plugins().await?;
            store.list_state("a".parse().unwrap(), all("")).await.map(|keys| keys.items.len())
        })
    };
    let cases: [(&str, Damage); 5] = [
        ("its header", |bytes| bytes[..16].fill(0x20)),
        ("its schema", |bytes| bytes[100..4096].fill(0xa5)),
        ("its pages", |bytes| bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0xff)),
        ("its end", |bytes| bytes.truncate(5000)),
        ("its text", |bytes| *bytes = b"this is no database, but a text of some length".repeat(90)),
    ];
    assert_eq!(read_all(&path), Ok(200), "the control");
    for (what, damage) in cases {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        let damaged = made.path().join("damaged");
        std::fs::write(&damaged, &bytes).unwrap();
        let failure = read_all(&damaged).unwrap_err();
        assert_eq!(failure.code, Code::StorageFailed, "{what}: {failure}");
        assert_eq!(failure.details["path"], damaged.to_str().unwrap(), "{what}");
        assert!(failure.message.contains("left as it is"), "{what}: {failure}");
        let after = std::fs::read(&damaged).unwrap();
        // The header's two bytes that say how it is journalled may change; no more.
        assert_eq!(after.len(), bytes.len(), "{what}");
        let changed = after.iter().zip(&bytes).filter(|(a, b)| a != b).count();
        assert!(changed <= 12, "{what}: {changed} bytes are others");
        for end in ["damaged-wal", "damaged-shm"] {
            let _ = std::fs::remove_file(made.path().join(end));
        }
    }
}

#[test]
fn what_shares_a_commit_with_a_full_disk_is_done_exactly_if_it_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let outcomes = block_on(async {
        let store = Store::open(&path).unwrap();
        store.put_plugin(row("a")).await.unwrap();
        // As on a disk that has room for a few more pages.
        store
            .run(|connection| {
                let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                connection.pragma_update_and_check(None, "max_page_count", pages + 8, |_| Ok(()))
            })
            .await
            .unwrap();
        let id: PluginId = "a".parse().unwrap();
        let mut outcomes = Vec::new();
        for round in 0..8 {
            let name = |what: &str| format!("{what}{round}");
            let large = vec![round; 1 << 20];
            let (before, full, after) = tokio::join!(
                store.put_plugin(row(&name("before"))),
                store.set_state(id.clone(), name("large"), large, None, MAX),
                store.put_plugin(row(&name("after"))),
            );
            let failure = full.unwrap_err();
            assert_eq!(failure.code, Code::StorageFailed);
            assert!(failure.message.contains("free space"), "{failure}");
            outcomes.push((name("before"), before.is_ok()));
            outcomes.push((name("after"), after.is_ok()));
        }
        outcomes
    });
    let store = Store::open(&path).unwrap();
    let there: Vec<String> =
        block_on(store.plugins()).unwrap().into_iter().map(|row| row.id.to_string()).collect();
    for (name, acknowledged) in outcomes {
        assert_eq!(there.contains(&name), acknowledged, "{name}");
    }
}
