//! One session: what the host says is passed on to the plugin.

use std::rc::Rc;

use bulkhead_ipc_driver::{Handler, IncomingCall};
use bulkhead_ipc_protocol::lifecycle::{
    CONFIGURE, ConfigureReply, ConfigureRequest, HEALTH, INIT, InitReply, InitRequest, PERMISSIONS,
    PermissionsChanged,
};
use bulkhead_ipc_protocol::{CallError, Drain, Payload, TraceContext};

use super::{Shared, Stop, listening};
use crate::body;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{Error, Result, code};
use crate::host::Event;
use crate::panic::{caught, caught_now};
use crate::plugin::{Configured, Plugin};
use crate::reason::Reason;
use crate::router::Arrived;
use crate::streams::Streams;

pub(super) struct Session<P> {
    shared: Rc<Shared<P>>,
}

impl<P: Plugin> Session<P> {
    pub(super) fn new(shared: Rc<Shared<P>>) -> Self {
        Self { shared }
    }
}

impl<P: Plugin> Handler for Session<P> {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        let shared = self.shared.clone();
        // A call that came before the stop began is in flight; the ticket lets the stop wait for it.
        let ticket = shared.pending.begin();
        async move {
            let _ticket = ticket;
            let method = call.method.clone();
            let answered = match method.as_str() {
                INIT => caught(init(&shared, &call.payload)).await,
                CONFIGURE => caught(configure(&shared, &call.payload)).await,
                PERMISSIONS => permit(&shared, &call.payload),
                HEALTH => caught(health(&shared)).await,
                _ => route(&shared, call).await,
            };
            answered.map_err(|error| {
                if error.code() == code::PANIC {
                    shared.host.log().with("method", method).error(error.message());
                }
                error.into()
            })
        }
    }

    fn traced_event(&self, topic: String, payload: Payload, trace: Option<TraceContext>) {
        self.shared.host.subscribers().deliver(&Event { topic, payload, trace });
    }

    fn drain(&self, drain: Drain) {
        self.shared.stop(Stop {
            reason: Reason::of_drain(&drain.reason),
            by: Deadline::after(drain.budget),
            save_state: drain.save_state,
        });
    }
}

/// Makes the plugin, or says that it is there already because the supervisor, not the plugin, started anew.
async fn init<P: Plugin>(shared: &Rc<Shared<P>>, payload: &Payload) -> Result<Payload> {
    let request: InitRequest = payload
        .decode_bincode()
        .map_err(|err| Error::new(code::REQUEST_INVALID, err.to_string()))?;
    shared.host.introduce(&request);
    // Two sessions may ask at once for a moment: while the first one's handler is being dropped.
    let _one_at_a_time = shared.initializing.lock().await;
    let resumed = shared.plugin.get().is_some();
    if !resumed {
        if let Some(subscribed) = &shared.subscribed {
            shared.router.check_subscribed(subscribed)?;
        }
        let config = body::config(&request.config)?;
        let plugin = Rc::new(P::init(config, shared.host.clone()).await?);
        assert!(shared.plugin.set(plugin.clone()).is_ok(), "only `init` sets it, under the lock");
        listening::begin(shared, &plugin);
    }
    Payload::bincode(&InitReply { resumed }).map_err(Error::internal)
}

async fn configure<P: Plugin>(shared: &Shared<P>, payload: &Payload) -> Result<Payload> {
    let request: ConfigureRequest = payload
        .decode_bincode()
        .map_err(|err| Error::new(code::REQUEST_INVALID, err.to_string()))?;
    let plugin = plugin(shared)?;
    let configured = plugin.configure(body::config(&request.config)?).await?;
    Payload::bincode(&ConfigureReply { applied: configured == Configured::Now })
        .map_err(Error::internal)
}

fn permit<P>(shared: &Shared<P>, payload: &Payload) -> Result<Payload> {
    let PermissionsChanged { permissions } = payload
        .decode_bincode()
        .map_err(|err| Error::new(code::REQUEST_INVALID, err.to_string()))?;
    shared.host.permit(permissions);
    Payload::bincode(&()).map_err(Error::internal)
}

async fn health<P: Plugin>(shared: &Shared<P>) -> Result<Payload> {
    plugin(shared)?.health().await?;
    Payload::bincode(&()).map_err(Error::internal)
}

async fn route<P: Plugin>(shared: &Shared<P>, call: IncomingCall) -> Result<Payload> {
    if shared.stopping.get() {
        return Err(Error::new(code::STOPPING, "the plugin is stopping and takes no new calls"));
    }
    let plugin = plugin(shared)?;
    let context = Context {
        method: call.method,
        deadline: call.deadline.map(Deadline::at),
        trace: call.trace,
        on_behalf_of: call.on_behalf_of,
    };
    let streams = Streams { upload: call.upload, download: call.download };
    let arrived = Arrived { payload: call.payload, context: context.clone(), streams };
    let answer = caught_now(|| shared.router.answer(plugin, arrived))??;
    context.scope(caught(answer)).await
}

fn plugin<P>(shared: &Shared<P>) -> Result<Rc<P>> {
    let missing = || Error::new(code::NOT_READY, "the plugin has not been initialized yet");
    shared.plugin.get().cloned().ok_or_else(missing)
}
