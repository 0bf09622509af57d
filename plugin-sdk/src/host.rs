//! What a plugin can ask of its host.

mod cache;
mod events;
mod link;
mod log;
mod metrics;
mod network;
mod state;
mod tasks;

use std::hash::Hash;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bulkhead_ipc_protocol::lifecycle::InitRequest;
use bulkhead_ipc_protocol::{Call, Payload, TraceContext};

pub(crate) use cache::Caches;
pub use cache::{Cache, CacheLimits, CacheStats};
pub(crate) use events::Subscribers;
pub use events::{Event, Events, Subscription};
pub(crate) use link::Link;
pub use log::Log;
pub(crate) use log::LogSink;
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub(crate) use metrics::{Registry, push};
pub(crate) use network::Arrivals;
pub use network::Network;
pub use state::{Entry, State};
pub use tasks::Task;
pub(crate) use tasks::{Stage, Tasks};

use crate::body;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{Error, Result, code};
use crate::method::Method;
use crate::pending::Pending;

/// How long a call of a plugin waits when neither its caller nor the call that it serves says so.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The host, as a plugin sees it. Cheap to clone and usable from any thread.
///
/// It outlives sessions: when the supervisor restarts, calls that may be repeated wait for the new session and go
/// out again; others fail with `SESSION_LOST`.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    log_sink: LogSink,
    connections: Arrivals,
    subscribers: Subscribers,
    caches: Caches,
    tasks: Tasks,
    metrics: Registry,
    pending: Pending,
    identity: OnceLock<Identity>,
    /// What the operator has granted, as it was last told.
    permissions: RwLock<Vec<String>>,
}

#[derive(Debug)]
struct Identity {
    id: String,
    version: String,
}

/// How a call is made; what is not set is inherited from the call that the plugin is answering.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// How long to wait for the reply.
    pub timeout: Option<Duration>,
    /// The person on whose behalf the call is made.
    pub on_behalf_of: Option<String>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
}

impl Host {
    pub(crate) fn new(
        link: Link,
        log_sink: LogSink,
        connections: Arrivals,
        metrics: Registry,
        pending: Pending,
    ) -> Self {
        Self(Arc::new(Inner {
            link,
            log_sink,
            connections,
            subscribers: Subscribers::default(),
            caches: Caches::default(),
            tasks: Tasks::default(),
            metrics,
            pending,
            identity: OnceLock::new(),
            permissions: RwLock::default(),
        }))
    }

    pub(crate) fn connections(&self) -> &Arrivals {
        &self.0.connections
    }

    pub(crate) fn introduce(&self, init: &InitRequest) {
        // A supervisor that restarted says the same again: the process is the same plugin.
        let _ = self
            .0
            .identity
            .set(Identity { id: init.plugin_id.clone(), version: init.version.clone() });
        self.permit(init.permissions.clone());
    }

    pub(crate) fn permit(&self, permissions: Vec<String>) {
        *self.0.permissions.write().unwrap_or_else(PoisonError::into_inner) = permissions;
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0.link
    }

    pub(crate) fn log_sink(&self) -> &LogSink {
        &self.0.log_sink
    }

    pub(crate) fn metric_registry(&self) -> &Registry {
        &self.0.metrics
    }

    pub(crate) fn subscribers(&self) -> &Subscribers {
        &self.0.subscribers
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// The id under which the plugin is installed.
    pub fn plugin_id(&self) -> &str {
        self.0.identity.get().map_or("", |identity| &identity.id)
    }

    /// The plugin's version, as its manifest has it.
    pub fn plugin_version(&self) -> &str {
        self.0.identity.get().map_or("", |identity| &identity.version)
    }

    /// Whether the operator grants a permission, such as `read:appointments`, now: that can change while the
    /// plugin runs.
    pub fn is_granted(&self, permission: &str) -> bool {
        let granted = self.0.permissions.read().unwrap_or_else(PoisonError::into_inner);
        granted.iter().any(|one| one == permission)
    }

    /// The plugin's saved state.
    pub fn state(&self) -> State {
        State::new(self.clone())
    }

    /// Connections to the `host:port` pairs that the plugin was granted.
    pub fn network(&self) -> Network {
        Network::new(self.clone())
    }

    /// A cache of the plugin's own, with the usual limits: 1000 entries, 1 MiB, five minutes. Make it once, in `init`.
    pub fn cache<K, V>(&self) -> Cache<K, V>
    where
        K: Clone + Eq + Hash + Send + 'static,
        V: Send + 'static,
    {
        self.cache_with(CacheLimits::default())
    }

    /// As [`Host::cache`], with other limits.
    pub fn cache_with<K, V>(&self, limits: CacheLimits) -> Cache<K, V>
    where
        K: Clone + Eq + Hash + Send + 'static,
        V: Send + 'static,
    {
        self.0.caches.make(limits, &Metrics::of_the_sdk(self.clone()))
    }

    /// Events: telling others, and hearing from them.
    pub fn events(&self) -> Events {
        Events::new(self.clone())
    }

    /// The plugin's log.
    pub fn log(&self) -> Log {
        Log::new(self.clone())
    }

    /// What the plugin measures of itself.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.clone())
    }

    /// Calls a method of another plugin: `host.call::<Book>("appointment-scheduler", &request)`.
    ///
    /// `service` is the name of a service, or the id of the plugin that provides it. The call goes through the
    /// host, which checks this plugin's permissions. It inherits deadline, trace and acting person from the call
    /// that the plugin is answering, if it is; else it waits [`DEFAULT_CALL_TIMEOUT`].
    ///
    /// # Errors
    /// What the other plugin answers; `PERMISSION_DENIED` or `DEPENDENCY_MISSING` from the host; `TIMEOUT`,
    /// `RESOURCE_EXHAUSTED`, `SESSION_LOST`; `REPLY_INVALID` when the answer does not fit `M::Reply`.
    pub async fn call<M: Method>(&self, service: &str, request: &M::Request) -> Result<M::Reply> {
        self.call_with::<M>(service, request, CallOptions::default()).await
    }

    /// As [`Host::call`], with a timeout, acting person or trace of its own.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub async fn call_with<M: Method>(
        &self,
        service: &str,
        request: &M::Request,
        options: CallOptions,
    ) -> Result<M::Reply> {
        let method = format!("{service}/{}", M::NAME);
        let payload = body::encode(M::ENCODING, request)?;
        let reply = self.send(method, payload, M::IDEMPOTENT, options).await?;
        body::decode(code::REPLY_INVALID, &reply)
    }

    /// Makes a call with payloads that are encoded already. `repeat` says that it may be made twice.
    pub(crate) async fn send(
        &self,
        method: String,
        payload: Payload,
        repeat: bool,
        options: CallOptions,
    ) -> Result<Payload> {
        let serving = Context::current();
        let serving = serving.as_ref();
        let deadline = match options.timeout {
            Some(timeout) => Deadline::after(timeout),
            None => serving
                .and_then(|context| context.deadline)
                .unwrap_or_else(|| Deadline::after(DEFAULT_CALL_TIMEOUT)),
        };
        let call = Call {
            method,
            payload,
            timeout: None,
            trace: options.trace.or_else(|| serving.and_then(|context| context.trace)),
            on_behalf_of: options
                .on_behalf_of
                .or_else(|| serving.and_then(|context| context.on_behalf_of.clone())),
        };
        self.0.link.call(call, deadline, repeat).await.map_err(Error::from)
    }

    /// Runs `work` to its end, even if the caller on whose behalf it runs goes away meanwhile, and even if the
    /// returned future is dropped. A stop waits for it, within its budget.
    ///
    /// Use it for what must not be left half done, such as writing and then noting that it was written.
    ///
    /// # Errors
    /// [`code::PANIC`] when `work` panics.
    ///
    /// # Panics
    /// Outside the plugin's own thread.
    pub fn shielded<T: 'static>(
        &self,
        work: impl Future<Output = Result<T>> + 'static,
    ) -> impl Future<Output = Result<T>> {
        let ticket = self.0.pending.begin();
        let work = async move {
            let _ticket = ticket;
            work.await
        };
        let task = match Context::current() {
            Some(context) => tokio::task::spawn_local(context.scope(work)),
            None => tokio::task::spawn_local(work),
        };
        async move {
            match task.await {
                Ok(result) => result,
                Err(err) => {
                    Err(Error::new(code::PANIC, format!("shielded work ended early: {err}")))
                }
            }
        }
    }
}
