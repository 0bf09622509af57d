//! A plugin that behaves, and tells what it saw: events, its configuration, who called it.

#![allow(clippy::unused_async, reason = "a handler is async, whether it waits or not")]

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_plugin_sdk::{
    About, CallOptions, Configured, Context, Error, Event, Host, Method, Plugin, Result, Router,
    Subscription, about,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    bulkhead_plugin_sdk::run::<Witness>()
}

/// `heard`: the first so many events since the start, which it waits for.
struct Heard;

impl Method for Heard {
    const NAME: &'static str = "heard";
    type Request = usize;
    type Reply = Vec<News>;
}

/// `publish`: tells others, so many times; objects are numbered then.
struct Publish;

impl Method for Publish {
    const NAME: &'static str = "publish";
    type Request = News;
    type Reply = ();
}

/// `set-state`: keeps a value.
struct SetState;

impl Method for SetState {
    const NAME: &'static str = "set-state";
    type Request = Value;
    type Reply = u64;
}

/// `get-state`: what was kept.
struct GetState;

impl Method for GetState {
    const NAME: &'static str = "get-state";
    type Request = ();
    type Reply = Option<Value>;
}

/// `may`: whether it is granted a permission, as it was told.
struct May;

impl Method for May {
    const NAME: &'static str = "may";
    type Request = String;
    type Reply = bool;
}

/// `read`: a file's text, where it can be read.
struct Read;

impl Method for Read {
    const NAME: &'static str = "read";
    type Request = String;
    type Reply = Option<String>;
}

/// `write`: makes a file, where it may.
struct Write;

impl Method for Write {
    const NAME: &'static str = "write";
    type Request = String;
    type Reply = bool;
}

/// `measure`: a series is so much now.
struct Measure;

impl Method for Measure {
    const NAME: &'static str = "measure";
    type Request = Measurement;
    type Reply = ();
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    name: String,
    label: String,
    value: f64,
}

/// `tick`: says so in the log.
struct Tick;

impl Method for Tick {
    const NAME: &'static str = "tick";
    type Request = ();
    type Reply = ();
}

/// `linger`: says so in the log, and waits for the first event since the start.
struct Linger;

impl Method for Linger {
    const NAME: &'static str = "linger";
    type Request = ();
    type Reply = ();
}

/// `echo`: the argument.
struct Echo;

impl Method for Echo {
    const NAME: &'static str = "echo";
    type Request = Value;
    type Reply = Value;
}

/// `die`: writes the lines to standard error, the last one without its end, and aborts.
struct Die;

impl Method for Die {
    const NAME: &'static str = "die";
    type Request = Vec<String>;
    type Reply = ();
}

/// `relay`: calls another plugin, and tells what came of that.
struct Relay;

impl Method for Relay {
    const NAME: &'static str = "relay";
    type Request = Onward;
    type Reply = Value;
}

/// A call to make: of `echo`, `linger` or `seen`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Onward {
    service: String,
    method: String,
    /// Else the deadline of the call that asks for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// `seen`: the configuration in force, and who asks.
struct Seen;

impl Method for Seen {
    const NAME: &'static str = "seen";
    type Request = ();
    type Reply = Value;
}

/// `ask`: connects to a pair through the host, and tells what is there before the end of the line.
struct Ask;

impl Method for Ask {
    const NAME: &'static str = "ask";
    type Request = String;
    type Reply = String;
}

/// `dial`: connects by itself, past the host.
struct Dial;

impl Method for Dial {
    const NAME: &'static str = "dial";
    type Request = String;
    type Reply = ();
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct News {
    topic: String,
    data: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
}

/// Any object. `live = true` takes the next configuration while it runs; `refuse` is the text with
/// which it refuses this one, `refuseStart` that with which it does not start with it.
type Config = Map<String, Value>;

struct Witness {
    host: Host,
    config: RefCell<Config>,
    heard: Mutex<(Subscription, Vec<News>)>,
}

impl Plugin for Witness {
    const ABOUT: About = about!();
    type Config = Config;

    fn routes() -> Router<Self> {
        Router::new()
            .on::<Heard>(Self::heard)
            .on::<Publish>(Self::publish)
            .on::<SetState>(Self::set_state)
            .on::<GetState>(Self::get_state)
            .on::<Ask>(Self::ask)
            .on::<Dial>(Self::dial)
            .on::<May>(Self::may)
            .on::<Read>(Self::read)
            .on::<Write>(Self::write)
            .on::<Measure>(Self::measure)
            .on::<Echo>(Self::echo)
            .on::<Die>(Self::die)
            .on::<Relay>(Self::relay)
            .on_with::<Tick>(Self::tick)
            .on::<Linger>(Self::linger)
            .on_with::<Seen>(Self::seen)
    }

    async fn init(config: Config, host: Host) -> Result<Self> {
        check(&config)?;
        if let Some(text) = config.get("refuseStart").and_then(Value::as_str) {
            return Err(Error::new("CONFIG_INVALID", text));
        }
        let heard = Mutex::new((host.events().subscribe("*"), Vec::new()));
        Ok(Self { host, config: RefCell::new(config), heard })
    }

    async fn configure(&self, config: Config) -> Result<Configured> {
        check(&config)?;
        if self.config.borrow().get("live") != Some(&Value::Bool(true)) {
            return Ok(Configured::AtRestart);
        }
        *self.config.borrow_mut() = config;
        Ok(Configured::Now)
    }
}

/// Says in the log that a call was withdrawn.
struct Withdrawn(Option<Host>);

impl Drop for Withdrawn {
    fn drop(&mut self) {
        if let Some(host) = self.0.take() {
            host.log().info("withdrawn");
        }
    }
}

fn check(config: &Config) -> Result<()> {
    match config.get("refuse").and_then(Value::as_str) {
        Some(text) => Err(Error::new("CONFIG_INVALID", text)),
        None => Ok(()),
    }
}

impl Witness {
    async fn heard(&self, count: usize) -> Result<Vec<News>> {
        let mut heard = self.heard.lock().await;
        let (subscription, news) = &mut *heard;
        while news.len() < count {
            let Some(event) = subscription.next().await else { break };
            let mut data: Value = event.decode()?;
            // What only makes an event long is not told again.
            if let Value::Object(data) = &mut data {
                data.remove("padding");
            }
            let Event { topic, .. } = event;
            news.push(News { topic, data, times: None });
        }
        Ok(news.iter().take(count).cloned().collect())
    }

    async fn publish(&self, news: News) -> Result<()> {
        let News { topic, mut data, times } = news;
        let times = times.unwrap_or(1);
        for number in 0..times {
            if let (Value::Object(data), true) = (&mut data, times > 1) {
                data.insert("number".to_owned(), json!(number));
            }
            self.host.events().publish(&topic, &data)?;
        }
        Ok(())
    }

    async fn set_state(&self, value: Value) -> Result<u64> {
        self.host.state().set("state", &value).await
    }

    async fn get_state(&self, (): ()) -> Result<Option<Value>> {
        self.host.state().get("state").await
    }

    async fn ask(&self, pair: String) -> Result<String> {
        let stream = self.host.network().connect(&pair).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.map_err(Error::internal)?;
        Ok(line.trim_end().to_owned())
    }

    async fn dial(&self, address: String) -> Result<()> {
        let dialled = std::net::TcpStream::connect(address);
        dialled.map(drop).map_err(|err| Error::new("NOT_DIALLED", err.to_string()))
    }

    async fn may(&self, permission: String) -> Result<bool> {
        Ok(self.host.is_granted(&permission))
    }

    async fn read(&self, path: String) -> Result<Option<String>> {
        Ok(std::fs::read_to_string(path).ok())
    }

    async fn write(&self, path: String) -> Result<bool> {
        Ok(std::fs::write(path, "written").is_ok())
    }

    async fn measure(&self, measurement: Measurement) -> Result<()> {
        let Measurement { name, label, value } = measurement;
        let metrics = self.host.metrics();
        let labels = [("of", label.as_str())];
        if name.ends_with("_total") {
            metrics.counter(&name, "counted by the witness", &labels).add(value as u64);
        } else if name.ends_with("_seconds") {
            metrics.histogram(&name, "timed by the witness", &labels, &[0.5, 1.0]).observe(value);
        } else {
            metrics.gauge(&name, "seen by the witness", &labels).set(value);
        }
        Ok(())
    }

    async fn tick(&self, (): (), context: Context) -> Result<()> {
        let traced = context.trace.is_some();
        self.host.log().with("traced", traced).info("tick");
        Ok(())
    }

    async fn linger(&self, (): ()) -> Result<()> {
        let mut withdrawn = Withdrawn(Some(self.host.clone()));
        self.host.log().info("lingering");
        let heard = self.heard(1).await;
        withdrawn.0 = None;
        heard.map(drop)
    }

    async fn echo(&self, argument: Value) -> Result<Value> {
        Ok(argument)
    }

    async fn die(&self, lines: Vec<String>) -> Result<()> {
        eprint!("{}", lines.join("\n"));
        std::process::abort();
    }

    async fn relay(&self, onward: Onward) -> Result<Value> {
        let Onward { service, method, timeout_ms } = onward;
        let timeout = timeout_ms.map(Duration::from_millis);
        let options = CallOptions { timeout, ..CallOptions::default() };
        let (host, service) = (&self.host, service.as_str());
        let result = match method.as_str() {
            "echo" => host.call_with::<Echo>(service, &json!("echo"), options).await,
            "linger" => host.call_with::<Linger>(service, &(), options).await.map(|()| Value::Null),
            _ => host.call_with::<Seen>(service, &(), options).await,
        };
        Ok(match result {
            Ok(reply) => json!({ "reply": reply }),
            Err(error) => json!({ "error": {
                "code": error.code(),
                "message": error.message(),
                "details": error.details(),
            } }),
        })
    }

    async fn seen(&self, (): (), context: Context) -> Result<Value> {
        Ok(json!({
            "config": *self.config.borrow(),
            "onBehalfOf": context.on_behalf_of,
            "leftMs": context.deadline.map(|deadline| deadline.remaining().as_millis() as u64),
            "trace": context.trace.map(|trace| trace.trace_id),
        }))
    }
}
