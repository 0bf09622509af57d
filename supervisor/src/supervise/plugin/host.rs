//! What a plugin may ask of its host: state, metrics, events, and calls to other plugins.

use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_ipc_driver::{Handler, IncomingCall};
use bulkhead_ipc_protocol::{CallError, Drain, Payload, TraceContext, host as methods};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use super::plan::StartPlan;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};

/// The host's side of one session; cheap to clone.
#[derive(Clone)]
pub(crate) struct HostSide {
    context: Context,
    plan: Arc<StartPlan>,
    drain: Arc<Mutex<Draining>>,
}

#[derive(Default)]
struct Draining {
    saving: bool,
    /// When the last write of state was acknowledged after the drain began.
    saved: Option<Monotonic>,
}

impl HostSide {
    pub(super) fn new(context: &Context, plan: &StartPlan) -> Self {
        Self { context: context.clone(), plan: Arc::new(plan.clone()), drain: Arc::default() }
    }

    /// From now on writes of state are what the plugin saves at its end.
    pub(super) fn begin_drain(&self, save_state: bool) {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).saving = save_state;
    }

    /// When the last of them was acknowledged.
    pub(super) fn saved_at(&self) -> Option<Monotonic> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).saved
    }

    async fn answer(&self, call: IncomingCall) -> Result<Payload, Failure> {
        let (store, id) = (&self.context.store, self.plan.id.clone());
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
                let listed = store.list_state(id, prefix).await?;
                let keys: Vec<(String, u64)> =
                    listed.into_iter().map(|(key, version, _)| (key, version)).collect();
                encode(&keys)
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
            reserved if reserved.starts_with("bulkhead.") => Err(Failure::new(
                Code::NotFound,
                format!("this host has no method {reserved:?}; is it of a newer bulkhead?"),
            )
            .with("what", "method")
            .with("name", reserved)),
            _ => self.context.registry.call_between(&self.plan, call).await,
        }
    }
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
