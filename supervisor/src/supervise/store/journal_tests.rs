use serde_json::{Value, json};

use super::*;
use crate::id::{Digest, PluginId};

fn row(id: &str, tree: &str, previous: Option<&str>) -> PluginRow {
    let digest = |name: &str| Digest::of(name.as_bytes());
    PluginRow {
        id: id.parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        digest: digest(tree),
        config: json!({}),
        enabled: true,
        installed_at: "2026-01-01T00:00:00Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: previous.map(|tree| Previous {
            version: "1.2.2".parse().unwrap(),
            digest: digest(tree),
            installed_at: "2025-01-01T00:00:00Z".to_owned(),
            granted: None,
        }),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn what_was_intended_is_there_after_reopening_and_gone_once_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let id: PluginId = "a".parse().unwrap();
    let (plan, principal) = (json!({"kind": "install", "to": 1}), json!({"uid": 7}));
    block_on(async {
        let store = Store::open(&path).unwrap();
        let begin = |step| store.begin_operation(id.clone(), principal.clone(), step, plan.clone());
        let number = begin("tree").await.unwrap();
        store.intend_step(number, "row").await.unwrap();
        assert!(!store.open_operations().await.unwrap()[0].undoing);
        store.begin_undo(number).await.unwrap();
        let second = begin("tree").await.unwrap_err();
        assert_eq!(second.code, Code::StorageFailed, "one at a time on each plugin");
    });
    block_on(async {
        let store = Store::open(&path).unwrap();
        let [open] = &store.open_operations().await.unwrap()[..] else { panic!() };
        assert_eq!((&open.plugin, open.step.as_str()), (&id, "row"));
        assert_eq!((&open.plan, &open.principal, open.undoing), (&plan, &principal, true));
        store.close_operation(open.number).await.unwrap();
        assert_eq!(store.open_operations().await.unwrap(), []);
    });
}

#[test]
fn a_tree_is_kept_by_a_plugin_by_its_previous_version_and_by_an_operation_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    block_on(async {
        store.put_plugin(row("a", "now", Some("before"))).await.unwrap();
        let plan = json!({"from": row("b", "from", Some("older")), "to": row("b", "to", None)});
        let begun = store.begin_operation("b".parse().unwrap(), json!({}), "tree", plan).await;
        let number = begun.unwrap();
        for (tree, except, used) in [
            ("now", 0, true),
            ("before", 0, true),
            ("from", 0, true),
            ("older", 0, true),
            ("to", 0, true),
            ("to", number, false),
            ("from", number, false),
            ("now", number, true),
            ("none", 0, false),
        ] {
            let found = store.has_use_for(Digest::of(tree.as_bytes()), except).await;
            assert_eq!(found, Ok(used), "{tree} without {except}");
        }
        let read = store.plugin("a".parse().unwrap()).await.unwrap();
        assert_eq!(read, Some(row("a", "now", Some("before"))));
        assert_eq!(store.plugin("none".parse().unwrap()).await, Ok(None));
    });
}

#[test]
fn state_is_restored_as_it_was_kept_and_only_if_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    let id: PluginId = "a".parse().unwrap();
    let set = |key: &str, value: &str| {
        store.set_state(id.clone(), key.into(), value.into(), None, u64::MAX)
    };
    let all = async || -> Vec<(String, u64, Vec<u8>)> {
        let (prefix, after) = (String::new(), String::new());
        let part = Part { prefix, after, limit: usize::MAX, bytes: usize::MAX };
        let found = store.state_part(id.clone(), part).await.unwrap().items.into_iter();
        found.map(|(key, entry)| (key, entry.version, entry.value)).collect()
    };
    block_on(async {
        store.put_plugin(row("a", "now", None)).await.unwrap();
        set("kept", "1").await.unwrap();
        set("kept", "2").await.unwrap();
        set("goes", "x").await.unwrap();
        let before = all().await;
        store.restore_state(id.clone()).await.unwrap();
        assert_eq!(all().await, before, "nothing was kept, so nothing is changed");

        store.keep_state(id.clone()).await.unwrap();
        set("kept", "3").await.unwrap();
        set("new", "of the new version").await.unwrap();
        store.delete_state(id.clone(), "goes".into(), None).await.unwrap();
        // A step that is done again after a death must not keep what the new version wrote.
        store.keep_state(id.clone()).await.unwrap();
        store.restore_state(id.clone()).await.unwrap();
        assert_eq!(all().await, before, "values and versions");
        // What it counts is in step.
        let grown = store.set_state(id.clone(), "k".into(), vec![], None, 5).await.unwrap_err();
        assert_eq!(grown.details["used"], "kept2goesxk".len());

        store.keep_state(id.clone()).await.unwrap();
        set("kept", "4").await.unwrap();
        store.forget_kept_state(id.clone()).await.unwrap();
        store.restore_state(id.clone()).await.unwrap();
        assert_eq!(store.state(id.clone(), "kept".into()).await.unwrap().unwrap().value, b"4");

        store.keep_state(id.clone()).await.unwrap();
        store.remove_plugin(id.clone()).await.unwrap();
        store.put_plugin(row("a", "now", None)).await.unwrap();
        store.restore_state(id.clone()).await.unwrap();
        assert_eq!(all().await, [], "what was kept went with the plugin");
    });
}

#[test]
fn a_plugin_that_is_disabled_meanwhile_is_so_in_the_plan_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).unwrap();
    block_on(async {
        for id in ["a", "b", "other"] {
            store.put_plugin(row(id, "now", None)).await.unwrap();
        }
        let enabled = json!({"from": row("a", "now", None), "to": row("a", "next", None)});
        let absent = json!({"from": null, "to": row("b", "next", None)});
        for (id, plan) in [("a", enabled.clone()), ("b", absent), ("other", enabled.clone())] {
            let begun = store.begin_operation(id.parse().unwrap(), json!({}), "tree", plan);
            begun.await.unwrap();
        }
        for id in ["a", "b"] {
            store.disable_operation(id.parse().unwrap()).await.unwrap();
        }
        let wanted: Vec<(Value, Value)> = store
            .open_operations()
            .await
            .unwrap()
            .into_iter()
            .map(|open| (open.plan["from"]["enabled"].clone(), open.plan["to"]["enabled"].clone()))
            .collect();
        let (yes, no) = (json!(true), json!(false));
        assert_eq!(wanted, [(no.clone(), no.clone()), (Value::Null, no), (yes.clone(), yes)]);
        let stored = store.plugins().await.unwrap();
        let stored: Vec<bool> = stored.iter().map(|row| row.enabled).collect();
        assert_eq!(stored, [false, false, true]);
    });
}
