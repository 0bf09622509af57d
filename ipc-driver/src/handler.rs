//! What the local side does with what the peer sends.

use std::future::Future;

use bulkhead_ipc_protocol::{CallError, Drain, Payload, TraceContext};
use tokio::time::Instant;

use crate::pace::Pace;
use crate::stream::{StreamReader, StreamWriter};

/// One per session. Futures need not be `Send`: they run inside the [`crate::Driver`].
pub trait Handler: 'static {
    /// Answers a call. The future is polled for the first time in the driver's own turn; it is
    /// dropped when the call is cancelled or its deadline passes, or the session ends.
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static;

    /// The peer published something.
    fn event(&self, topic: String, payload: Payload) {
        let _ = (topic, payload);
    }

    /// The peer published something within a trace. Goes to [`Handler::event`] unless overridden.
    fn traced_event(&self, topic: String, payload: Payload, trace: Option<TraceContext>) {
        let _ = trace;
        self.event(topic, payload);
    }

    /// How much of the peer's calls and events there is room for. Asked once; without one, as much as comes.
    fn pace(&self) -> Option<Pace> {
        None
    }

    /// The peer asks us to finish. [`crate::Peer::drained`] says when all its calls are answered.
    fn drain(&self, drain: Drain) {
        let _ = drain;
    }
}

/// A call of the peer's.
#[derive(Debug)]
pub struct IncomingCall {
    /// `service/method`, or a plain method.
    pub method: String,
    /// The argument.
    pub payload: Payload,
    /// When the caller stops waiting. The session replies by itself then.
    pub deadline: Option<Instant>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The acting person, for the audit.
    pub on_behalf_of: Option<String>,
    /// What the caller sends besides the argument, if it does.
    pub upload: Option<StreamReader>,
    /// Where the caller expects data besides the reply, if it does. Ended by the reply at the
    /// latest.
    pub download: Option<StreamWriter>,
}
