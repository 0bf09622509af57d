//! What the check finds in a store that somebody has written to.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::verification::{Broken, Reason, Verifier};
use super::*;
use crate::failure::Code;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

/// A store in a directory of its own.
struct Kept {
    directory: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("db")
    }

    fn store(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }

    /// Writes to it as whoever has the file can.
    fn execute(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn verify(&self, known: Option<Head>) -> Result<Verified, Broken> {
        verify(&self.path(), known)
    }
}

fn verify(path: &Path, known: Option<Head>) -> Result<Verified, Broken> {
    let store = Store::open(path).unwrap();
    let mut verifier = Verifier::new(known, None);
    loop {
        // A small page, so that each test has several.
        let rows = block_on(store.audit_since(verifier.after(), None, 3)).unwrap();
        if rows.is_empty() {
            return verifier.end();
        }
        for row in rows {
            verifier.row(&row)?;
        }
    }
}

fn entry(plugin: &str, n: u64) -> Entry {
    Entry::new(Principal::user(0, None), Action::Enable, Outcome::Done)
        .about(&id(plugin))
        .with("n", n)
}

/// Ten rows: of plugin a, or b where the number is even.
async fn ten(store: &Store) -> Head {
    let audit = Audit::new(store.clone());
    let mut head = Head::START;
    for n in 1..=10 {
        head = audit.record(entry(if n % 2 == 0 { "b" } else { "a" }, n)).await.unwrap();
        assert_eq!(head.sequence, n);
    }
    head
}

fn broken_at(sequence: u64, reason: Reason) -> Result<Verified, Broken> {
    Err(Broken { sequence, reason })
}

#[test]
fn an_untouched_chain_is_whole() {
    let kept = Kept::new();
    let head = block_on(async { ten(&kept.store()).await });
    let whole = kept.verify(Some(head)).unwrap();
    assert_eq!((whole.rows, whole.removed, whole.first, whole.head), (10, 0, 1, head));
    // It goes on after the store was opened again.
    block_on(async { Audit::new(kept.store()).record(entry("a", 11)).await }).unwrap();
    assert_eq!(kept.verify(Some(head)).unwrap().rows, 11);
    assert_eq!(verify(&Kept::new().path(), None).unwrap().rows, 0, "none is whole too");
}

#[test]
fn whatever_is_done_to_the_rows_is_found_and_named() {
    let cases: &[(&str, &str, u64, Reason)] = &[
        (
            "a content is changed",
            "UPDATE audit SET content = replace(content, '\"n\":4', '\"n\":5') WHERE sequence = 4",
            4,
            Reason::Altered,
        ),
        (
            "a content and its hash are another row's",
            "UPDATE audit SET (content, content_hash) = (SELECT content, content_hash FROM audit
             WHERE sequence = 7) WHERE sequence = 5",
            5,
            Reason::Altered,
        ),
        (
            "a plugin is another",
            "UPDATE audit SET plugin = 'a' WHERE sequence = 6",
            6,
            Reason::Altered,
        ),
        ("no plugin", "UPDATE audit SET plugin = 'No Id' WHERE sequence = 6", 6, Reason::Altered),
        (
            "a hash is another",
            "UPDATE audit SET hash = randomblob(32) WHERE sequence = 3",
            3,
            Reason::Altered,
        ),
        (
            "a hash is none",
            "UPDATE audit SET content_hash = x'00' WHERE sequence = 3",
            3,
            Reason::Altered,
        ),
        ("a row is removed", "DELETE FROM audit WHERE sequence = 6", 6, Reason::Missing),
        (
            "a row is removed and the rest moved up",
            "DELETE FROM audit WHERE sequence = 6;
             UPDATE audit SET sequence = sequence - 1 WHERE sequence > 6",
            6,
            Reason::Moved,
        ),
        ("the first is removed", "DELETE FROM audit WHERE sequence = 1", 1, Reason::Missing),
        ("the beginning is removed", "DELETE FROM audit WHERE sequence < 4", 3, Reason::Missing),
        (
            "two rows are exchanged",
            "UPDATE audit SET sequence = -1 WHERE sequence = 4;
             UPDATE audit SET sequence = 4 WHERE sequence = 5;
             UPDATE audit SET sequence = 5 WHERE sequence = -1",
            4,
            Reason::Moved,
        ),
        (
            "a row is added in between",
            "UPDATE audit SET sequence = -sequence WHERE sequence > 4;
             UPDATE audit SET sequence = 1 - sequence WHERE sequence < 0;
             INSERT INTO audit SELECT 5, plugin, content, content_hash, previous, hash FROM audit
             WHERE sequence = 2",
            5,
            Reason::Moved,
        ),
        (
            "a row is added at the end",
            "INSERT INTO audit SELECT 11, plugin, content, content_hash, previous, hash FROM audit
             WHERE sequence = 10",
            11,
            Reason::Moved,
        ),
        ("the end is cut off", "DELETE FROM audit WHERE sequence > 8", 9, Reason::Truncated),
        ("all is cut off", "DELETE FROM audit", 1, Reason::Truncated),
        (
            "a content is removed",
            "UPDATE audit SET content = NULL WHERE sequence = 8",
            8,
            Reason::Erased,
        ),
        (
            "a row of no plugin is emptied",
            "UPDATE audit SET content = NULL, plugin = NULL WHERE sequence = 8",
            8,
            Reason::Altered,
        ),
    ];
    for (what, sql, sequence, reason) in cases {
        let kept = Kept::new();
        let head = block_on(async { ten(&kept.store()).await });
        assert!(kept.verify(Some(head)).is_ok(), "{what}: the control");
        kept.execute(sql);
        assert_eq!(kept.verify(Some(head)), broken_at(*sequence, *reason), "{what}");
    }
}

#[test]
fn a_chain_that_was_written_anew_is_found_by_whoever_knows_a_place_of_it() {
    let (kept, other) = (Kept::new(), Kept::new());
    let head = block_on(async { ten(&kept.store()).await });
    block_on(async { ten(&other.store()).await });
    assert!(other.verify(None).is_ok(), "by itself it is whole");
    assert_eq!(other.verify(Some(head)), broken_at(10, Reason::Rewritten));
    block_on(async { Audit::new(other.store()).record(entry("a", 11)).await }).unwrap();
    assert_eq!(other.verify(Some(head)), broken_at(10, Reason::Rewritten), "however long it is");
}

#[test]
fn the_content_of_an_uninstalled_plugin_goes_and_the_chain_stays_whole() {
    let kept = Kept::new();
    block_on(async {
        let store = kept.store();
        ten(&store).await;
        let operation = Entry { outcome: Outcome::Begun, ..entry("a", 0) };
        let operation = Entry { action: Action::Uninstall, ..operation };
        let begun = store.append_audit(operation.clone().row(Kind::Begin)).await.unwrap();
        let end = Entry { outcome: Outcome::Done, begun: Some(begun.sequence), ..operation };
        store.append_audit(end.row(Kind::Farewell(begun.sequence))).await.unwrap();
    });
    let whole = kept.verify(None).unwrap();
    assert_eq!((whole.rows, whole.removed), (12, 6));
    let rows = block_on(kept.store().audit_since(0, None, 100)).unwrap();
    let said: Vec<u64> =
        rows.iter().filter(|row| row.content.is_some()).map(|row| row.sequence).collect();
    assert_eq!(said, [2, 4, 6, 8, 10, 12], "b's rows and the one that says goodbye");
    assert_eq!(shown(&rows[0])["removed"], true);
    assert_eq!(shown(&rows[11])["action"], "uninstall");
    assert!(!std::fs::read(kept.path()).unwrap().is_empty());
    // Installed again, its rows count anew, and those of b still may not go.
    block_on(async { Audit::new(kept.store()).record(entry("a", 13)).await }).unwrap();
    assert!(kept.verify(None).is_ok());
    kept.execute("UPDATE audit SET content = NULL WHERE sequence = 13");
    assert_eq!(
        kept.verify(None),
        broken_at(13, Reason::Erased),
        "nothing uninstalls it after that"
    );
    kept.execute("UPDATE audit SET content = NULL WHERE sequence = 4");
    assert_eq!(kept.verify(None), broken_at(4, Reason::Erased));
}

#[test]
fn what_a_dead_service_had_begun_is_closed() {
    let kept = Kept::new();
    block_on(async {
        let store = kept.store();
        let begun = |plugin, action| {
            let entry = Entry { action, outcome: Outcome::Begun, ..entry(plugin, 7) };
            store.append_audit(entry.row(Kind::Begin))
        };
        begun("a", Action::Enable).await.unwrap();
        begun("gone", Action::Uninstall).await.unwrap();
    });
    block_on(async {
        let store = kept.store();
        let audit = Audit::new(store.clone());
        audit.close_interrupted(|_| false).await.unwrap();
        audit.close_interrupted(|_| false).await.unwrap();
        let rows: Vec<Value> =
            store.audit_since(0, None, 10).await.unwrap().iter().map(shown).collect();
        assert_eq!(rows.len(), 4, "closed once: {rows:?}");
        assert_eq!((&rows[2]["outcome"], &rows[2]["begun"]), (&json!("interrupted"), &json!(1)));
        assert_eq!(rows[2]["details"]["n"], 7);
        assert_eq!(rows[2]["principal"]["name"], "root");
        assert_eq!((&rows[3]["outcome"], &rows[3]["begun"]), (&json!("ok"), &json!(2)));
        assert_eq!(rows[1]["removed"], true, "it is uninstalled");
    });
    assert!(kept.verify(None).is_ok());
}

#[test]
fn what_is_older_than_the_retention_goes_and_the_chain_stays_whole() {
    let kept = Kept::new();
    let future = "9999-01-01T00:00:00.000Z".to_owned();
    let head = block_on(async {
        let store = kept.store();
        let audit = Audit::new(store.clone());
        let cut = |before: &str, rows, anchored| store.audit_cut(before.to_owned(), rows, anchored);
        let mut head = Head::START;
        for n in 1..=200 {
            head = audit.record(entry("a", n)).await.unwrap();
        }
        assert_eq!(cut("2000-01-01T00:00:00.000Z", 1000, 200).await, Ok(None), "all are young");
        assert_eq!(cut(&future, 1000, 40).await, Ok(None), "few of them are anchored");
        assert_eq!(cut(&future, 1000, 120).await.unwrap().unwrap().sequence, 120);
        assert_eq!(cut("", 80, 200).await.unwrap().unwrap().sequence, 120, "too many of them");
        let begun = Entry { outcome: Outcome::Begun, ..entry("a", 201) };
        let begun = store.append_audit(begun.row(Kind::Begin)).await.unwrap();
        for n in 202..=300 {
            head = audit.record(entry("a", n)).await.unwrap();
        }
        let through = cut(&future, 1000, 300).await.unwrap().unwrap();
        assert_eq!(through.sequence, begun.sequence - 1, "an open operation keeps its beginning");
        let row = crate::supervise::retention::pruned(through).row(Kind::Single);
        store.prune_audit(through, row).await.unwrap();
        head
    });
    let whole = kept.verify(Some(head)).unwrap();
    assert_eq!((whole.first, whole.rows, whole.head.sequence), (201, 101, 301));
    // It must be that very row that accounts for them.
    kept.execute("DELETE FROM audit WHERE sequence < 210");
    assert_eq!(kept.verify(Some(head)), broken_at(209, Reason::Missing));
}

#[test]
fn two_rows_that_say_the_same_have_different_hashes() {
    let kept = Kept::new();
    let rows = block_on(async {
        let store = kept.store();
        ten(&store).await;
        store.audit_since(0, None, 100).await.unwrap()
    });
    let mut hashes: Vec<String> = rows.iter().map(|row| row.content_hash.to_string()).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 10);
    for row in &rows {
        let content: Value = row.content.as_deref().unwrap().parse().unwrap();
        assert_eq!(content["salt"].as_str().unwrap().len(), 32);
        assert_eq!(shown(row).get("salt"), None);
    }
}

#[test]
fn a_fault_is_told_with_its_row_and_what_to_do() {
    let failure = verification::broken(&Broken { sequence: 7, reason: Reason::Erased });
    assert_eq!(failure.code, Code::AuditBroken);
    assert_eq!(failure.details, json!({ "sequence": 7, "reason": "erased" }));
    assert!(failure.message.contains("row 7"), "{failure}");
}
