//! The handle that the rest of the program holds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_ipc_protocol::message::{Direction, Streams};
use bulkhead_ipc_protocol::session::StreamId;
use bulkhead_ipc_protocol::{
    Call, CallFailure, Drain, EndReason, Negotiated, Payload, TraceContext,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::shared::{ReplySlot, Shared, State};
use crate::stream::{StreamReader, StreamWriter};

/// A session, from the side of those who make calls. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits for both `Hello`s.
    pub async fn ready(&self) -> Result<Negotiated, EndReason> {
        self.wait(|state| match (state.session.negotiated(), state.session.ended()) {
            (Some(negotiated), None) => Some(Ok(negotiated.clone())),
            (_, Some(reason)) => Some(Err(reason.clone())),
            (None, None) => None,
        })
        .await
    }

    /// Makes a call. It is queued at once, before the handshake too; the future waits for the
    /// reply, and dropping it withdraws the call.
    pub fn call(&self, call: Call) -> Calling {
        self.start(&call, Streams::NONE, |_, id| Calling::waiting(&self.shared, id))
            .unwrap_or_else(|failure| Calling { state: CallingState::Failed(failure) })
    }

    /// Makes a call with bulk data.
    pub fn open(&self, call: Call, streams: Streams) -> Result<OpenCall, CallFailure> {
        let shared = &self.shared;
        self.start(&call, streams, |state, id| OpenCall {
            reply: Calling::waiting(shared, id),
            upload: streams.upload.then(|| {
                let stream = StreamId { call: id, direction: Direction::Upload };
                StreamWriter::new(stream, state, shared)
            }),
            download: streams.download.then(|| {
                let stream = StreamId { call: id, direction: Direction::Download };
                StreamReader::new(stream, state, shared)
            }),
        })
    }

    /// Queues a call and registers, before anything can happen to it, who waits for it.
    fn start<T>(
        &self,
        call: &Call,
        streams: Streams,
        register: impl FnOnce(&mut State, u64) -> T,
    ) -> Result<T, CallFailure> {
        // The clock is only asked where there is a deadline.
        let now = match call.timeout {
            Some(_) => Instant::now().into_std(),
            None => self.shared.started,
        };
        self.shared.request(|state| {
            let id = state.session.call(call, streams, now)?;
            state.replies.insert(id, ReplySlot::default());
            Ok(register(state, id))
        })
    }

    /// Tells the peer some news.
    pub fn publish(&self, topic: &str, payload: Payload) -> Result<(), CallFailure> {
        self.publish_traced(topic, payload, None)
    }

    /// Tells the peer some news that belong to a trace.
    pub fn publish_traced(
        &self,
        topic: &str,
        payload: Payload,
        trace: Option<TraceContext>,
    ) -> Result<(), CallFailure> {
        self.shared.request(|state| state.session.publish(topic, payload, trace))
    }

    /// Asks the peer's driver for a sign of life, and returns how long it took.
    pub async fn ping(&self) -> Result<Duration, EndReason> {
        self.ready().await?;
        let (sender, answer) = oneshot::channel();
        let now = Instant::now().into_std();
        self.shared.request(|state| {
            // With too many under way already, the newest of them will do.
            let token = state.session.ping(now).ok().or_else(|| state.session.pending_ping());
            if let Some(token) = token {
                state.pings.entry(token).or_default().push(sender);
            }
        });
        match answer.await {
            Ok(round_trip) => Ok(round_trip),
            Err(_) => Err(self.closed().await),
        }
    }

    /// Asks the peer to finish. From now on we make no new calls; the peer still may. A second
    /// drain changes nothing.
    pub fn drain(&self, drain: Drain) {
        self.shared.request(|state| state.session.drain(&drain));
    }

    /// Waits until the peer has asked us to drain and every call that it made before is answered.
    pub async fn drained(&self) -> Result<(), EndReason> {
        self.wait(|state| match state.session.ended() {
            Some(reason) if !state.drained => Some(Err(reason.clone())),
            _ => state.drained.then_some(Ok(())),
        })
        .await
    }

    /// Ends the session after what is queued has been written.
    pub fn goodbye(&self, why: &str) {
        self.shared.request(|state| state.session.goodbye(why));
    }

    /// Ends the session at once: what is queued is dropped, but for the piece being written.
    pub fn goodbye_now(&self, why: &str) {
        self.shared.request(|state| state.session.goodbye_now(why));
    }

    /// Waits for the end of the session.
    pub async fn closed(&self) -> EndReason {
        self.wait(|state| state.session.ended().cloned()).await
    }

    /// Why the session is over; `None` while it is not.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.shared.lock().session.ended().cloned()
    }

    /// Waits until `check` finds something. It is asked again after every rare change.
    async fn wait<T>(&self, check: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.shared.changed.notified();
            let found = check(&self.shared.lock());
            match found {
                Some(found) => return found,
                // A change after `notified()` was made is not missed.
                None => changed.await,
            }
        }
    }
}

/// A call that waits for its reply. Dropping it withdraws the call.
#[derive(Debug)]
#[must_use = "dropping it withdraws the call"]
pub struct Calling {
    state: CallingState,
}

#[derive(Debug)]
enum CallingState {
    /// It was refused on our side.
    Failed(CallFailure),
    Waiting {
        shared: Arc<Shared>,
        id: u64,
    },
    Done,
}

impl Calling {
    fn waiting(shared: &Arc<Shared>, id: u64) -> Self {
        Self { state: CallingState::Waiting { shared: Arc::clone(shared), id } }
    }
}

impl Future for Calling {
    type Output = Result<Payload, CallFailure>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &self.state {
            CallingState::Failed(failure) => Err(failure.clone()),
            CallingState::Done => panic!("a Calling was polled after its reply"),
            CallingState::Waiting { shared, id } => {
                let mut state = shared.lock();
                let Some(slot) = state.replies.get_mut(id) else {
                    return Poll::Pending;
                };
                let Some(result) = slot.result.take() else {
                    match &mut slot.waker {
                        Some(waker) => waker.clone_from(context.waker()),
                        none => *none = Some(context.waker().clone()),
                    }
                    return Poll::Pending;
                };
                state.replies.remove(id);
                result
            }
        };
        self.state = CallingState::Done;
        Poll::Ready(result)
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let CallingState::Waiting { shared, id } = &self.state {
            let mut wake = Vec::new();
            shared.request(|state| {
                state.replies.remove(id);
                state.session.cancel(*id);
                state.close_outgoing(*id, &mut wake);
            });
            wake.into_iter().for_each(std::task::Waker::wake);
        }
    }
}

/// A call with bulk data.
#[derive(Debug)]
pub struct OpenCall {
    /// The reply. Dropping it withdraws the call, and its streams with it.
    pub reply: Calling,
    /// Where to send, if it was asked for.
    pub upload: Option<StreamWriter>,
    /// Where to receive, if it was asked for.
    pub download: Option<StreamReader>,
}
