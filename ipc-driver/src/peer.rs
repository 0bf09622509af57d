//! The handle that the rest of the program holds.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_ipc_protocol::message::Streams;
use bulkhead_ipc_protocol::{
    Call, CallFailure, Drain, EndReason, LogRecord, Negotiated, Payload, TraceContext,
};

use crate::stream::{StreamReader, StreamWriter};

/// A session, from the side of those who make calls. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Peer {}

impl Peer {
    /// Waits for both `Hello`s.
    pub async fn ready(&self) -> Result<Negotiated, EndReason> {
        unimplemented!()
    }

    /// Makes a call. It is queued at once, before the handshake too; the future waits for the
    /// reply, and dropping it withdraws the call.
    pub fn call(&self, call: Call) -> Calling {
        let _ = call;
        unimplemented!()
    }

    /// Makes a call with bulk data.
    pub fn open(&self, call: Call, streams: Streams) -> Result<OpenCall, CallFailure> {
        let _ = (call, streams);
        unimplemented!()
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
        let _ = (topic, payload, trace);
        unimplemented!()
    }

    /// Sends a log record. Never waits: what does not fit is dropped and counted.
    pub fn log(&self, record: LogRecord) {
        let _ = record;
        unimplemented!()
    }

    /// Log records dropped so far.
    pub fn dropped_logs(&self) -> u64 {
        unimplemented!()
    }

    /// Asks the peer's driver for a sign of life, and returns how long it took.
    pub async fn ping(&self) -> Result<Duration, EndReason> {
        unimplemented!()
    }

    /// Asks the peer to finish. From now on we make no new calls; the peer still may. A second
    /// drain changes nothing.
    pub fn drain(&self, drain: Drain) {
        let _ = drain;
        unimplemented!()
    }

    /// Waits until the peer has asked us to drain and every call that it made before is answered.
    pub async fn drained(&self) -> Result<(), EndReason> {
        unimplemented!()
    }

    /// Ends the session after what is queued has been written.
    pub fn goodbye(&self, why: &str) {
        let _ = why;
        unimplemented!()
    }

    /// Ends the session at once: what is queued is dropped, but for the piece being written.
    pub fn goodbye_now(&self, why: &str) {
        let _ = why;
        unimplemented!()
    }

    /// Waits for the end of the session.
    pub async fn closed(&self) -> EndReason {
        unimplemented!()
    }

    /// Why the session is over; `None` while it is not.
    pub fn end_reason(&self) -> Option<EndReason> {
        unimplemented!()
    }
}

/// A call that waits for its reply. Dropping it withdraws the call.
#[derive(Debug)]
#[must_use = "dropping it withdraws the call"]
pub struct Calling {}

impl Future for Calling {
    type Output = Result<Payload, CallFailure>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

/// A call with bulk data.
#[derive(Debug)]
pub struct OpenCall {
    /// The reply.
    pub reply: Calling,
    /// Where to send, if it was asked for.
    pub upload: Option<StreamWriter>,
    /// Where to receive, if it was asked for.
    pub download: Option<StreamReader>,
}
