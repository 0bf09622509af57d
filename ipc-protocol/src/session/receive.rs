//! What the peer says.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec;
use crate::limits::{MAX_OUTSTANDING_BYTES, MAX_OUTSTANDING_CALLS, MAX_PINGS};
use crate::message::{
    Direction, Drain, GoodbyeCause, Header, MAX_NAME, Outcome, StreamPart, Streams, TraceContext,
};
use crate::outcome::{CallFailure, EndReason};
use crate::payload::{CallError, Encoding, Payload};
use crate::session::calls::IncomingCall;
use crate::session::half::{ReceiveHalf, SendHalf};
use crate::session::inbox::Frame;
use crate::session::timers::Due;
use crate::session::{CallReceived, Event, Session, StreamId};
use crate::violation::Violation;

impl Session {
    pub(super) fn receive(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let (header, body) = match frame {
            Frame::Hello(hello) => {
                self.receive_hello(&hello);
                return Ok(());
            }
            Frame::Message(header, body) => (header, body),
        };
        match header {
            Header::Call {
                id,
                method,
                encoding,
                rest: _,
                timeout,
                trace,
                on_behalf_of,
                streams,
            } => {
                let payload = Payload { encoding, body };
                let call = Request { id, method, payload, timeout, trace, on_behalf_of, streams };
                self.receive_call(call, now)
            }
            Header::Reply { id, outcome, rest: _ } => self.receive_reply(id, outcome, body),
            Header::Cancel { id } => self.receive_cancel(id),
            Header::Event { topic, encoding, rest: _, trace } => {
                self.receive_event(topic, encoding, body, trace)
            }
            Header::Stream { call, direction, part } => {
                self.receive_part(StreamId { call, direction }, part, body)
            }
            Header::Ping { token } => self.receive_ping(token),
            Header::Pong { token } => self.receive_pong(token, now),
            Header::Drain { budget, reason, save_state, last_call } => {
                self.receive_drain(budget, reason, save_state, last_call)
            }
            Header::Goodbye { cause, reason } => {
                check_name("reason", &reason)?;
                let reason = reason.into_owned();
                self.end(match cause {
                    GoodbyeCause::Done => EndReason::Goodbye(reason),
                    GoodbyeCause::Violation => EndReason::PeerReportsViolation(reason),
                });
                Ok(())
            }
            Header::More => Err(Violation::PieceUnexpected { length: body.len() }),
        }
    }

    fn receive_hello(&mut self, theirs: &crate::Hello) {
        let Some(negotiated) = self.hello.negotiate(theirs) else {
            self.end(EndReason::VersionIncompatible {
                ours: self.hello.protocol.clone(),
                theirs: theirs.protocol.clone(),
            });
            return;
        };
        self.negotiated = Some(negotiated.clone());
        self.outbox.release();
        self.events.push_back(Event::Ready(negotiated));
    }

    fn receive_call(&mut self, call: Request, now: Instant) -> Result<(), Violation> {
        let Request { id, method, payload, timeout, trace, on_behalf_of, streams } = call;
        if id <= self.last_incoming {
            return Err(Violation::CallIdReused { id, highest: self.last_incoming });
        }
        if let Some(last) = self.drained_after
            && id > last
        {
            return Err(Violation::CallAfterDrain { id, last });
        }
        let limit = MAX_OUTSTANDING_CALLS;
        if self.running + self.replies_queued >= limit || self.incoming.len() >= limit {
            return Err(Violation::TooManyCalls { id, limit });
        }
        let bytes = payload.body.len();
        let used = self.incoming_bytes + bytes;
        if used > MAX_OUTSTANDING_BYTES {
            return Err(Violation::TooManyBytes { id, used, limit: MAX_OUTSTANDING_BYTES });
        }
        check_name("method", &method)?;
        check_name("acting person", on_behalf_of.as_deref().unwrap_or_default())?;
        let deadline = timeout.and_then(|timeout| now.checked_add(Duration::from_millis(timeout)));
        self.last_incoming = id;
        self.incoming_bytes = used;
        self.running += 1;
        let entry = IncomingCall {
            bytes,
            replied: false,
            upload: streams.upload.then(ReceiveHalf::default),
            download: streams.download.then(SendHalf::default),
        };
        self.incoming.insert(id, entry);
        if let Some(at) = deadline {
            self.add_timer(at, Due::Incoming(id));
        }
        self.events.push_back(Event::Call(CallReceived {
            id,
            method: method.into_owned(),
            payload,
            deadline,
            trace,
            on_behalf_of: on_behalf_of.map(Cow::into_owned),
            streams,
        }));
        Ok(())
    }

    fn receive_reply(&mut self, id: u64, outcome: Outcome, body: Bytes) -> Result<(), Violation> {
        let Some(call) = self.outgoing.get(&id) else {
            let last = self.last_outgoing;
            return Err(if id == 0 || id > last {
                Violation::ReplyUnknown { id, last }
            } else {
                Violation::ReplyTwice { id }
            });
        };
        if call.download.as_ref().is_some_and(|download| !download.is_over()) {
            return Err(Violation::ReplyBeforeStreamEnd { id });
        }
        let result = match outcome {
            Outcome::Done(encoding) => Ok(Payload { encoding, body }),
            Outcome::Failed => match codec::decode::<CallError>(&body) {
                Ok(error) => Err(CallFailure::Remote(error)),
                Err(reason) => {
                    return Err(Violation::BodyMalformed { message: "Reply", reason });
                }
            },
        };
        let abandoned = call.abandoned;
        self.end_stream(StreamId { call: id, direction: Direction::Upload }, false);
        if let Some(call) = self.outgoing.remove(&id) {
            self.outgoing_bytes -= call.bytes;
        }
        if !abandoned {
            self.events.push_back(Event::Reply { id, result });
        }
        Ok(())
    }

    fn receive_cancel(&mut self, id: u64) -> Result<(), Violation> {
        let last = self.last_incoming;
        if id == 0 || id > last {
            return Err(Violation::CancelUnknown { id, last });
        }
        // Without an entry, it crossed our reply.
        let Some(call) = self.incoming.get_mut(&id) else { return Ok(()) };
        call.upload = None;
        if call.replied {
            self.incoming.remove(&id);
        } else {
            self.withdraw(id, CallError::new(CallError::CANCELLED, "the caller withdrew the call"));
        }
        Ok(())
    }

    fn receive_event(
        &mut self,
        topic: Cow<'static, str>,
        encoding: Encoding,
        body: Bytes,
        trace: Option<TraceContext>,
    ) -> Result<(), Violation> {
        check_name("topic", &topic)?;
        let payload = Payload { encoding, body };
        self.events.push_back(Event::Event { topic: topic.into_owned(), payload, trace });
        Ok(())
    }

    fn receive_part(
        &mut self,
        stream: StreamId,
        part: StreamPart,
        data: Bytes,
    ) -> Result<(), Violation> {
        match part {
            StreamPart::Chunk | StreamPart::End | StreamPart::Reset => {
                self.receive_data(stream, part, data)
            }
            StreamPart::Credit { .. } | StreamPart::Stop => self.receive_feedback(stream, part),
        }
    }

    /// From the sending end, about a stream that we receive.
    fn receive_data(
        &mut self,
        stream: StreamId,
        part: StreamPart,
        data: Bytes,
    ) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        let half = match direction {
            Direction::Upload => self.incoming.get_mut(&call).and_then(|call| {
                let unwanted = call.replied;
                call.upload.as_mut().map(|half| (half, unwanted))
            }),
            Direction::Download => self.outgoing.get_mut(&call).and_then(|call| {
                let unwanted = call.abandoned;
                call.download.as_mut().map(|half| (half, unwanted))
            }),
        };
        let Some((half, unwanted)) = half else {
            return Err(Violation::StreamUnknown { call, direction });
        };
        let wanted = half.is_wanted() && !unwanted;
        if part == StreamPart::Chunk {
            half.chunk(stream, data.len())?;
            if wanted {
                self.events.push_back(Event::Chunk { stream, data });
            }
            return Ok(());
        }
        half.end(stream)?;
        if wanted {
            let complete = part == StreamPart::End;
            self.events.push_back(Event::StreamOver { stream, complete });
        }
        if direction == Direction::Upload
            && self.incoming.get(&call).is_some_and(|call| call.replied)
        {
            self.incoming.remove(&call);
        }
        Ok(())
    }

    /// From the receiving end, about a stream on which we send.
    fn receive_feedback(&mut self, stream: StreamId, part: StreamPart) -> Result<(), Violation> {
        let StreamId { call, direction } = stream;
        let unknown = Violation::StreamUnknown { call, direction };
        let half = match direction {
            Direction::Upload => match self.outgoing.get_mut(&call) {
                Some(entry) => entry.upload.as_mut(),
                None => return Err(unknown),
            },
            Direction::Download => match self.incoming.get_mut(&call) {
                Some(entry) => entry.download.as_mut(),
                // It crossed our reply.
                None if call > 0 && call <= self.last_incoming => return Ok(()),
                None => return Err(unknown),
            },
        };
        let Some(half) = half else { return Err(unknown) };
        let over = half.is_over();
        if let StreamPart::Credit { bytes } = part {
            half.allow(stream, bytes)?;
        } else {
            half.stop(stream)?;
            self.end_stream(stream, false);
        }
        if !over {
            self.events.push_back(Event::StreamChanged { stream });
        }
        Ok(())
    }

    fn receive_ping(&mut self, token: u64) -> Result<(), Violation> {
        if self.pongs_queued == MAX_PINGS {
            return Err(Violation::TooManyPings { limit: MAX_PINGS });
        }
        self.pongs_queued += 1;
        self.outbox.push_control(&Header::Pong { token });
        Ok(())
    }

    fn receive_pong(&mut self, token: u64, now: Instant) -> Result<(), Violation> {
        match self.pings.pop_front() {
            Some((sent, at)) if sent == token => {
                let round_trip = now.saturating_duration_since(at);
                self.events.push_back(Event::Pong { token, round_trip });
                Ok(())
            }
            _ => Err(Violation::PongUnexpected { token }),
        }
    }

    fn receive_drain(
        &mut self,
        budget: u64,
        reason: Cow<'static, str>,
        save_state: bool,
        last_call: u64,
    ) -> Result<(), Violation> {
        check_name("reason", &reason)?;
        if self.drained_after.is_some() {
            return Err(Violation::DrainTwice);
        }
        if last_call < self.last_incoming {
            return Err(Violation::CallAfterDrain { id: self.last_incoming, last: last_call });
        }
        self.drained_after = Some(last_call);
        self.events.push_back(Event::Drain(Drain {
            budget: Duration::from_millis(budget),
            reason: reason.into_owned(),
            save_state,
        }));
        self.tell_drained();
        Ok(())
    }
}

/// A call as it came.
struct Request {
    id: u64,
    method: Cow<'static, str>,
    payload: Payload,
    timeout: Option<u64>,
    trace: Option<TraceContext>,
    on_behalf_of: Option<Cow<'static, str>>,
    streams: Streams,
}

fn check_name(part: &'static str, name: &str) -> Result<(), Violation> {
    if name.len() > MAX_NAME {
        return Err(Violation::NameTooLong { part, length: name.len(), limit: MAX_NAME });
    }
    Ok(())
}
