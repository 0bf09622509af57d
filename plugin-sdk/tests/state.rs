//! State and events, as a plugin uses them.

mod probe;

use bulkhead_plugin_sdk::testing::{Harness, Published, paused, until};
use bulkhead_plugin_sdk::{About, Error, Host, Level, Method, Plugin, Result, Router, about, code};
use probe::{Forward, Probe};
use serde_json::json;

/// Runs one step of a script against the state.
struct Script;

impl Method for Script {
    const NAME: &'static str = "script";
    type Request = String;
    type Reply = ();
}

struct Keeper(Host);

impl Plugin for Keeper {
    const ABOUT: About = about!();
    type Config = ();

    fn routes() -> Router<Self> {
        Router::new().on::<Script>(Self::script)
    }

    async fn init((): (), host: Host) -> Result<Self> {
        Ok(Self(host))
    }
}

impl Keeper {
    async fn script(&self, step: String) -> Result<()> {
        let state = self.0.state();
        match step.as_str() {
            "versions" => {
                assert_eq!(state.get::<String>("a").await?, None);
                assert_eq!(state.set("a", "one").await?, 1);
                assert_eq!(state.set("a", "two").await?, 2);
                assert_eq!(state.set_if("a", "three", 2).await?, 3);
                let conflict = state.set_if("a", "four", 2).await.expect_err("another version");
                assert_eq!(conflict.code(), code::STATE_CONFLICT);
                assert_eq!(conflict.details(), Some(&json!({"expected": 2, "found": 3})));
                let conflict = state.set_if("a", "four", 0).await.expect_err("it exists");
                assert_eq!(conflict.code(), code::STATE_CONFLICT);
                let entry = state.entry::<String>("a").await?.expect("it is there");
                assert_eq!((entry.version, entry.value.as_str()), (3, "three"));
                assert_eq!(
                    state.delete_if("a", 1).await.expect_err("other").code(),
                    code::STATE_CONFLICT
                );
                assert!(state.delete_if("a", 3).await? && !state.delete("a").await?);
                assert_eq!(state.set_if("a", "again", 0).await?, 1);
            }
            "many" => {
                let entries = (0..200).map(|nth| (format!("n/{nth:03}"), nth));
                state.store(entries).await?;
                state.set("other", &0).await?;
                assert_eq!(state.list("n/").await?.len(), 200);
                let loaded = state.load::<u32>("n/").await?;
                let expected: Vec<_> = (0..200).map(|nth| (format!("n/{nth:03}"), nth)).collect();
                let found: Vec<_> =
                    loaded.into_iter().map(|(key, entry)| (key, entry.value)).collect();
                assert_eq!(found, expected);
            }
            "more" => {
                let key = |nth: u32| format!("k/{nth:04}/{}", "x".repeat(400));
                state.store((0..2700).map(|nth| (key(nth), nth))).await?;
                state.set("other", &0).await?;
                let listed = state.list("k/").await?;
                let expected: Vec<_> = (0..2700).map(|nth| (key(nth), 1)).collect();
                assert!(listed == expected, "{} of {} keys", listed.len(), expected.len());
                assert_eq!(state.list("").await?.len(), 2701);
            }
            "mistyped" => {
                state.set("text", "words").await?;
                let error = state.get::<u32>("text").await.expect_err("not a number");
                assert_eq!(error.code(), code::REPLY_INVALID);
                assert!(error.message().contains("the state under `text`"), "{error}");
            }
            other => return Err(Error::new("UNKNOWN", other)),
        }
        Ok(())
    }
}

#[test]
fn versions_guard_against_overwriting() {
    paused(async {
        let plugin = Harness::<Keeper>::new().start().await.unwrap();
        plugin.call::<Script>(&"versions".into()).await.unwrap();
        assert_eq!(plugin.saved::<String>("a").unwrap(), Some((1, "again".into())));
    });
}

#[test]
fn many_entries_go_and_come_at_a_time() {
    paused(async {
        let plugin = Harness::<Keeper>::new().start().await.unwrap();
        plugin.call::<Script>(&"many".into()).await.unwrap();
        assert_eq!(plugin.state().len(), 201);
        let plugin = plugin.crash_and_restart().await.unwrap();
        plugin.call::<Script>(&"many".into()).await.unwrap();
        assert_eq!(plugin.saved::<u32>("n/007").unwrap(), Some((2, 7)));
    });
}

#[test]
fn keys_that_are_too_many_for_one_answer_are_listed_all_the_same() {
    paused(async {
        let plugin = Harness::<Keeper>::new().start().await.unwrap();
        plugin.call::<Script>(&"more".into()).await.unwrap();
    });
}

#[test]
fn a_value_of_another_type_is_told_with_its_key() {
    paused(async {
        let plugin = Harness::<Keeper>::new().start().await.unwrap();
        plugin.call::<Script>(&"mistyped".into()).await.unwrap();
    });
}

#[test]
fn events_and_logs_go_out() {
    paused(async {
        let plugin = Harness::<Probe>::new().start().await.unwrap();
        plugin.call::<Forward>(&"publish".into()).await.unwrap();
        plugin.call::<Forward>(&"log".into()).await.unwrap();
        let expected = Published { topic: "probe.said".into(), data: json!("publish") };
        assert_eq!(plugin.published(), [expected]);
        let logs = plugin.logs();
        assert_eq!((logs[0].level, logs[0].message.as_str()), (Level::Warn, "said"));
        assert_eq!(logs[0].target, "bulkhead-plugin-sdk", "the plugin's id");
        assert_eq!(logs[0].fields, [("k".into(), "1".into())]);
    });
}

#[test]
fn a_subscription_hears_its_topics_over_a_restart() {
    paused(async {
        let plugin = Harness::<Probe>::new().start().await.unwrap();
        plugin.call::<Forward>(&"subscribe".into()).await.unwrap();
        plugin.publish("clinic.opened", &json!({"at": 9})).unwrap();
        plugin.publish("other.opened", &json!({})).unwrap();
        plugin.lose_session();
        plugin.resume().await.unwrap();
        plugin.publish("clinic.closed", &json!({"at": 17})).unwrap();
        let heard = || plugin.state().keys().cloned().collect::<Vec<_>>();
        until(|| heard().contains(&"heard/clinic.closed".to_owned())).await;
        assert!(!heard().iter().any(|key| key.contains("other")), "{:?}", heard());
    });
}
