//! The supervisor restarts; the plugin does not.

mod probe;

use std::time::Duration;

use bulkhead_plugin_sdk::Result;
use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused, until};
use probe::{Ask, Count, Probe};
use serde_json::{Value, json};

fn probe() -> Harness<Probe> {
    Harness::new()
}

#[test]
fn the_same_instance_serves_on_after_a_restart_of_the_supervisor() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        assert_eq!(plugin.call::<Count>(&()).await.unwrap(), 1);
        for round in 2..5 {
            plugin.lose_session();
            assert!(plugin.resume().await.unwrap(), "it says that it was there");
            assert_eq!(plugin.call::<Count>(&()).await.unwrap(), round);
        }
        plugin.stop().await.unwrap();
        assert_eq!(plugin.state()["count"], 4);
    });
}

#[test]
fn a_new_session_replaces_one_that_still_stands() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        plugin.call::<Count>(&()).await.unwrap();
        assert!(plugin.resume().await.unwrap());
        assert_eq!(plugin.call::<Count>(&()).await.unwrap(), 2);
        plugin.stop().await.unwrap();
    });
}

/// A plugin whose call in the background is on its way when the session ends, and what becomes of the call.
async fn background_call_over_a_restart(kind: &str) -> (Value, u32) {
    let asked = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = asked.clone();
    let answer = async move |()| -> Result<u32> {
        seen.set(seen.get() + 1);
        if seen.get() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(42)
    };
    let plugin = probe()
        .config(json!({ "background": kind }))
        .answer::<Ask>("other", answer)
        .start()
        .await
        .expect("it starts");
    until(|| asked.get() == 1).await;
    plugin.lose_session();
    plugin.resume().await.expect("it resumes");
    until(|| plugin.state().contains_key("outcome")).await;
    (plugin.state()["outcome"].clone(), asked.get())
}

#[test]
fn a_call_that_may_be_repeated_is_repeated_on_the_new_session() {
    paused(async {
        assert_eq!(background_call_over_a_restart("twice").await, (json!("42"), 2));
    });
}

#[test]
fn a_call_that_may_not_be_repeated_fails_once() {
    paused(async {
        assert_eq!(background_call_over_a_restart("once").await, (json!("SESSION_LOST"), 1));
    });
}

async fn left_alone(plugin: &Running<Probe>) -> Duration {
    let alone_since = tokio::time::Instant::now();
    plugin.lose_session();
    let error = plugin.ended().await.expect_err("it has something to save");
    assert!(error.message().contains("SESSION_LOST"), "there was nowhere to save: {error}");
    alone_since.elapsed()
}

#[test]
fn without_a_session_it_stops_itself_after_the_resume_time() {
    paused(async {
        let plugin = probe().resume_time(Duration::from_secs(17)).start().await.unwrap();
        let alone = left_alone(&plugin).await;
        assert!((17..=19).contains(&alone.as_secs()), "{alone:?}");
    });
}

#[test]
fn the_resume_time_begins_anew_with_each_session() {
    paused(async {
        let plugin = probe().resume_time(Duration::from_secs(10)).start().await.unwrap();
        for _ in 0..3 {
            plugin.lose_session();
            pass(Duration::from_secs(9)).await;
            assert!(plugin.resume().await.unwrap());
            pass(Duration::from_secs(60)).await;
        }
        let alone = left_alone(&plugin).await;
        assert!((10..=12).contains(&alone.as_secs()), "{alone:?}");
    });
}

#[test]
fn without_a_first_session_it_stops_too() {
    paused(async {
        let plugin = probe().start_uninitialized();
        plugin.lose_session();
        plugin.ended().await.unwrap();
    });
}

#[test]
fn after_a_crash_it_starts_from_what_was_saved() {
    paused(async {
        let plugin = probe().state("count", &7).start().await.unwrap();
        let plugin = plugin.crash_and_restart().await.unwrap();
        assert_eq!(plugin.call::<Count>(&()).await.unwrap(), 1, "a new instance");
        assert_eq!(plugin.state()["count"], 7, "and nothing of the state is lost");
    });
}
