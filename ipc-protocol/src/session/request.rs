//! What the local side asks of a session.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec;
use crate::frame::MAX_BODY;
use crate::limits::{MAX_OUTSTANDING_BYTES, MAX_OUTSTANDING_CALLS, MAX_PINGS};
use crate::message::{Call, Drain, GoodbyeCause, Header, MAX_NAME, Outcome, Streams, TraceContext};
use crate::outcome::{CallFailure, EndReason};
use crate::payload::{CallError, Payload};
use crate::session::calls::OutgoingCall;
use crate::session::half::{ReceiveHalf, SendHalf};
use crate::session::outbox::Settled;
use crate::session::timers::Due;
use crate::session::{Event, Session};

impl Session {
    /// Makes a call, and returns its number; [`Event::Reply`] follows. Before the handshake is
    /// done the call waits in the out-buffer, and its time runs.
    pub fn call(
        &mut self,
        call: &Call,
        streams: Streams,
        now: Instant,
    ) -> Result<u64, CallFailure> {
        let Call { method, payload: Payload { encoding, body }, timeout, trace, on_behalf_of } =
            call;
        self.check_open()?;
        if self.draining {
            return Err(CallFailure::Draining);
        }
        check_length("method", method.len(), MAX_NAME)?;
        check_length("acting person", on_behalf_of.as_ref().map_or(0, String::len), MAX_NAME)?;
        check_length("body", body.len(), MAX_BODY)?;
        let most = self.limits.max_outstanding_calls.min(MAX_OUTSTANDING_CALLS);
        check_bound("outstanding calls", self.outgoing.len() + 1, most)?;
        let bytes = self.outgoing_bytes + body.len();
        check_bound("outstanding bytes", bytes, MAX_OUTSTANDING_BYTES)?;
        self.check_room(body.len())?;

        let id = self.last_outgoing + 1;
        let wire_timeout = timeout.map(milliseconds_up);
        let last_unit = self.outbox.push(body.clone(), Settled::default(), |rest| Header::Call {
            id,
            method: Cow::Borrowed(method),
            encoding: *encoding,
            rest,
            timeout: wire_timeout,
            trace: *trace,
            on_behalf_of: on_behalf_of.as_deref().map(Cow::Borrowed),
            streams,
        });
        self.last_outgoing = id;
        self.outgoing_bytes = bytes;
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        if let Some(at) = deadline {
            self.add_timer(at, Due::Outgoing(id));
        }
        let call = OutgoingCall {
            limit: timeout.unwrap_or_default(),
            bytes: body.len(),
            abandoned: false,
            last_unit,
            upload: streams.upload.then(SendHalf::default),
            download: streams.download.then(ReceiveHalf::default),
        };
        self.outgoing.insert(id, call);
        Ok(id)
    }

    /// Withdraws a call of ours: no [`Event::Reply`] will come. Nothing happens if it is over.
    pub fn cancel(&mut self, id: u64) {
        let Some(call) = self.outgoing.get_mut(&id) else { return };
        if call.abandoned {
            return;
        }
        call.abandoned = true;
        if let Some(upload) = &mut call.upload {
            upload.end();
        }
        if let Some(download) = &mut call.download {
            download.stop();
        }
        let header = Header::Cancel { id };
        // A cancel that overtakes the call, or its stream, would be about nothing.
        if self.outbox.is_written(call.last_unit) {
            self.outbox.push_control(&header);
        } else {
            self.outbox.push(Bytes::new(), Settled::default(), |_| header.clone());
        }
    }

    /// Answers a call of the peer's. Nothing happens if the session has done so itself, because
    /// the call was withdrawn or its deadline passed.
    pub fn reply(&mut self, id: u64, result: Result<Payload, CallError>) {
        let Some(call) = self.incoming.get_mut(&id) else { return };
        if call.replied {
            return;
        }
        call.replied = true;
        let settled = Settled { replies: 1, call_bytes: call.bytes };
        let upload_open = call.upload.as_ref().is_some_and(|upload| !upload.is_over());
        self.close_download(id);
        if !upload_open {
            self.incoming.remove(&id);
        }
        self.running -= 1;
        self.replies_queued += 1;
        let (outcome, body) = match self.fitting(result) {
            Ok(Payload { encoding, body }) => (Outcome::Done(encoding), body),
            Err(error) => (Outcome::Failed, codec::encode(&error).into()),
        };
        self.outbox.push(body, settled, |rest| Header::Reply { id, outcome, rest });
        self.tell_drained();
    }

    /// A result that is too long, or finds the out-buffer full, becomes an error: a reply must be
    /// sent in any case, and a peer that does not read must not fill our memory.
    fn fitting(&self, result: Result<Payload, CallError>) -> Result<Payload, CallError> {
        let length = match &result {
            Ok(payload) => payload.body.len(),
            Err(CallError { code, message, details }) => {
                code.len() + message.len() + details.as_ref().map_or(0, String::len) + 64
            }
        };
        let limit = self.limits.max_queued_bytes;
        let used = self.outbox.queued() + length;
        let (resource, limit, used) = if length > MAX_BODY {
            ("reply bytes", MAX_BODY, length)
        } else if used > limit && length > 1024 {
            ("queued bytes", limit, used)
        } else {
            return result;
        };
        let message = format!("{resource}: {used} of {limit}; send long results as a stream");
        let details = format!(r#"{{"resource":"{resource}","limit":{limit},"used":{used}}}"#);
        Err(CallError::new(CallError::RESOURCE_EXHAUSTED, message).with_details(details))
    }

    /// Publishes something.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: Payload,
        trace: Option<TraceContext>,
    ) -> Result<(), CallFailure> {
        self.check_open()?;
        let Payload { encoding, body } = payload;
        check_length("topic", topic.len(), MAX_NAME)?;
        check_length("body", body.len(), MAX_BODY)?;
        self.check_room(body.len() + topic.len())?;
        self.outbox.push(body, Settled::default(), |rest| Header::Event {
            topic: Cow::Borrowed(topic),
            encoding,
            rest,
            trace,
        });
        Ok(())
    }

    /// Sends a ping, and returns its token; [`Event::Pong`] follows.
    pub fn ping(&mut self, now: Instant) -> Result<u64, CallFailure> {
        self.check_open()?;
        check_bound("pings", self.pings.len() + 1, MAX_PINGS)?;
        self.last_ping += 1;
        let token = self.last_ping;
        self.pings.push_back((token, now));
        self.outbox.push_control(&Header::Ping { token });
        Ok(token)
    }

    /// The newest ping that waits for its answer.
    pub fn pending_ping(&self) -> Option<u64> {
        self.pings.back().map(|(token, _)| *token)
    }

    /// Asks the peer to finish, and makes no new calls from now on; the peer still may. A second
    /// one changes nothing.
    pub fn drain(&mut self, drain: &Drain) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.outbox.push_control(&Header::Drain {
            budget: u64::try_from(drain.budget.as_millis()).unwrap_or(u64::MAX),
            reason: Cow::Borrowed(shortened(&drain.reason)),
            save_state: drain.save_state,
            last_call: self.last_outgoing,
        });
    }

    /// Ends the session once everything that is queued has been written.
    pub fn goodbye(&mut self, why: &str) {
        if self.ended.is_none() && self.finishing.is_none() {
            self.outbox.finish(&goodbye(why));
            self.finishing = Some(why.to_owned());
        }
    }

    /// Ends the session at once: what is queued is dropped, but for the piece being written.
    pub fn goodbye_now(&mut self, why: &str) {
        if self.ended.is_none() && self.finishing.is_none() {
            self.outbox.abort(&goodbye(why));
            self.finishing = Some(why.to_owned());
        }
    }

    /// A call's deadline has come, or it was over before.
    pub(super) fn call_due(&mut self, due: Due) {
        match due {
            Due::Outgoing(id) => {
                let Some(call) = self.outgoing.get(&id) else { return };
                let limit = call.limit;
                if !call.abandoned {
                    self.cancel(id);
                    let result = Err(CallFailure::Timeout { limit });
                    self.events.push_back(Event::Reply { id, result });
                }
            }
            Due::Incoming(id) => {
                let Some(call) = self.incoming.get(&id) else { return };
                if !call.replied {
                    let message = "the call's deadline passed before its handler was done";
                    self.withdraw(id, CallError::new(CallError::TIMEOUT, message));
                }
            }
        }
    }

    /// Replies in the handler's place.
    pub(super) fn withdraw(&mut self, id: u64, error: CallError) {
        self.events.push_back(Event::Withdrawn { id });
        self.reply(id, Err(error));
    }

    pub(super) fn add_timer(&mut self, at: Instant, due: Due) {
        let Self { timers, outgoing, incoming, .. } = self;
        timers.add(at, due, outgoing.len() + incoming.len(), |due| match due {
            Due::Outgoing(id) => outgoing.get(&id).is_some_and(|call| !call.abandoned),
            Due::Incoming(id) => incoming.get(&id).is_some_and(|call| !call.replied),
        });
    }

    pub(super) fn tell_drained(&mut self) {
        if !self.drained_told
            && self.running == 0
            && self.drained_after.is_some_and(|last| self.last_incoming >= last)
        {
            self.drained_told = true;
            self.events.push_back(Event::Drained);
        }
    }

    pub(super) fn check_open(&self) -> Result<(), CallFailure> {
        if let Some(reason) = &self.ended {
            return Err(CallFailure::Ended(reason.clone()));
        }
        if let Some(why) = &self.finishing {
            return Err(CallFailure::Ended(EndReason::Finished(why.clone())));
        }
        Ok(())
    }

    fn check_room(&self, length: usize) -> Result<(), CallFailure> {
        check_bound("queued bytes", self.outbox.queued() + length, self.limits.max_queued_bytes)
    }
}

fn goodbye(why: &str) -> Header<'_> {
    Header::Goodbye { cause: GoodbyeCause::Done, reason: Cow::Borrowed(shortened(why)) }
}

fn check_length(part: &'static str, length: usize, limit: usize) -> Result<(), CallFailure> {
    if length > limit { Err(CallFailure::TooLong { part, length, limit }) } else { Ok(()) }
}

fn check_bound(resource: &'static str, used: usize, limit: usize) -> Result<(), CallFailure> {
    if used > limit { Err(CallFailure::Exhausted { resource, limit, used }) } else { Ok(()) }
}

/// A deadline must not be lost to rounding.
fn milliseconds_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// As much of a text for people as a message may have.
pub(super) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
