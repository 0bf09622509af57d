//! Work in the background: when it runs, what is logged of it, and how it ends.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused};
use bulkhead_plugin_sdk::{
    About, Deadline, Error, Host, Method, Plugin, Reason, Result, Router, Task, about,
};
use serde::{Deserialize, Serialize};

/// How often each kind of work was done.
struct Runs;

impl Method for Runs {
    const NAME: &'static str = "runs";
    type Request = ();
    type Reply = Counted;
}

/// Ends the repeated work.
struct Cancel;

impl Method for Cancel {
    const NAME: &'static str = "cancel";
    type Request = ();
    type Reply = bool;
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    begun: u32,
    finished: u32,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    period_secs: u64,
    run_secs: u64,
    fault: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { period_secs: 10, run_secs: 0, fault: String::new() }
    }
}

struct Worker {
    begun: Rc<Cell<u32>>,
    finished: Rc<Cell<u32>>,
    repeated: Task,
    host: Host,
}

impl Plugin for Worker {
    const ABOUT: About = about!();
    type Config = Config;

    fn routes() -> Router<Self> {
        Router::new().on::<Runs>(Self::runs).on::<Cancel>(Self::cancel)
    }

    async fn init(config: Config, host: Host) -> Result<Self> {
        let (begun, finished) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counters = (begun.clone(), finished.clone());
        let period = Duration::from_secs(config.period_secs);
        let repeated = host.every("repeated", period, async move || {
            counters.0.set(counters.0.get() + 1);
            pass(Duration::from_secs(config.run_secs)).await;
            match (config.fault.as_str(), counters.0.get()) {
                ("panic", 1) => panic!("the first goes wrong"),
                ("error", 1) => return Err(Error::new("NO_LUCK", "not this time")),
                _ => {}
            }
            counters.1.set(counters.1.get() + 1);
            Ok(())
        });
        let log = host.log();
        host.spawn("once", async move {
            log.info("begins");
            pass(Duration::from_secs(100)).await;
            log.info("ends");
            Err(Error::new("NO_END", "it has an error at its end"))
        });
        Ok(Self { begun, finished, repeated, host })
    }

    async fn save(&self) -> Result<()> {
        self.host.state().set("finished", &self.finished.get()).await?;
        Ok(())
    }

    async fn shutdown(&self, _: Reason, _: Deadline) -> Result<()> {
        // Long enough for whatever would still run.
        pass(Duration::from_secs(1)).await;
        let ended = self.repeated.is_finished();
        self.host.log().with("ended", ended).info(format_args!("begun {}", self.begun.get()));
        Ok(())
    }
}

#[allow(clippy::unused_async)] // A handler is async, whether it waits or not.
impl Worker {
    async fn runs(&self, (): ()) -> Result<Counted> {
        Ok(Counted { begun: self.begun.get(), finished: self.finished.get() })
    }

    async fn cancel(&self, (): ()) -> Result<bool> {
        self.repeated.cancel();
        tokio::task::yield_now().await;
        Ok(self.repeated.is_finished())
    }
}

async fn started(config: serde_json::Value) -> Running<Worker> {
    Harness::new().config(config).start().await.unwrap()
}

async fn after(worker: &Running<Worker>, seconds: u64) -> (u32, u32) {
    pass(Duration::from_secs(seconds)).await;
    let Counted { begun, finished } = worker.call::<Runs>(&()).await.unwrap();
    (begun, finished)
}

fn said(worker: &Running<Worker>, words: &str) -> bool {
    worker.logs().iter().any(|record| format!("{record:?}").contains(words))
}

#[test]
fn it_runs_once_in_each_period_and_never_twice_at_a_time() {
    paused(async {
        let worker = started(serde_json::json!({})).await;
        assert_eq!(after(&worker, 9).await, (0, 0));
        assert_eq!(after(&worker, 2).await, (1, 1));
        assert_eq!(after(&worker, 20).await, (3, 3));
        // One that takes longer than its period puts the next one off.
        let worker = started(serde_json::json!({ "runSecs": 25 })).await;
        assert_eq!(after(&worker, 34).await, (1, 0));
        assert_eq!(after(&worker, 2).await, (2, 1));
        assert!(worker.call::<Cancel>(&()).await.unwrap());
        assert_eq!(after(&worker, 1000).await, (2, 1), "cancelled");
    });
}

#[test]
fn what_goes_wrong_is_logged_and_the_next_run_comes() {
    paused(async {
        for (fault, words) in [("panic", "the first goes wrong"), ("error", "not this time")] {
            let worker = started(serde_json::json!({ "fault": fault })).await;
            assert_eq!(after(&worker, 21).await, (2, 1));
            assert!(said(&worker, words) && said(&worker, "repeated"), "{:?}", worker.logs());
            assert_eq!(said(&worker, "PANIC"), fault == "panic");
            after(&worker, 100).await;
            assert!(said(&worker, "ends") && said(&worker, "NO_END"));
        }
    });
}

#[test]
fn a_stop_finishes_the_run_that_has_begun_and_begins_none() {
    paused(async {
        let worker = started(serde_json::json!({ "runSecs": 2 })).await;
        assert_eq!(after(&worker, 11).await, (1, 0));
        let asked = tokio::time::Instant::now();
        worker.stop().await.unwrap();
        assert_eq!(worker.state()["finished"], 1, "before it was saved");
        assert!(said(&worker, "begun 1") && said(&worker, "(\"ended\", \"true\")"));
        // The work that was to last a hundred seconds holds nothing up.
        assert!(!said(&worker, "ends") && asked.elapsed() < Duration::from_secs(4));
    });
}

#[test]
fn a_run_that_hangs_costs_neither_the_state_nor_the_budget() {
    paused(async {
        let worker = started(serde_json::json!({ "runSecs": 3600 })).await;
        assert_eq!(after(&worker, 11).await, (1, 0));
        let asked = tokio::time::Instant::now();
        let error = worker.stop().await.unwrap_err();
        assert!(error.message().contains("1 still in flight"), "{error}");
        assert!(asked.elapsed() <= Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(worker.state()["finished"], 0, "saved all the same");
        assert!(said(&worker, "(\"ended\", \"true\")"), "given up: {:?}", worker.logs());
    });
}

#[test]
fn a_period_of_nothing_is_a_slip_that_fails_the_start() {
    paused(async {
        let harness = Harness::<Worker>::new().config(serde_json::json!({ "periodSecs": 0 }));
        let error = harness.start().await.map(|_| ()).unwrap_err();
        assert!(error.message().contains("its period is zero"), "{error}");
    });
}
