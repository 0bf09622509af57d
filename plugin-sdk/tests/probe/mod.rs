//! A plugin that does whatever a test asks of it.
#![allow(clippy::unused_async)] // A handler is async, whether it waits or not.
#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bulkhead_plugin_sdk::testing::pass;
use bulkhead_plugin_sdk::{
    About, Configured, Context, Deadline, Encoding, Error, Host, Method, Plugin, Reason, Result,
    Router, about,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Declares a method: its marker, name, request, reply, and other constants.
macro_rules! method {
    ($marker:ident, $name:literal, $request:ty => $reply:ty $(, $constant:ident: $kind:ty = $value:expr)*) => {
        pub struct $marker;

        impl Method for $marker {
            const NAME: &'static str = $name;
            $(const $constant: $kind = $value;)*
            type Request = $request;
            type Reply = $reply;
        }
    };
}

method!(Count, "count", () => u32);
method!(Add, "add", Sum => u64, ENCODING: Encoding = Encoding::Bincode);
method!(Wait, "wait", u64 => u64);
method!(WaitShielded, "wait-shielded", u64 => u64);
method!(Panic, "panic", String => ());
method!(Fail, "fail", String => ());
method!(Who, "who", () => Seen);
method!(AskWho, "ask-who", () => Seen);
method!(Forward, "forward", String => Value);
method!(Granted, "granted", String => bool);
method!(Measure, "measure", (String, f64) => ());
method!(Ask, "ask", () => u32);
method!(AskTwice, "ask", () => u32, IDEMPOTENT: bool = true);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    pub left: u64,
    pub right: u64,
}

/// What a handler sees of its call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub method: String,
    pub seconds_left: Option<u64>,
    pub trace: Option<[u8; 16]>,
    pub on_behalf_of: Option<String>,
}

impl Seen {
    fn of(context: &Context) -> Self {
        Self {
            method: context.method.clone(),
            seconds_left: context.deadline.map(|by| by.remaining().as_secs_f64().round() as u64),
            trace: context.trace.map(|trace| trace.trace_id),
            on_behalf_of: context.on_behalf_of.clone(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Seconds that each stage takes.
    pub init_secs: u64,
    pub save_secs: u64,
    pub shutdown_secs: u64,
    /// What goes wrong: `init`, `init-panic`, `save`, `save-panic`, `health`.
    pub fault: String,
    /// Call `other/ask` in the background, and note the outcome: `once` or `twice`.
    pub background: String,
}

pub struct Probe {
    config: RefCell<Config>,
    host: Host,
    count: Cell<u32>,
    finished: Rc<Cell<u64>>,
}

impl Plugin for Probe {
    const ABOUT: About = about!();
    type Config = Config;

    fn routes() -> Router<Self> {
        Router::new()
            .on::<Count>(Self::count)
            .on::<Add>(Self::add)
            .on::<Wait>(Self::wait)
            .on::<WaitShielded>(Self::wait_shielded)
            .on::<Panic>(Self::panic)
            .on::<Fail>(Self::fail)
            .on_with::<Who>(Self::who)
            .on::<AskWho>(Self::ask_who)
            .on::<Forward>(Self::forward)
            .on::<Granted>(Self::granted)
            .on::<Measure>(Self::measure)
    }

    async fn init(config: Config, host: Host) -> Result<Self> {
        pass(Duration::from_secs(config.init_secs)).await;
        match config.fault.as_str() {
            "init" => return Err(Error::new("NO_LUCK", "told to fail").with_details(&["init"])),
            "init-panic" => panic!("told to panic"),
            _ => {}
        }
        let background = host.clone();
        match config.background.as_str() {
            "once" => drop(tokio::task::spawn_local(async move {
                let outcome = background.call::<Ask>("other", &()).await;
                note(&background, outcome);
            })),
            "twice" => drop(tokio::task::spawn_local(async move {
                let outcome = background.call::<AskTwice>("other", &()).await;
                note(&background, outcome);
            })),
            _ => {}
        }
        let config = RefCell::new(config);
        Ok(Self { config, host, count: Cell::new(0), finished: Rc::default() })
    }

    async fn configure(&self, config: Config) -> Result<Configured> {
        match config.fault.as_str() {
            "init" => Err(Error::new("NO_LUCK", "told to refuse")),
            "init-panic" => panic!("told to panic"),
            "at-restart" => Ok(Configured::AtRestart),
            _ => {
                *self.config.borrow_mut() = config;
                Ok(Configured::Now)
            }
        }
    }

    async fn save(&self) -> Result<()> {
        let Config { save_secs, fault, .. } = self.config.borrow().clone();
        pass(Duration::from_secs(save_secs)).await;
        match fault.as_str() {
            "save" => return Err(Error::new("DISK_FULL", "told to fail")),
            "save-panic" => panic!("told to panic"),
            _ => {}
        }
        self.host.state().set("count", &self.count.get()).await?;
        Ok(())
    }

    async fn shutdown(&self, why: Reason, by: Deadline) -> Result<()> {
        let seconds_left = by.remaining().as_secs();
        self.host
            .log()
            .with("finished", self.finished.get())
            .with("seconds_left", seconds_left)
            .info(format_args!("shutting down: {why}"));
        let seconds = self.config.borrow().shutdown_secs;
        pass(Duration::from_secs(seconds)).await;
        Ok(())
    }

    async fn health(&self) -> Result<()> {
        match self.config.borrow().fault.as_str() {
            "health" => Err(Error::new("UNWELL", "told to be")),
            _ => Ok(()),
        }
    }
}

/// Notes the outcome of the background call where the test can see it whatever became of the session.
fn note(host: &Host, outcome: Result<u32>) {
    let text = match outcome {
        Ok(number) => number.to_string(),
        Err(error) => error.code().to_owned(),
    };
    let host = host.clone();
    tokio::task::spawn_local(async move { host.state().set("outcome", &text).await });
}

impl Probe {
    async fn count(&self, (): ()) -> Result<u32> {
        self.count.set(self.count.get() + 1);
        Ok(self.count.get())
    }

    async fn add(&self, sum: Sum) -> Result<u64> {
        sum.left
            .checked_add(sum.right)
            .ok_or_else(|| Error::new("TOO_LARGE", "the sum is above 2^64"))
    }

    async fn wait(&self, seconds: u64) -> Result<u64> {
        pass(Duration::from_secs(seconds)).await;
        self.finished.set(self.finished.get() + 1);
        Ok(seconds)
    }

    async fn wait_shielded(&self, seconds: u64) -> Result<u64> {
        let finished = self.finished.clone();
        let work = async move {
            pass(Duration::from_secs(seconds)).await;
            finished.set(finished.get() + 1);
            Ok(seconds)
        };
        self.host.shielded(work).await
    }

    async fn panic(&self, text: String) -> Result<()> {
        tokio::task::yield_now().await;
        panic!("{text}");
    }

    async fn fail(&self, code: String) -> Result<()> {
        Err(Error::new(code, "as asked").with_details(&Sum { left: 1, right: 2 }))
    }

    async fn who(&self, (): (), context: Context) -> Result<Seen> {
        Ok(Seen::of(&context))
    }

    async fn ask_who(&self, (): ()) -> Result<Seen> {
        self.host.call::<Who>("probe", &()).await
    }

    async fn granted(&self, permission: String) -> Result<bool> {
        Ok(self.host.is_granted(&permission))
    }

    async fn measure(&self, (name, value): (String, f64)) -> Result<()> {
        let metrics = self.host.metrics();
        match name.as_str() {
            "made_total" => {
                metrics.counter(&name, "made", &[("kind", "probe")]).add(value as u64);
            }
            "wait_seconds" => {
                let bounds = [0.1, 1.0];
                metrics
                    .histogram(&name, "waits", &[], &bounds)
                    .observe_duration(Duration::from_secs_f64(value));
            }
            _ => metrics.gauge(&name, "a level", &[]).set(value),
        }
        Ok(())
    }

    async fn forward(&self, text: String) -> Result<Value> {
        match text.as_str() {
            "publish" => self.host.events().publish("probe.said", &text)?,
            "log" => self.host.log().with("k", 1).warn("said"),
            "subscribe" => {
                let mut heard = self.host.events().subscribe("clinic.*");
                let state = self.host.state();
                tokio::task::spawn_local(async move {
                    while let Some(event) = heard.next().await {
                        let data: Value = event.decode().unwrap_or_default();
                        let _ = state.set(&format!("heard/{}", event.topic), &data).await;
                    }
                });
            }
            _ => {}
        }
        Ok(Value::Null)
    }
}
