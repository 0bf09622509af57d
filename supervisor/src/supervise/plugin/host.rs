//! What a plugin may ask of its host: state, metrics, events, and calls to other plugins.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_ipc_driver::{Handler, IncomingCall, Pace};
use bulkhead_ipc_protocol::host::{self as methods, MAX_STATE_KEYS};
use bulkhead_ipc_protocol::{CallError, Drain, Payload, TraceContext};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use super::plan::StartPlan;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Reply, Request};
use crate::supervise::broker::Broker;
use crate::supervise::launcher_link::unexpected;
use crate::supervise::store::{Page, Part, Share};

/// What one plugin may ask of its host in a while, so that one that floods its session leaves the others'
/// calls their time: measured, some fourteen thousand calls and events a second, as the timer counts milliseconds.
const PACE: Pace = Pace { portion: 64, every: Duration::from_millis(4) };

/// The host's side of one session; cheap to clone.
#[derive(Clone)]
pub(crate) struct HostSide {
    context: Context,
    plan: Arc<StartPlan>,
    /// Of the start that the session belongs to.
    generation: u64,
    broker: Broker,
    share: Share,
    drain: Arc<Mutex<Draining>>,
}

#[derive(Default)]
struct Draining {
    saving: bool,
    /// When the last write of state was acknowledged after the drain began.
    saved: Option<Monotonic>,
}

impl HostSide {
    pub(crate) fn new(context: &Context, plan: &StartPlan, generation: u64) -> Self {
        Self {
            context: context.clone(),
            plan: Arc::new(plan.clone()),
            generation,
            broker: Broker::default(),
            share: context.store.share(),
            drain: Arc::default(),
        }
    }

    /// From now on writes of state are what the plugin saves at its end.
    pub(super) fn begin_drain(&self, save_state: bool) {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).saving = save_state;
    }

    /// When the last of them was acknowledged.
    pub(super) fn saved_at(&self) -> Option<Monotonic> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).saved
    }

    /// Through the launcher, which holds the other end of the plugin's descriptor 3.
    async fn hand_over(&self, connection: OwnedFd) -> Result<u64, Failure> {
        let (id, generation) = (self.plan.id.clone(), self.generation);
        let token = self.broker.next_token();
        let request = Request::Connection { id, generation, token };
        match self.context.launcher.ask_with(request, Some(connection)).await? {
            (Reply::Done, _) => Ok(token),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn answer(&self, call: IncomingCall) -> Result<Payload, Failure> {
        let id = self.plan.id.clone();
        match call.method.as_str() {
            methods::STATE_GET
            | methods::STATE_SET
            | methods::STATE_DELETE
            | methods::STATE_LIST
            | methods::STATE_PAGE => {
                let _turn = self.share.turn().await;
                self.answer_of_state(id, call).await
            }
            methods::CONNECT => {
                let asked: methods::Connect = decode(&call)?;
                let connection =
                    self.broker.connect(&self.context.registry, &self.plan, &call, asked);
                let token = self.hand_over(connection.await?).await?;
                encode(&methods::Connected { token })
            }
            methods::METRICS_PUSH => {
                if let Some(why) = self.context.registry.metrics.measured(&id, decode(&call)?) {
                    let message =
                        format!("some of what {id} measures is not shown in the metrics: {why}");
                    let body = serde_json::json!({ "code": "METRICS_DROPPED", "message": message });
                    self.context.events.emit("plugin:warning", &id, body);
                }
                encode(&())
            }
            reserved if reserved.starts_with("bulkhead.") => Err(no_method(reserved)),
            _ => self.context.registry.call_between(&self.plan, call).await,
        }
    }

    async fn answer_of_state(&self, id: PluginId, call: IncomingCall) -> Result<Payload, Failure> {
        let store = &self.context.store;
        match call.method.as_str() {
            methods::STATE_GET => {
                let methods::StateGet { key } = decode(&call)?;
                let entry = store.state(id, key).await?;
                encode(&entry.map(|e| methods::StateEntry { version: e.version, value: e.value }))
            }
            methods::STATE_SET => {
                let methods::StateSet { key, value, expected } = decode(&call)?;
                let quota = self.plan.manifest.limits.storage.bytes();
                let version = store.set_state(id, key, value, expected, quota).await?;
                let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
                if drain.saving {
                    drain.saved = Some(Monotonic::now());
                }
                encode(&version)
            }
            methods::STATE_DELETE => {
                let methods::StateDelete { key, expected } = decode(&call)?;
                encode(&store.delete_state(id, key, expected).await?)
            }
            methods::STATE_LIST => {
                let methods::StateList { prefix } = decode(&call)?;
                let Page { items, more } =
                    store.list_state(id, part(prefix, String::new())).await?;
                if more {
                    let message = format!(
                        "the keys take more than {MAX_STATE_KEYS} bytes; ask for them in parts with {}",
                        methods::STATE_PAGE
                    );
                    return Err(Failure::new(Code::ResourceExhausted, message)
                        .with("resource", "state keys")
                        .with("limit", MAX_STATE_KEYS));
                }
                encode(&items)
            }
            methods::STATE_PAGE => {
                let methods::StatePage { prefix, after } = decode(&call)?;
                let Page { items: keys, more } = store.list_state(id, part(prefix, after)).await?;
                encode(&methods::StateKeys { keys, more })
            }
            other => Err(no_method(other)),
        }
    }
}

/// As much of the keys as goes in one answer.
fn part(prefix: String, after: String) -> Part {
    Part { prefix, after, limit: usize::MAX, bytes: MAX_STATE_KEYS }
}

fn no_method(name: &str) -> Failure {
    let message = format!("this host has no method {name:?}; is it of a newer bulkhead?");
    Failure::new(Code::NotFound, message).with("what", "method").with("name", name)
}

impl Handler for HostSide {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        let host = self.clone();
        async move { host.answer(call).await.map_err(to_call_error) }
    }

    fn event(&self, topic: String, payload: Payload) {
        self.traced_event(topic, payload, None);
    }

    fn traced_event(&self, topic: String, payload: Payload, trace: Option<TraceContext>) {
        self.context.registry.publish(&self.plan, &topic, &payload, trace);
    }

    fn pace(&self) -> Option<Pace> {
        Some(PACE)
    }

    fn drain(&self, _: Drain) {
        // A plugin cannot drain its host. The session refuses the frame in this direction.
    }
}

fn decode<T: DeserializeOwned>(call: &IncomingCall) -> Result<T, Failure> {
    call.payload.decode_bincode().map_err(|error| {
        Failure::new(Code::InvalidRequest, format!("the argument of {}: {error}", call.method))
            .with("method", &call.method)
    })
}

fn encode<T: Serialize>(value: &T) -> Result<Payload, Failure> {
    Payload::bincode(value).map_err(|e| Failure::internal(format!("a reply has no encoding: {e}")))
}

/// A failure as it crosses the wire.
pub(crate) fn to_call_error(failure: Failure) -> CallError {
    CallError::new(failure.code.to_string(), failure.message)
        .with_details(failure.details.to_string())
}
