//! Files that older versions wrote, as text: what they hold must be there after the migrations.
//!
//! `golden/v<n>.sql` is a whole store as the code of version n made it. One is written with
//! `BLESS=1 cargo test -p bulkhead-supervisor store::golden_tests` when its version is released, and never
//! again: a later change to it would be a change of what users have on their disks.

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::id::{Digest, PluginId};

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

/// What every one of the files holds, written by the code at hand.
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
    store.put_plugin(row("appointments", true)).await.unwrap();
    let leaving = row("leaving", false);
    store.put_plugin(leaving.clone()).await.unwrap();
    let exit = json!({ "time": "2026-01-02T00:00:00.000Z", "explanation": "exited with code 7" });
    store.set_last_exit(id("appointments"), exit, json!({}), None).await.unwrap();
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
    assert_eq!(kept.first(), Some(&1), "the first version was released");
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
    let listed = store.list_state(appointments.clone(), String::new()).await.unwrap();
    assert_eq!(listed, [("lastSync".to_owned(), 1, 12), ("raw".to_owned(), 2, 1)]);
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
