//! The router's handlers of events: order, bounds, faults, and the end.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]
#![allow(clippy::unused_async)] // A handler is async, whether it waits or not.

use std::cell::RefCell;
use std::time::Duration;

use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused, until};
use bulkhead_plugin_sdk::{
    About, Context, Error, Host, Method, Plugin, Result, Router, Topic, about, code,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What was heard, in order.
struct Heard;

impl Method for Heard {
    const NAME: &'static str = "heard";
    type Request = ();
    type Reply = (Vec<String>, u64);
}

#[derive(Debug, Serialize, Deserialize)]
struct Visit {
    number: u32,
    /// Seconds that its handling takes.
    #[serde(default)]
    takes: u64,
}

impl Topic for Visit {
    const NAME: &'static str = "clinic.visit";
    type Data = Self;
}

struct Anything;

impl Topic for Anything {
    const NAME: &'static str = "clinic.*";
    type Data = Value;
}

/// Writes down what it hears.
struct Chronicle {
    heard: RefCell<Vec<String>>,
    host: Host,
}

impl Plugin for Chronicle {
    const ABOUT: About = about!();
    type Config = ();

    fn routes() -> Router<Self> {
        Router::new()
            .on::<Heard>(Self::heard)
            .on_event::<Visit>(Self::visit)
            .on_event_with::<Anything>(Self::anything)
    }

    async fn init((): (), host: Host) -> Result<Self> {
        pass(Duration::from_secs(1)).await;
        Ok(Self { heard: RefCell::default(), host })
    }

    async fn save(&self) -> Result<()> {
        let heard = self.heard.borrow().clone();
        self.host.state().set("heard", &heard).await?;
        Ok(())
    }
}

impl Chronicle {
    async fn heard(&self, (): ()) -> Result<(Vec<String>, u64)> {
        Ok((self.heard.borrow().clone(), self.host.events().dropped::<Visit>()))
    }

    async fn visit(&self, visit: Visit) -> Result<()> {
        match visit.number {
            13 => panic!("no thirteen"),
            14 => return Err(Error::new("NO_ROOM", "the room is taken")),
            _ => {}
        }
        pass(Duration::from_secs(visit.takes)).await;
        self.heard.borrow_mut().push(format!("visit {}", visit.number));
        Ok(())
    }

    async fn anything(&self, _: Value, context: Context) -> Result<()> {
        self.heard.borrow_mut().push(context.method);
        Ok(())
    }
}

const SUBSCRIBES: &str = "id = 'x'\n[events]\nsubscribes = ['clinic.*']";

async fn started() -> Running<Chronicle> {
    Harness::new().manifest(SUBSCRIBES).start().await.unwrap()
}

fn visit(plugin: &Running<Chronicle>, number: u32, takes: u64) {
    plugin.publish_on::<Visit>(&Visit { number, takes }).unwrap();
}

/// What was heard once there is nothing left to do, and how many visits were lost.
async fn heard(plugin: &Running<Chronicle>) -> (Vec<String>, u64) {
    pass(Duration::from_millis(1)).await;
    plugin.call::<Heard>(&()).await.unwrap()
}

#[test]
fn a_topic_is_heard_in_order_and_a_slow_handler_holds_up_only_its_own() {
    paused(async {
        let plugin = started().await;
        visit(&plugin, 1, 60);
        visit(&plugin, 2, 0);
        plugin.publish("clinic.closed", &()).unwrap();
        // The pattern's handler hears all three; the visits wait for the first of them.
        let (all, _) = heard(&plugin).await;
        assert_eq!(all, ["clinic.visit", "clinic.visit", "clinic.closed"]);
        pass(Duration::from_secs(61)).await;
        let (all, _) = heard(&plugin).await;
        assert_eq!(all[3..], ["visit 1", "visit 2"]);
    });
}

#[test]
fn what_comes_before_init_is_over_is_not_lost() {
    paused(async {
        let plugin = Harness::<Chronicle>::new().start_uninitialized();
        visit(&plugin, 1, 0);
        plugin.initialize().await.unwrap();
        let (all, _) = heard(&plugin).await;
        assert_eq!(all.len(), 2, "{all:?}");
        // A supervisor that starts anew finds the same plugin, which hears each event once.
        plugin.lose_session();
        assert!(plugin.resume().await.unwrap());
        visit(&plugin, 2, 0);
        let (all, _) = heard(&plugin).await;
        assert_eq!(all.len(), 4, "{all:?}");
    });
}

#[test]
fn what_goes_wrong_is_logged_and_the_next_event_is_heard() {
    paused(async {
        let plugin = started().await;
        visit(&plugin, 13, 0);
        visit(&plugin, 14, 0);
        plugin.publish("clinic.visit", &json!({ "number": "Miguel" })).unwrap();
        visit(&plugin, 15, 0);
        let (all, _) = heard(&plugin).await;
        assert!(all.contains(&"visit 15".to_owned()), "{all:?}");
        let logs: Vec<String> = plugin.logs().iter().map(|one| format!("{one:?}")).collect();
        let told = |words: &[&str]| {
            let all = |line: &&String| words.iter().all(|word| line.contains(word));
            assert!(logs.iter().any(|line| all(&line)), "{words:?}: {logs:?}");
        };
        told(&["Error", "no thirteen", "clinic.visit"]);
        told(&["Warn", "the room is taken", "NO_ROOM"]);
        told(&["Warn", "does not fit", "number"]);
        assert!(!logs.iter().any(|line| line.contains("Miguel")), "data is not logged: {logs:?}");
    });
}

#[test]
fn a_handler_that_does_not_keep_up_loses_what_is_beyond_the_bound() {
    paused(async {
        let plugin = started().await;
        visit(&plugin, 0, 60);
        // Taken from the queue, and being handled.
        assert_eq!(heard(&plugin).await.1, 0);
        for number in 101..=400 {
            visit(&plugin, number, 0);
        }
        let (_, dropped) = heard(&plugin).await;
        assert_eq!(dropped, 300 - 256);
        pass(Duration::from_secs(61)).await;
        let (all, dropped) = heard(&plugin).await;
        assert_eq!(all.iter().filter(|line| line.starts_with("visit")).count(), 257);
        assert_eq!(dropped, 44);
        let logs = plugin.logs();
        let topic = ("topic".to_owned(), "clinic.visit".to_owned());
        let told: Vec<_> = logs.iter().filter(|one| one.fields.contains(&topic)).collect();
        assert_eq!(told.len(), 1, "once for all of them: {logs:?}");
        assert!(told[0].message.contains("were lost"), "{told:?}");
        assert!(told[0].fields.contains(&("dropped".to_owned(), "44".to_owned())));
    });
}

#[test]
fn a_stop_handles_what_waits_before_it_saves() {
    paused(async {
        let plugin = started().await;
        for number in 1..=3 {
            visit(&plugin, number, 0);
        }
        plugin.stop().await.unwrap();
        let saved = plugin.state()["heard"].to_string();
        assert!(saved.contains("visit 3"), "{saved}");
    });
}

#[test]
fn a_handler_that_hangs_costs_neither_the_state_nor_the_budget() {
    paused(async {
        let plugin = started().await;
        visit(&plugin, 1, 3600);
        visit(&plugin, 2, 0);
        heard(&plugin).await;
        let asked = tokio::time::Instant::now();
        let error = plugin.stop().await.unwrap_err();
        assert!(error.message().contains("1 still in flight"), "{error}");
        assert!(asked.elapsed() <= Duration::from_secs(5), "{:?}", asked.elapsed());
        let saved = plugin.state()["heard"].to_string();
        assert!(saved.contains("clinic.visit") && !saved.contains("visit 2"), "{saved}");
    });
}

#[test]
fn a_handler_without_a_subscription_is_an_error_at_the_start() {
    paused(async {
        for subscribes in ["", "[events]\nsubscribes = ['clinics', 'other.*']"] {
            let harness = Harness::<Chronicle>::new().manifest(subscribes);
            let error = harness.start().await.map(|_| ()).unwrap_err();
            assert_eq!(error.code(), code::NOT_SUBSCRIBED);
            assert_eq!(error.details().unwrap()["topics"], json!(["clinic.*", "clinic.visit"]));
        }
        // One of many topics is enough for a pattern.
        let one = "[events]\nsubscribes = ['clinic.visit']";
        let plugin = Harness::<Chronicle>::new().manifest(one).start().await.unwrap();
        visit(&plugin, 1, 0);
        // And nothing else comes.
        let error = plugin.publish("clinic.closed", &()).unwrap_err();
        assert_eq!(error.code(), code::NOT_SUBSCRIBED);
        assert_eq!(heard(&plugin).await.0.len(), 2);
    });
}

#[test]
fn what_a_plugin_publishes_by_type_has_its_topic() {
    struct Teller;
    impl Plugin for Teller {
        const ABOUT: About = about!();
        type Config = ();
        fn routes() -> Router<Self> {
            Router::new()
        }
        async fn init((): (), host: Host) -> Result<Self> {
            host.events().publish_on::<Visit>(&Visit { number: 7, takes: 0 })?;
            Ok(Self)
        }
    }
    paused(async {
        let plugin = Harness::<Teller>::new().start().await.unwrap();
        until(|| !plugin.published().is_empty()).await;
        let published = plugin.published();
        assert_eq!(published[0].topic, "clinic.visit");
        assert_eq!(published[0].data["number"], 7);
    });
}

#[test]
#[should_panic(expected = "`clinic.visit` has two handlers")]
fn a_topic_has_one_handler() {
    let _ = Chronicle::routes().on_event::<Visit>(Chronicle::visit);
}
