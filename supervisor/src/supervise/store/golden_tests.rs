//! Files that older versions wrote, as text: what they hold must be there after the migrations.
//!
//! `golden/v<n>.sql` is a whole store of version n, with rows in all that it has. One is written with
//! `BLESS=1 cargo test -p bulkhead-supervisor store::golden_tests` when its version is released or the next
//! one is begun, and never again: a later change to it would be a change of what users have on their disks.

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::audit_chain::{Head, body};
use crate::id::{Digest, PluginId};
use crate::supervise::registry::Grant;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/supervise/store/golden")
}

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

/// The versions that there are files of, in order.
fn kept() -> Vec<usize> {
    let mut versions: Vec<usize> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_prefix('v').unwrap().strip_suffix(".sql").unwrap().parse().unwrap())
        .collect();
    versions.sort_unstable();
    versions
}

/// What an operator granted, since version 2.
fn granted() -> Grant {
    Grant { permissions: vec!["read:appointments".parse().unwrap()], withheld_places: Vec::new() }
}

/// What it had used, since version 2.
fn usage() -> serde_json::Value {
    json!({ "time": "2026-01-02T00:00:00.000Z", "memoryPeakBytes": 4_194_304 })
}

/// What a rollback returns to, since version 3.
fn previous() -> Previous {
    Previous {
        version: "1.1.0".parse().unwrap(),
        digest: Digest::of(b"before"),
        installed_at: "2025-12-01T00:00:00.000Z".to_owned(),
        granted: None,
    }
}

/// What the audit says, since version 4: of an installation, and of an uninstallation that is not over.
const SAID: [(&str, &str); 2] = [("install", "appointments"), ("uninstall", "leaving")];

/// What it does by the clock, since version 5: up to when that is dealt with.
const ACCOUNTED: &str = "2026-01-02T02:30:00Z";

async fn fill_schedules(store: &Store) {
    let (plugin, name) = (id("appointments"), "nightly".to_owned());
    let accounted = ACCOUNTED.parse().unwrap();
    let rules = vec![(name.clone(), "30 2 * * * UTC".to_owned())];
    store.adopt_schedules(plugin.clone(), rules, accounted).await.unwrap();
    let key = ScheduleKey { plugin, name };
    let number = store.begin_run(key, Some(accounted), accounted).await.unwrap();
    let end = RunEnd { at: accounted, duration_ms: 7, code: Some("TIMEOUT".to_owned()) };
    store.end_run(number, end).await.unwrap();
}

/// That what was due and what became of it is known, since version 5.
async fn check_schedules(store: &Store, version: usize) {
    let accounted: jiff::Timestamp = ACCOUNTED.parse().unwrap();
    let runs = store.runs(id("appointments")).await.unwrap();
    let found: Vec<_> = runs.iter().map(|run| (run.due, run.outcome, run.duration_ms)).collect();
    let wanted = (Some(accounted), Some(RunOutcome::Failed), Some(7));
    assert_eq!(found, Vec::from_iter((version >= 5).then_some(wanted)), "of version {version}");
    let rules = vec![("nightly".to_owned(), "30 2 * * * UTC".to_owned())];
    let later = "2027-01-01T00:00:00Z".parse().unwrap();
    let adopted = store.adopt_schedules(id("appointments"), rules, later).await.unwrap();
    let expected = if version >= 5 { accounted } else { later };
    assert_eq!(adopted["nightly"], expected, "of version {version}");
}

/// What a minute had used, since version 6.
const USED: Used = Used {
    time: 1_767_225_660,
    covered_ms: 60_000,
    memory_bytes: Some(4096),
    memory_peak_bytes: Some(8192),
    cpu_usec: Some(70),
    throttled_usec: Some(1),
    pids: Some(3),
    io_read_bytes: Some(0),
    io_written_bytes: None,
    storage_bytes: Some(5),
    network_received_bytes: None,
    network_sent_bytes: None,
};

async fn check_usage(store: &Store, version: usize) {
    let known = |used| Vec::from_iter((version >= 6).then_some(used));
    let minutes = store.usage(id("appointments"), Step::Minute, 0, 10).await.unwrap();
    assert_eq!(minutes, known(USED), "of version {version}");
    let quarters = store.usage(id("appointments"), Step::Quarter, 0, 10).await.unwrap();
    assert_eq!(quarters, known(Used { time: 1_767_225_600, ..USED }), "of version {version}");
}

fn said(action: &'static str, plugin: &str, kind: Kind) -> NewAuditRow {
    let content = Box::new(move |salt: &str| json!({ "action": action, "salt": salt }).to_string());
    NewAuditRow { kind, plugin: Some(id(plugin)), content }
}

/// What every one of the files holds, as far as its version had it, written by the code at hand.
async fn fill(store: &Store) {
    let row = |name: &str, enabled| PluginRow {
        id: id(name),
        version: "1.2.3-rc.1".parse().unwrap(),
        digest: Digest::of(name.as_bytes()),
        config: json!({ "timezone": "America/New_York", "workingHours": { "start": "09:00" } }),
        enabled,
        installed_at: "2026-01-01T00:00:00.000Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: None,
    };
    let managed = row("appointments", true);
    let managed = PluginRow { granted: Some(granted()), previous: Some(previous()), ..managed };
    store.put_plugin(managed).await.unwrap();
    let leaving = row("leaving", false);
    store.put_plugin(leaving.clone()).await.unwrap();
    let exit = json!({ "time": "2026-01-02T00:00:00.000Z", "explanation": "exited with code 7" });
    store.set_last_exit(id("appointments"), exit, usage(), None).await.unwrap();
    let plan = json!({ "kind": "uninstall", "force": false, "from": leaving, "to": null });
    store.begin_operation(id("leaving"), json!({}), "storage", plan).await.unwrap();
    let quota = 1 << 20;
    for (key, value) in [("lastSync", &b"\"2026-01-02\""[..]), ("raw", b"\x00\xff'"), ("raw", b"2")]
    {
        store.set_state(id("appointments"), key.into(), value.into(), None, quota).await.unwrap();
    }
    let told = "2026-01-01T00:00:00.000Z".to_owned();
    let body = json!({ "version": "1.2.3-rc.1" });
    let name = "plugin:installed".to_owned();
    store.append_event(told, name, Some(id("appointments")), body, None).await.unwrap();
    // An upgrade was under way.
    store.keep_state(id("appointments")).await.unwrap();
    for ((action, plugin), kind) in SAID.into_iter().zip([Kind::Single, Kind::Begin]) {
        store.append_audit(said(action, plugin, kind)).await.unwrap();
    }
    fill_schedules(store).await;
    store.add_usage(vec![(id("appointments"), USED)]).await.unwrap();
}

/// All of a database as SQL that makes it again.
fn dump(connection: &Connection) -> rusqlite::Result<String> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let schema: Vec<(String, String, Option<String>)> = connection
        .prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY rowid")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut text = format!("PRAGMA user_version = {version};\n");
    let mut later = String::new();
    for (kind, name, sql) in schema {
        let Some(sql) = sql.filter(|_| !name.starts_with("sqlite_")) else { continue };
        // Triggers after the rows: what they keep in step is in the rows already.
        let part = if kind == "table" { &mut text } else { &mut later };
        part.extend([&sql, ";\n"]);
        if kind == "table" {
            rows(connection, &name, &mut text)?;
        }
    }
    let counter: Option<i64> = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'event'", [], |row| row.get(0))
        .ok();
    if let Some(counter) = counter {
        let update = format!("UPDATE sqlite_sequence SET seq = {counter} WHERE name = 'event';\n");
        text.push_str(&update);
    }
    Ok(text + &later)
}

fn rows(connection: &Connection, table: &str, text: &mut String) -> rusqlite::Result<()> {
    let columns: Vec<String> = connection
        .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
    let select = format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ', ' || "));
    let mut statement = connection.prepare(&select)?;
    let values: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for values in values {
        let columns = columns.join(", ");
        let insert = format!("INSERT INTO {table} ({columns}) VALUES ({values});\n");
        text.push_str(&insert);
    }
    Ok(())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn what_an_older_version_stored_is_there_after_the_migrations() {
    if std::env::var_os("BLESS").is_some() {
        let made = tempfile::tempdir().unwrap();
        let path = made.path().join("db");
        block_on(async { fill(&Store::open(&path).unwrap()).await });
        let text = dump(&Connection::open(&path).unwrap()).unwrap();
        std::fs::write(directory().join(format!("v{}.sql", MIGRATIONS.len())), text).unwrap();
    }
    let kept = kept();
    let before_the_newest: Vec<usize> = (1..MIGRATIONS.len()).collect();
    assert!(
        kept.starts_with(&before_the_newest),
        "each version that is migrated has a file: {kept:?}"
    );
    for version in kept {
        let directory_of_it = tempfile::tempdir().unwrap();
        let path = directory_of_it.path().join("db");
        let text = std::fs::read_to_string(directory().join(format!("v{version}.sql"))).unwrap();
        Connection::open(&path).unwrap().execute_batch(&text).unwrap();
        block_on(async {
            let store = Store::open(&path).unwrap();
            check(&store, version).await;
        });
        let after: i64 = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(after, MIGRATIONS.len() as i64, "from version {version}");
    }
}

/// That the store holds what [`fill`] put there.
async fn check(store: &Store, version: usize) {
    let plugins = store.plugins().await.unwrap();
    let ids: Vec<&str> = plugins.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["appointments", "leaving"], "of version {version}");
    let [kept, leaving] = &plugins[..] else { unreachable!() };
    assert_eq!(kept.version.to_string(), "1.2.3-rc.1");
    assert_eq!(kept.digest, Digest::of(b"appointments"));
    assert_eq!(kept.config["workingHours"], json!({ "start": "09:00" }));
    assert_eq!(kept.installed_at, "2026-01-01T00:00:00.000Z");
    assert_eq!(kept.last_exit.as_ref().unwrap()["explanation"], "exited with code 7");
    assert!(kept.enabled && !leaving.enabled);
    // Of version 1 a mark in its row.
    let [open] = &store.open_operations().await.unwrap()[..] else { panic!("of {version}") };
    assert_eq!((open.plugin.as_str(), open.step.as_str()), ("leaving", "storage"));
    assert_eq!(open.plan["kind"], "uninstall");
    assert_eq!(serde_json::from_value(open.plan["from"].clone()).ok(), Some(leaving.clone()));
    let appointments = id("appointments");
    let (prefix, after) = (String::new(), String::new());
    let part = Part { prefix, after, limit: usize::MAX, bytes: usize::MAX };
    let listed = store.list_state(appointments.clone(), part).await.unwrap().items;
    assert_eq!(listed, [("lastSync".to_owned(), 1), ("raw".to_owned(), 2)]);
    let entry = store.state(appointments.clone(), "lastSync".into()).await.unwrap().unwrap();
    assert_eq!(entry.value, b"\"2026-01-02\"");
    let events = store.events_since(0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].sequence, events[0].name.as_str()), (1, "plugin:installed"));
    assert_eq!(events[0].plugin, Some(appointments.clone()));
    // What it counts is still in step: the quota is that of before.
    let grown = store.set_state(appointments, "k".into(), vec![0; 100], None, 100).await;
    let used = "lastSync".len() + 12 + "raw".len() + 1 + "k".len() + 100;
    assert_eq!(grown.unwrap_err().details["used"], used, "of version {version}");
    assert_eq!(kept.granted, (version >= 2).then(granted), "of version {version}");
    assert_eq!(kept.last_usage, (version >= 2).then(usage), "of version {version}");
    assert_eq!(kept.previous, (version >= 3).then(previous), "of version {version}");
    check_snapshot(store, version).await;
    check_audit(store, version).await;
    check_schedules(store, version).await;
    check_usage(store, version).await;
}

/// That what was kept of a state, since version 3, can be put back.
async fn check_snapshot(store: &Store, version: usize) {
    let appointments = id("appointments");
    store.delete_state(appointments.clone(), "raw".into(), None).await.unwrap();
    store.restore_state(appointments.clone()).await.unwrap();
    let raw = store.state(appointments, "raw".into()).await.unwrap();
    let raw = raw.map(|entry| (entry.version, entry.value));
    assert_eq!(raw, (version >= 3).then(|| (2, b"2".to_vec())), "of version {version}");
}

/// That the chain is whole, and goes on.
async fn check_audit(store: &Store, version: usize) {
    let said_then = if version >= 4 { &SAID[..] } else { &[] };
    let open = store.audit_open().await.unwrap();
    assert_eq!(open.len(), said_then.len() / 2, "of version {version}");
    let next = said("enable", "appointments", Kind::Single);
    store.append_audit(next).await.unwrap();
    let rows = store.audit_since(0, None, 10).await.unwrap();
    let mut head = Head::START;
    for row in &rows {
        let content = row.content.as_ref().unwrap();
        assert_eq!(row.content_hash, Digest::of(content.as_bytes()), "of version {version}");
        assert_eq!((row.sequence, row.previous), (head.sequence + 1, head.hash));
        head = head.next(body(row.plugin.as_ref(), row.content_hash));
        assert_eq!(row.hash, head.hash, "of version {version}");
    }
    let found: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let content: serde_json::Value = row.content.as_ref().unwrap().parse().unwrap();
            let action = content["action"].as_str().unwrap().to_owned();
            (action, row.plugin.as_ref().unwrap().to_string())
        })
        .collect();
    let wanted = said_then.iter().chain([&("enable", "appointments")]);
    let wanted: Vec<(String, String)> =
        wanted.map(|(action, plugin)| ((*action).to_owned(), (*plugin).to_owned())).collect();
    assert_eq!(found, wanted, "of version {version}");
}

#[test]
fn a_released_migration_still_makes_what_it_made() {
    for version in kept() {
        let text = std::fs::read_to_string(directory().join(format!("v{version}.sql"))).unwrap();
        let golden = Connection::open_in_memory().unwrap();
        golden.execute_batch(&text).unwrap();
        let mut made = Connection::open_in_memory().unwrap();
        migrate(&mut made, Path::new("memory"), &MIGRATIONS[..version]).unwrap();
        let schema = |connection: &Connection| -> Vec<(String, Option<String>)> {
            connection
                .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
                .unwrap()
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap()
        };
        assert_eq!(schema(&made), schema(&golden), "version {version}");
    }
}

#[test]
fn a_migration_that_fails_leaves_the_version_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    block_on(async { fill(&Store::open(&path).unwrap()).await });
    let before = dump(&Connection::open(&path).unwrap()).unwrap();
    let mut connection = Connection::open(&path).unwrap();
    let broken = "ALTER TABLE plugin ADD COLUMN half TEXT; DELETE FROM state; INSERT INTO nowhere \
                  VALUES (1);";
    let migrations: Vec<&str> = MIGRATIONS.iter().copied().chain([broken]).collect();
    let failure = migrate(&mut connection, &path, &migrations).unwrap_err();
    assert_eq!(failure.code, Code::StorageFailed);
    assert!(failure.message.contains("nowhere"), "{failure}");
    assert_eq!(dump(&connection).unwrap(), before);
    block_on(async { check(&Store::open(&path).unwrap(), MIGRATIONS.len()).await });
}
