//! Write a plugin for Bulkhead: implement [`Plugin`], hand it to [`run`].
//!
//! A plugin is an ordinary program. It declares methods as types ([`Method`]), answers them with async functions
//! ([`Router`]), and asks its [`Host`] for the rest: saved state, events, logs, other plugins. It runs on one thread,
//! in a compartment without network or files beyond its own, and lives on when the supervisor restarts.
//!
//! A whole plugin, and its test:
//!
//! ```
//! use bulkhead_plugin_sdk::{About, Error, Host, Method, Plugin, Result, Router, about};
//! use serde::{Deserialize, Serialize};
//!
//! struct Greet;
//!
//! impl Method for Greet {
//!     const NAME: &'static str = "greet";
//!     type Request = String;
//!     type Reply = Greeting;
//! }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Greeting {
//!     text: String,
//!     visits: u32,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     salutation: String,
//! }
//!
//! struct Greeter {
//!     config: Config,
//!     host: Host,
//! }
//!
//! impl Greeter {
//!     async fn greet(&self, name: String) -> Result<Greeting> {
//!         if name.is_empty() {
//!             return Err(Error::new("NAME_EMPTY", "the name is empty; say whom to greet"));
//!         }
//!         let key = format!("visits/{name}");
//!         let visits = self.host.state().get(&key).await?.unwrap_or(0) + 1;
//!         self.host.state().set(&key, &visits).await?;
//!         self.host.log().with("visits", visits).info("greeted someone");
//!         Ok(Greeting { text: format!("{}, {name}!", self.config.salutation), visits })
//!     }
//! }
//!
//! impl Plugin for Greeter {
//!     const ABOUT: About = about!();
//!     type Config = Config;
//!
//!     fn routes() -> Router<Self> {
//!         Router::new().on::<Greet>(Self::greet)
//!     }
//!
//!     async fn init(config: Config, host: Host) -> Result<Self> {
//!         Ok(Self { config, host })
//!     }
//! }
//!
//! # #[allow(unused)]
//! fn main() -> std::process::ExitCode {
//!     # if true { test(); return std::process::ExitCode::SUCCESS; }
//!     bulkhead_plugin_sdk::run::<Greeter>()
//! }
//!
//! // What would be a #[test]: the real codec, session and serve loop, in memory.
//! fn test() {
//!     use bulkhead_plugin_sdk::testing::{Harness, paused};
//!
//!     paused(async {
//!         let config = serde_json::json!({ "salutation": "Kia ora" });
//!         let greeter = Harness::<Greeter>::new().config(config).start().await.unwrap();
//!         greeter.call::<Greet>(&"Hine".into()).await.unwrap();
//!         let second = greeter.call::<Greet>(&"Hine".into()).await.unwrap();
//!         assert_eq!(second, Greeting { text: "Kia ora, Hine!".into(), visits: 2 });
//!         assert_eq!(greeter.state()["visits/Hine"], 2);
//!
//!         let error = greeter.call::<Greet>(&String::new()).await.unwrap_err();
//!         assert_eq!(error.code(), "NAME_EMPTY");
//!         greeter.stop().await.unwrap();
//!     });
//! }
//! ```
//!
//! The guide is `docs/plugin-authors.md`; `examples/` has a pair of plugins that call each other.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod about;
mod body;
mod bootstrap;
mod concurrent;
mod context;
mod deadline;
mod error;
mod host;
mod method;
mod panic;
mod pending;
mod plugin;
mod reason;
mod router;
mod run;
mod serve;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;

pub use about::About;
pub use bulkhead_ipc_protocol::{Encoding, Level, Payload, TraceContext};
pub use context::Context;
pub use deadline::Deadline;
pub use error::{Error, Result, code};
pub use host::{
    Cache, CacheLimits, CacheStats, CallOptions, Counter, DEFAULT_CALL_TIMEOUT, Entry, Event,
    Events, Gauge, Histogram, Host, Log, Metrics, Network, State, Subscription, Task,
};
pub use method::Method;
pub use plugin::{Configured, Plugin};
pub use reason::Reason;
pub use router::{Handler, Listener, Router};
pub use run::{RESUME_SECS, run};
pub use streams::{StreamError, StreamReader, StreamWriter, Streams};
pub use topic::Topic;

/// The guide's examples, as tests.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../docs/plugin-authors.md")]
struct Guide;
