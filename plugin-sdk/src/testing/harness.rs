//! Setting a plugin up for a test.

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_ipc_driver::IncomingCall;
use bulkhead_ipc_protocol::CallError;
use serde::Serialize;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::manifest;
use super::memory_host::{Answerer, Memory};
use super::running::Running;
use crate::body;
use crate::error::{Result, code};
use crate::method::Method;
use crate::plugin::Plugin;
use crate::serve::{Patience, Sessions};

/// A plugin to be tested, before its start.
#[must_use = "call `start` to have a plugin"]
pub struct Harness<P> {
    pub(super) setup: Setup,
    pub(super) memory: Rc<Memory>,
    plugin: PhantomData<fn() -> P>,
}

/// What each start of the plugin is given.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) config: String,
    pub(super) permissions: Vec<String>,
    pub(super) patience: Patience,
    /// What the manifest subscribes to; none: there is no manifest to be held to.
    pub(super) subscribed: Option<Vec<String>>,
}

impl<P: Plugin> Harness<P> {
    /// Without configuration, state or granted permissions. The plugin is held to what `plugin.toml` beside its
    /// `Cargo.toml` subscribes to, where cargo runs the test and the manifest's id is the crate's name.
    ///
    /// # Panics
    /// When that file is not TOML.
    pub fn new() -> Self {
        let setup = Setup {
            config: "{}".to_owned(),
            permissions: Vec::new(),
            patience: Patience::default(),
            subscribed: manifest::beside_the_crate(P::ABOUT.name),
        };
        Self { setup, memory: Rc::default(), plugin: PhantomData }
    }

    /// With this manifest, `include_str!("../plugin.toml")`: a topic that the plugin handles must be in its `[events]
    /// subscribes`, and only what is can be published to it.
    ///
    /// # Panics
    /// When it is not TOML.
    pub fn manifest(mut self, manifest: &str) -> Self {
        let (_, subscribed) = manifest::parse(manifest).expect("plugin.toml is a manifest");
        self.setup.subscribed = Some(subscribed);
        self
    }

    /// With this configuration.
    pub fn config(mut self, config: Value) -> Self {
        self.setup.config = config.to_string();
        self
    }

    /// With a permission granted.
    pub fn permission(mut self, permission: impl Into<String>) -> Self {
        self.setup.permissions.push(permission.into());
        self
    }

    /// With a saved state, from an earlier run as it were.
    ///
    /// # Panics
    /// When the value cannot be JSON.
    pub fn state(self, key: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Self {
        let value = serde_json::to_vec(value).expect("state is JSON");
        self.memory.state.borrow_mut().insert(key.into(), (1, value));
        self
    }

    /// With a `host:port` pair granted, for which the test's own listener at `address` answers.
    pub fn connection(self, pair: impl Into<String>, address: std::net::SocketAddr) -> Self {
        self.memory.peers.borrow_mut().insert(pair.into(), address);
        self
    }

    /// With a stand-in for another plugin's method `M` of `service`.
    pub fn answer<M: Method>(
        self,
        service: &str,
        answer: impl AsyncFn(M::Request) -> Result<M::Reply> + 'static,
    ) -> Self {
        let answer = Rc::new(answer);
        let answerer: Answerer = Rc::new(move |call: IncomingCall| {
            let answer = answer.clone();
            Box::pin(async move {
                let request = body::decode(code::REQUEST_INVALID, &call.payload)?;
                let reply = answer(request).await?;
                Ok::<_, CallError>(body::encode(call.payload.encoding, &reply)?)
            })
        });
        self.memory.answers.borrow_mut().insert(format!("{service}/{}", M::NAME), answerer);
        self
    }

    /// With another plugin under test as the provider of `service`.
    pub fn service<Q: Plugin>(self, service: &str, provider: &Running<Q>) -> Self {
        self.memory.answers.borrow_mut().insert(service.to_owned(), provider.answerer());
        self
    }

    /// With this resume time instead of 30 s: how long the plugin lives without a session.
    pub fn resume_time(mut self, time: Duration) -> Self {
        self.setup.patience.resume = time;
        self
    }

    /// Starts the plugin: handshake, then `init`.
    ///
    /// # Errors
    /// What `init` fails with.
    ///
    /// # Panics
    /// Outside [`paused`](super::paused) or another `LocalSet`.
    pub async fn start(self) -> Result<Running<P>> {
        let running = Running::launch(self.setup, self.memory);
        running.initialize().await?;
        Ok(running)
    }

    /// Starts the plugin and stops before `init`, for tests of what happens in between.
    ///
    /// # Panics
    /// As [`Harness::start`].
    pub fn start_uninitialized(self) -> Running<P> {
        Running::launch(self.setup, self.memory)
    }
}

impl<P: Plugin> Default for Harness<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Sessions from a test instead of the bootstrap socket.
pub(super) struct FromTest(pub(super) mpsc::UnboundedReceiver<DuplexStream>);

impl Sessions for FromTest {
    type Stream = DuplexStream;

    async fn next(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}
