//! A plugin under test, and what a test can do to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_ipc_driver::{OpenCall, Peer};
use bulkhead_ipc_protocol::lifecycle::{
    CONFIGURE, ConfigureReply, ConfigureRequest, HEALTH, INIT, InitReply, InitRequest, PERMISSIONS,
    PermissionsChanged,
};
use bulkhead_ipc_protocol::message::Streams;
use bulkhead_ipc_protocol::metrics::{MetricsPush, Series, SeriesValue};
use bulkhead_ipc_protocol::{
    Call, CallError, CallFailure, Drain, EndReason, Hello, Limits, LogRecord, Payload,
};
use bytes::Bytes;
use semver::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::harness::{FromTest, Setup};
use super::memory_host::{Answerer, Memory, MemoryHost, Published};
use crate::body;
use crate::error::{Error, Result, code};
use crate::host::Registry;
use crate::method::Method;
use crate::plugin::Plugin;
use crate::serve::{Ending, Given, serve};
use crate::topic::{Topic, hears};

/// How much the in-memory stream holds each way.
const STREAM_BYTES: usize = 64 * 1024;

/// The budget of [`Running::stop`].
const STOP_BUDGET: Duration = Duration::from_secs(5);

/// A plugin under test. Dropping it ends the plugin as a kill would.
pub struct Running<P> {
    setup: Setup,
    memory: Rc<Memory>,
    /// What the plugin measures, as it does.
    metrics: Registry,
    process: RefCell<Option<JoinHandle<Ending>>>,
    /// None: the launcher is gone.
    sessions: RefCell<Option<mpsc::UnboundedSender<DuplexStream>>>,
    session: Rc<RefCell<Option<Session>>>,
    terminate: Arc<Notify>,
    plugin: PhantomData<fn() -> P>,
}

struct Session {
    peer: Peer,
    driver: JoinHandle<EndReason>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A plugin that has ended in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Its goodbye; nothing when there was no session to say it on.
    pub goodbye: Option<String>,
}

impl<P: Plugin> Running<P> {
    pub(super) fn launch(setup: Setup, memory: Rc<Memory>) -> Self {
        let (sessions, received) = mpsc::unbounded_channel();
        let terminate = Arc::new(Notify::new());
        let terminated = {
            let terminate = terminate.clone();
            async move { terminate.notified().await }
        };
        // Its own set of tasks: all of them end with it, as the threads of a process do.
        let tasks = tokio::task::LocalSet::new();
        let metrics = Registry::default();
        let given = Given {
            connections: memory.connections.clone(),
            log_sink: memory.log_sink(),
            metrics: metrics.clone(),
            subscribed: setup.subscribed.clone(),
            patience: setup.patience,
        };
        let process = tokio::task::spawn_local(async move {
            let served = serve::<P, _>(FromTest(received), terminated, given);
            tasks.run_until(served).await
        });
        let running = Self {
            setup,
            memory,
            metrics,
            process: RefCell::new(Some(process)),
            sessions: RefCell::new(Some(sessions)),
            session: Rc::default(),
            terminate,
            plugin: PhantomData,
        };
        running.open_session();
        running
    }

    /// Gives the plugin a session, as a supervisor does that starts.
    fn open_session(&self) {
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        let hello =
            Hello::new("bulkhead", Version::new(0, 0, 0)).expect("a short name and version");
        let host = MemoryHost(self.memory.clone());
        let (peer, driver) = bulkhead_ipc_driver::connect(ours, hello, Limits::default(), host);
        let driver = tokio::task::spawn_local(driver);
        *self.session.borrow_mut() = Some(Session { peer, driver });
        if let Some(sessions) = self.sessions.borrow().as_ref() {
            // A plugin that has ended takes no session: the calls on it will say so.
            let _ = sessions.send(theirs);
        }
    }

    /// Calls `init`, as the supervisor does at the start and after its own restart. Returns whether the plugin was
    /// there already.
    ///
    /// # Errors
    /// What `init` fails with.
    pub async fn initialize(&self) -> Result<bool> {
        let request = InitRequest {
            plugin_id: P::ABOUT.name.to_owned(),
            version: P::ABOUT.version.to_owned(),
            config: self.setup.config.clone(),
            permissions: self.setup.permissions.clone(),
        };
        let payload = Payload::bincode(&request).map_err(Error::internal)?;
        let reply = self.send(Call::new(INIT, payload)).await?;
        let reply: InitReply = reply.decode_bincode().map_err(Error::internal)?;
        Ok(reply.resumed)
    }

    /// Gives the plugin another configuration, as the supervisor does while it runs. Returns whether it is in
    /// force.
    ///
    /// # Errors
    /// What [`Plugin::configure`] fails with.
    pub async fn configure(&self, config: Value) -> Result<bool> {
        let request = ConfigureRequest { config: config.to_string() };
        let payload = Payload::bincode(&request).map_err(Error::internal)?;
        let reply = self.send(Call::new(CONFIGURE, payload)).await?;
        let reply: ConfigureReply = reply.decode_bincode().map_err(Error::internal)?;
        Ok(reply.applied)
    }

    /// Calls the method `M`.
    ///
    /// # Errors
    /// What the plugin answers; `SESSION_LOST` without a session.
    pub async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Reply> {
        let payload = body::encode(M::ENCODING, request)?;
        let reply = self.send(Call::new(M::NAME, payload)).await?;
        body::decode(code::REPLY_INVALID, &reply)
    }

    /// Calls a method with JSON, as the HTTP API and the command line do.
    ///
    /// # Errors
    /// As [`Running::call`].
    pub async fn call_json(&self, method: &str, request: Value) -> Result<Value> {
        let payload = Payload::json_bytes(request.to_string());
        self.call_payload(method, payload).await
    }

    /// Calls a method with a payload as it is. The reply is JSON.
    ///
    /// # Errors
    /// As [`Running::call`].
    pub async fn call_payload(&self, method: &str, payload: Payload) -> Result<Value> {
        let reply = self.send(Call::new(method, payload)).await?;
        body::decode(code::REPLY_INVALID, &reply)
    }

    /// Calls the method `M` and sends `pieces` as its upload.
    ///
    /// # Errors
    /// As [`Running::call`].
    pub async fn upload<M: Method>(
        &self,
        request: &M::Request,
        pieces: impl IntoIterator<Item = Bytes>,
    ) -> Result<M::Reply> {
        let call = Call::new(M::NAME, body::encode(M::ENCODING, request)?);
        let OpenCall { reply, upload, .. } = self.peer()?.open(call, Streams::UPLOAD)?;
        let mut upload = upload.expect("an upload was asked for");
        let send = async {
            for piece in pieces {
                // A plugin that wants no more says why in its reply.
                if upload.write(piece).await.is_err() {
                    return;
                }
            }
            let _ = upload.end();
        };
        let ((), reply) = tokio::join!(send, reply);
        body::decode(code::REPLY_INVALID, &reply?)
    }

    /// Makes a call with everything that one can have: deadline, trace, acting person.
    ///
    /// # Errors
    /// As [`Running::call`].
    pub async fn send(&self, call: Call) -> Result<Payload> {
        let peer = self.peer()?;
        peer.call(call).await.map_err(Error::from)
    }

    /// Tells the plugin that it is granted these permissions from now on, as when an operator grants or revokes
    /// one while it runs.
    ///
    /// # Errors
    /// `SESSION_LOST` without a session.
    pub async fn permit(&self, permissions: &[&str]) -> Result<()> {
        let permissions = permissions.iter().map(|one| (*one).to_owned()).collect();
        let payload = Payload::bincode(&PermissionsChanged { permissions });
        self.send(Call::new(PERMISSIONS, payload.map_err(Error::internal)?)).await.map(|_| ())
    }

    /// Asks for the plugin's health.
    ///
    /// # Errors
    /// What the plugin answers.
    pub async fn health(&self) -> Result<()> {
        let payload = Payload::bincode(&()).map_err(Error::internal)?;
        self.send(Call::new(HEALTH, payload)).await.map(|_| ())
    }

    /// Sends an event to the plugin.
    ///
    /// # Errors
    /// `SESSION_LOST` without a session; [`code::NOT_SUBSCRIBED`] when the manifest does not subscribe to the topic:
    /// no host would send it.
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, data: &T) -> Result<()> {
        if let Some(subscribed) = &self.setup.subscribed
            && !subscribed.iter().any(|pattern| hears(pattern, topic))
        {
            let message = format!(
                "no host would send `{topic}`: plugin.toml does not subscribe to it; add it to [events] subscribes"
            );
            return Err(Error::new(code::NOT_SUBSCRIBED, message));
        }
        let payload = Payload::json_bytes(serde_json::to_vec(data)?);
        self.peer()?.publish(topic, payload).map_err(Error::from)
    }

    /// Sends an event to the plugin, on a topic that is a type.
    ///
    /// # Errors
    /// As [`Running::publish`].
    pub fn publish_on<T: Topic>(&self, data: &T::Data) -> Result<()> {
        self.publish(T::NAME, data)
    }

    /// What the plugin has saved, by key.
    pub fn state(&self) -> BTreeMap<String, Value> {
        let state = self.memory.state.borrow();
        let value = |json: &[u8]| serde_json::from_slice(json).unwrap_or(Value::Null);
        state.iter().map(|(key, (_, json))| (key.clone(), value(json))).collect()
    }

    /// What the plugin has saved under a key, and its version.
    ///
    /// # Errors
    /// When it is not a `T`.
    pub fn saved<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(u64, T)>> {
        let state = self.memory.state.borrow();
        let Some((version, json)) = state.get(key) else { return Ok(None) };
        Ok(Some((*version, body::from_json(code::REPLY_INVALID, json)?)))
    }

    /// What the plugin has logged.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.memory.logs()
    }

    /// What the plugin has published.
    pub fn published(&self) -> Vec<Published> {
        self.memory.published.borrow().clone()
    }

    /// What the plugin has measured since its start: the value of a counter or gauge, how many observations of a
    /// histogram. `None`: there is no such series. The order of the labels is of no account.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        value_of(&self.metrics.snapshot(), name, labels)
    }

    /// The same of what the plugin has told its host, a moment after it measured it.
    pub fn told_metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        value_of(&self.memory.metrics.borrow(), name, labels)
    }

    /// The host forgets what it was told of metrics, as a supervisor does that starts anew.
    pub fn forget_metrics(&self) {
        *self.memory.metrics.borrow_mut() = MetricsPush::default();
    }

    /// From now on, calls of the plugin to `method` fail with `error`: `bulkhead.host/state.set` for a full disk, say.
    pub fn fail(&self, method: &str, error: Error) {
        self.memory.faults.borrow_mut().insert(method.to_owned(), error.into());
    }

    /// Takes [`Running::fail`] back.
    pub fn recover(&self, method: &str) {
        self.memory.faults.borrow_mut().remove(method);
    }

    /// Ends the session without a word, as a supervisor does that is killed.
    pub fn lose_session(&self) {
        self.session.borrow_mut().take();
    }

    /// A supervisor starts anew: another session, and `init`. Returns whether the plugin says that it was there
    /// already.
    ///
    /// # Errors
    /// What `init` fails with.
    pub async fn resume(&self) -> Result<bool> {
        self.open_session();
        self.initialize().await
    }

    /// Drains the plugin, as a disable does, and waits for its end.
    ///
    /// # Errors
    /// What went wrong on the way, as when `save` fails.
    pub async fn stop(&self) -> Result<Stopped> {
        self.drain("disable", STOP_BUDGET, true).await
    }

    /// Drains the plugin for `reason` within `budget`, and waits for its end.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn drain(&self, reason: &str, budget: Duration, save_state: bool) -> Result<Stopped> {
        let peer = self.peer()?;
        peer.drain(Drain { budget, reason: reason.to_owned(), save_state });
        self.ended().await
    }

    /// Sends the plugin a SIGTERM, as it were, and waits for its end.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn terminate(&self) -> Result<Stopped> {
        self.terminate.notify_one();
        self.ended().await
    }

    /// Waits for the plugin's end.
    ///
    /// # Errors
    /// As [`Running::stop`].
    ///
    /// # Panics
    /// When the plugin's end was waited for before.
    pub async fn ended(&self) -> Result<Stopped> {
        let process =
            self.process.borrow_mut().take().expect("the plugin's end was not waited for yet");
        let ending = process.await.map_err(|err| Error::new(code::PANIC, err.to_string()))?;
        let session = self.session.borrow_mut().take();
        let goodbye = match session {
            None => None,
            Some(session) => match session.peer.closed().await {
                EndReason::Goodbye(text) => Some(text),
                _ => None,
            },
        };
        if ending.faults.is_empty() {
            Ok(Stopped { goodbye })
        } else {
            Err(Error::internal(ending.faults.join("; ")))
        }
    }

    /// Kills the plugin where it stands and starts it again with the state that it saved.
    ///
    /// # Errors
    /// What `init` fails with.
    pub async fn crash_and_restart(self) -> Result<Self> {
        let (setup, memory) = (self.setup.clone(), self.memory.clone());
        drop(self);
        let running = Self::launch(setup, memory);
        running.initialize().await?;
        Ok(running)
    }

    fn peer(&self) -> Result<Peer> {
        let session = self.session.borrow();
        let lost = || Error::from(CallFailure::Ended(EndReason::Closed));
        session.as_ref().map(|session| session.peer.clone()).ok_or_else(lost)
    }

    /// Passes other plugins' calls on to this one, as the supervisor's routing does.
    pub(super) fn answerer(&self) -> Answerer {
        let session = self.session.clone();
        Rc::new(move |call| {
            let peer = session.borrow().as_ref().map(|session| session.peer.clone());
            Box::pin(async move {
                let lost = || CallError::new(code::SESSION_LOST, "the provider has no session");
                let forwarded = Call {
                    method: call.method,
                    payload: call.payload,
                    timeout: call
                        .deadline
                        .map(|at| at.saturating_duration_since(tokio::time::Instant::now())),
                    trace: call.trace,
                    on_behalf_of: call.on_behalf_of,
                };
                let reply = peer.ok_or_else(lost)?.call(forwarded).await;
                reply.map_err(|failure| Error::from(failure).into())
            })
        })
    }
}

fn value_of(push: &MetricsPush, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let metric = push.metrics.iter().find(|metric| metric.name == name)?;
    let same = |series: &&Series| {
        let pairs = || metric.labels.iter().zip(&series.labels);
        let has = |(label, value): &(&str, &str)| pairs().any(|(l, v)| l == label && v == value);
        labels.len() == series.labels.len() && labels.iter().all(has)
    };
    match &metric.series.iter().find(same)?.value {
        SeriesValue::Number(value) => Some(*value),
        SeriesValue::Histogram { counts, .. } => Some(counts.iter().sum::<u64>() as f64),
    }
}

impl<P> Drop for Running<P> {
    fn drop(&mut self) {
        if let Some(process) = self.process.borrow_mut().take() {
            process.abort();
        }
    }
}
