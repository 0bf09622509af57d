//! From `init` to the goodbye, and what goes wrong on the way.

mod probe;

use std::time::Duration;

use bulkhead_plugin_sdk::Error;
use bulkhead_plugin_sdk::code;
use bulkhead_plugin_sdk::testing::{Harness, pass, paused};
use probe::{Count, Probe, Wait};
use serde_json::{Value, json};

const BUDGET: Duration = Duration::from_secs(5);

fn with(config: Value) -> Harness<Probe> {
    Harness::new().config(config)
}

#[test]
fn drain_and_sigterm_share_one_path() {
    paused(async {
        for by_signal in [false, true] {
            let plugin = with(json!({})).start().await.unwrap();
            plugin.call::<Count>(&()).await.unwrap();
            let stopped = if by_signal {
                plugin.terminate().await.unwrap()
            } else {
                plugin.drain("upgrade", BUDGET, true).await.unwrap()
            };
            let reason = if by_signal { "terminated" } else { "upgrade" };
            assert_eq!(stopped.goodbye.as_deref(), Some(reason));
            assert_eq!(plugin.state()["count"], 1, "saved");
            let logs = plugin.logs();
            assert_eq!(logs.last().unwrap().message, format!("shutting down: {reason}"));
        }
    });
}

#[test]
fn without_saving_nothing_is_saved() {
    paused(async {
        let plugin = with(json!({})).start().await.unwrap();
        plugin.drain("disable", BUDGET, false).await.unwrap();
        assert!(plugin.state().is_empty());
        assert_eq!(plugin.logs().len(), 1, "but it was shut down");
    });
}

#[test]
fn a_stop_waits_for_calls_in_flight_and_refuses_new_ones() {
    paused(async {
        let plugin = with(json!({})).start().await.unwrap();
        let in_flight = plugin.call::<Wait>(&2);
        let late = async {
            pass(Duration::from_secs(1)).await;
            plugin.call::<Count>(&()).await.unwrap_err()
        };
        let stop = async {
            tokio::task::yield_now().await;
            plugin.terminate().await
        };
        let (waited, late, stopped) = tokio::join!(in_flight, late, stop);
        assert_eq!(waited.unwrap(), 2);
        assert_eq!(late.code(), code::STOPPING);
        stopped.unwrap();
    });
}

#[test]
fn a_call_that_hangs_costs_neither_the_state_nor_the_budget() {
    paused(async {
        let plugin = with(json!({})).start().await.unwrap();
        let started = tokio::time::Instant::now();
        let hangs = plugin.call::<Wait>(&3600);
        let stop = async {
            tokio::task::yield_now().await;
            plugin.drain("disable", BUDGET, true).await
        };
        let (hung, stopped) = tokio::join!(hangs, stop);
        hung.unwrap_err();
        assert!(stopped.unwrap_err().message().contains("calls: 1 still in flight"));
        assert_eq!(plugin.state()["count"], 0, "saved all the same");
        assert!(started.elapsed() <= BUDGET, "{:?}", started.elapsed());
    });
}

#[test]
fn a_save_that_hangs_leaves_time_to_shut_down() {
    paused(async {
        let plugin = with(json!({"saveSecs": 3600})).start().await.unwrap();
        let started = tokio::time::Instant::now();
        let error = plugin.drain("disable", BUDGET, true).await.unwrap_err();
        assert!(error.message().contains("save: not done within the budget"), "{error}");
        assert!(plugin.logs().iter().any(|record| record.message.contains("shutting down")));
        assert!(started.elapsed() <= BUDGET, "{:?}", started.elapsed());
    });
}

#[test]
fn a_shutdown_that_hangs_ends_with_the_budget() {
    paused(async {
        let plugin = with(json!({"shutdownSecs": 3600})).start().await.unwrap();
        let started = tokio::time::Instant::now();
        let error = plugin.drain("disable", BUDGET, true).await.unwrap_err();
        assert!(error.message().contains("shutdown: not done"), "{error}");
        assert!(started.elapsed() <= BUDGET + Duration::from_secs(1), "{:?}", started.elapsed());
    });
}

#[test]
fn what_goes_wrong_while_saving_is_reported() {
    paused(async {
        for (fault, text) in [("save", "DISK_FULL"), ("save-panic", "PANIC")] {
            let plugin = with(json!({ "fault": fault })).start().await.unwrap();
            let error = plugin.stop().await.unwrap_err();
            assert!(error.message().contains(text), "{error}");
            let logs = plugin.logs();
            assert!(logs.iter().any(|record| record.message.contains(text)), "{logs:?}");
        }
        let plugin = with(json!({})).start().await.unwrap();
        plugin
            .fail("bulkhead.host/state.set", Error::new("RESOURCE_EXHAUSTED", "the disk is full"));
        let error = plugin.stop().await.unwrap_err();
        assert!(error.message().contains("the disk is full"), "{error}");
    });
}

#[test]
fn init_fails_with_the_plugins_own_code() {
    paused(async {
        let failed = |config| async { with(config).start().await.map(|_| ()).unwrap_err() };
        let error = failed(json!({"fault": "init"})).await;
        assert_eq!(error, Error::new("NO_LUCK", "told to fail").with_details(&["init"]));
        let error = failed(json!({"fault": "init-panic"})).await;
        assert_eq!(error.code(), code::PANIC);
        let error = failed(json!({"saveSecs": "soon"})).await;
        assert_eq!(error.code(), code::CONFIG_INVALID);
        assert_eq!(error.details().unwrap()["path"], "saveSecs");
        let error = failed(json!({"savesecs": 1})).await;
        assert!(error.message().contains("unknown field `savesecs`"), "{error}");
    });
}

#[test]
fn before_init_no_call_is_answered_and_a_stop_is_no_fault() {
    paused(async {
        let plugin = with(json!({})).start_uninitialized();
        assert_eq!(plugin.call::<Count>(&()).await.unwrap_err().code(), code::NOT_READY);
        assert_eq!(plugin.health().await.unwrap_err().code(), code::NOT_READY);
        plugin.initialize().await.unwrap();
        plugin.health().await.unwrap();
        let plugin = with(json!({})).start_uninitialized();
        plugin.stop().await.unwrap();
        assert!(plugin.state().is_empty() && plugin.logs().is_empty());
    });
}

#[test]
fn health_is_the_plugins_word() {
    paused(async {
        let plugin = with(json!({"fault": "health"})).start().await.unwrap();
        assert_eq!(plugin.health().await.unwrap_err().code(), "UNWELL");
    });
}

#[test]
fn a_configuration_is_taken_deferred_or_refused_while_it_runs() {
    paused(async {
        let plugin = with(json!({})).start().await.unwrap();
        plugin.health().await.unwrap();
        assert!(plugin.configure(json!({ "fault": "health" })).await.unwrap());
        assert_eq!(plugin.health().await.unwrap_err().code(), "UNWELL", "it is in force");
        assert!(!plugin.configure(json!({ "fault": "at-restart" })).await.unwrap());
        let refused = plugin.configure(json!({ "fault": "init" })).await.unwrap_err();
        assert_eq!(refused.code(), "NO_LUCK");
        let panicked = plugin.configure(json!({ "fault": "init-panic" })).await.unwrap_err();
        assert_eq!(panicked.code(), code::PANIC);
        let invalid = plugin.configure(json!({ "fualt": "" })).await.unwrap_err();
        assert_eq!(invalid.code(), code::CONFIG_INVALID);
        assert_eq!(plugin.health().await.unwrap_err().code(), "UNWELL", "none of them changed it");
    });
}

#[test]
fn nothing_is_configured_before_it_is_there() {
    paused(async {
        let plugin = with(json!({})).start_uninitialized();
        let error = plugin.configure(json!({})).await.unwrap_err();
        assert_eq!(error.code(), code::NOT_READY);
        plugin.initialize().await.unwrap();
        assert!(plugin.configure(json!({})).await.unwrap());
    });
}
