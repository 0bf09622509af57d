//! The state machine of one session, the same for both peers.
//!
//! ```text
//!              both Hellos                goodbye, either way
//!   greeting ──────────────▶ open ───────────────────────────────▶ ended
//!      │                       │  the peer breaks a rule or a deadline, or the stream ends
//!      └───────────────────────┴─────────────────────────────────────▲
//! ```
//!
//! # Driving it
//!
//! - Read into [`Session::read_target`], then [`Session::received`]; at the end of the stream,
//!   [`Session::input_closed`].
//! - Take what happened with [`Session::poll_event`] until there is none.
//! - Write what [`Session::slices`] gives and report it with [`Session::written`].
//! - When [`Session::next_timeout`] has come, [`Session::handle_timeout`], after reading what
//!   there is to read: a session whose driver was late must not blame its peer.
//! - After [`Event::Ended`] write what is left if the stream takes it at once, and drop it.
//!
//! # Calls
//!
//! A call takes a slot from its request to its reply, on both sides. A caller that stops waiting
//! sends `Cancel`, and the slot stays taken until the peer's reply, which comes in every case; so
//! both sides agree on how many calls there are, a late reply is no violation, and a second one is.

mod body;
mod calls;
mod event;
mod half;
mod inbox;
mod outbox;
mod receive;
mod request;
mod streams;
mod timers;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

pub use self::calls::NumberHasher;
use self::calls::{IncomingCall, OutgoingCall, Table};
pub use self::event::{CallReceived, Event, StreamId};
use self::inbox::Inbox;
use self::outbox::{Outbox, Settled};
pub use self::streams::Room;
use self::timers::Timers;
use crate::hello::{Hello, HelloError, Negotiated};
use crate::limits::Limits;
use crate::message::{GoodbyeCause, Header};
use crate::outcome::EndReason;
use crate::violation::Violation;

/// The most slices that are worth giving to one `writev`.
pub const MAX_SLICES: usize = outbox::MAX_SLICES;

/// One session. See the [module's documentation](self).
#[derive(Debug)]
pub struct Session {
    hello: Hello,
    limits: Limits,
    negotiated: Option<Negotiated>,
    inbox: Inbox,
    outbox: Outbox,
    events: VecDeque<Event>,
    ended: Option<EndReason>,
    /// Why we said goodbye, from then until it is written.
    finishing: Option<String>,

    outgoing: Table<OutgoingCall>,
    outgoing_bytes: usize,
    last_outgoing: u64,

    incoming: Table<IncomingCall>,
    /// Calls in `incoming` that are not replied to.
    running: usize,
    /// Replies in the outbox.
    replies_queued: usize,
    /// The bodies of calls that run or whose reply is in the outbox.
    incoming_bytes: usize,
    last_incoming: u64,

    /// We sent a `Drain`.
    draining: bool,
    /// The peer sent a `Drain` with this as its last call.
    drained_after: Option<u64>,
    drained_told: bool,

    pings: VecDeque<(u64, Instant)>,
    last_ping: u64,
    /// Pongs in the outbox.
    pongs_queued: usize,

    /// A stream met a full outbox.
    room_wanted: bool,

    timers: Timers,
    started: Instant,
    /// Since when a message stands still, and at which milestone of the inbox.
    standing: Option<(Instant, u64)>,
    /// Since when the peer takes nothing though there is something for it.
    write_blocked: Option<Instant>,
}

impl Session {
    /// A session that starts with `hello`. Fails if that cannot be put on the wire.
    pub fn new(hello: Hello, limits: Limits, now: Instant) -> Result<Self, HelloError> {
        let outbox = Outbox::new(&hello.encode()?);
        Ok(Self {
            hello,
            limits,
            negotiated: None,
            inbox: Inbox::new(),
            outbox,
            events: VecDeque::new(),
            ended: None,
            finishing: None,
            outgoing: Table::default(),
            outgoing_bytes: 0,
            last_outgoing: 0,
            incoming: Table::default(),
            running: 0,
            replies_queued: 0,
            incoming_bytes: 0,
            last_incoming: 0,
            draining: false,
            drained_after: None,
            drained_told: false,
            pings: VecDeque::new(),
            last_ping: 0,
            pongs_queued: 0,
            room_wanted: false,
            timers: Timers::default(),
            started: now,
            standing: None,
            write_blocked: None,
        })
    }

    /// What both sides agreed on; `None` before that.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Why the session is over; `None` while it is not.
    pub fn ended(&self) -> Option<&EndReason> {
        self.ended.as_ref()
    }

    /// The bounds that it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    // ---- input ----

    /// Where to read the next bytes to. It is never empty, and no longer than useful.
    pub fn read_target(&mut self) -> &mut [u8] {
        self.inbox.target()
    }

    /// `count` bytes were read into the [`Session::read_target`].
    pub fn received(&mut self, count: usize, now: Instant) {
        self.inbox.received(count);
        while self.ended.is_none() {
            match self.inbox.next() {
                Ok(Some(frame)) => {
                    if let Err(violation) = self.receive(frame, now) {
                        self.violated(violation);
                    }
                }
                Ok(None) => break,
                Err(violation) => self.violated(violation),
            }
        }
        let milestones = self.inbox.milestones();
        match self.standing {
            _ if self.inbox.pending() == 0 => self.standing = None,
            Some((_, milestone)) if milestone == milestones => {}
            _ => self.standing = Some((now, milestones)),
        }
    }

    /// Copies bytes in: for tests and for inputs that are in memory anyway.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() && self.ended.is_none() {
            let target = self.inbox.target();
            let count = target.len().min(bytes.len());
            let (taken, rest) = bytes.split_at(count);
            target[..count].copy_from_slice(taken);
            bytes = rest;
            self.received(count, now);
        }
    }

    /// The stream has ended: nothing more will come.
    pub fn input_closed(&mut self) {
        let reason = self.finishing.take().map_or(EndReason::Closed, EndReason::Finished);
        self.end(reason);
    }

    /// The stream failed, or its driver is going away.
    pub fn fail(&mut self, reason: EndReason) {
        self.end(reason);
    }

    // ---- output ----

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Session::poll_event`] has something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether there is something to write.
    pub fn has_output(&self) -> bool {
        self.outbox.is_ready()
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued()
    }

    /// Fills `slices` with what is to be written next, in order, and returns how many it used;
    /// none if there is nothing. More than [`MAX_SLICES`] are not worth it.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.slices(slices)
    }

    /// The first `count` bytes of what [`Session::slices`] gave were written.
    pub fn written(&mut self, count: usize, now: Instant) {
        let Settled { replies, call_bytes } = self.outbox.written(count);
        self.replies_queued -= replies;
        self.incoming_bytes -= call_bytes;
        if self.outbox.control_is_empty() {
            self.pongs_queued = 0;
        }
        if count > 0 {
            self.write_blocked = self.outbox.is_ready().then_some(now);
        }
        if self.room_wanted && self.outbox.queued() < streams::ROOM / 2 {
            self.room_wanted = false;
            self.events.push_back(Event::Writable);
        }
        if self.outbox.queued() == 0
            && let Some(why) = self.finishing.take()
        {
            self.end(EndReason::Finished(why));
        }
    }

    /// The stream takes nothing at the moment: the peer's time to read starts.
    pub fn write_blocked(&mut self, now: Instant) {
        self.write_blocked.get_or_insert(now);
    }

    // ---- time ----

    /// When [`Session::handle_timeout`] is to be called next. It may turn out to be early.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let handshake =
            self.negotiated.is_none().then(|| self.started + self.limits.handshake_deadline);
        let standing = self.standing.map(|(since, _)| since + self.limits.frame_deadline);
        let blocked = self.write_blocked.map(|since| since + self.limits.write_deadline);
        [handshake, standing, blocked, self.timers.next()].into_iter().flatten().min()
    }

    /// Lets deadlines pass that have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        while let Some(due) = self.timers.pop(now) {
            self.call_due(due);
        }
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let Limits { handshake_deadline, frame_deadline, write_deadline, .. } = self.limits;
        if self.negotiated.is_none() && passed(self.started, handshake_deadline) {
            self.end(EndReason::HandshakeTimeout { limit: handshake_deadline });
        } else if let Some((since, _)) = self.standing
            && passed(since, frame_deadline)
        {
            let have = self.inbox.pending();
            self.end(EndReason::SlowFrame { have, limit: frame_deadline });
        } else if let Some(since) = self.write_blocked
            && passed(since, write_deadline)
        {
            let queued = self.outbox.queued();
            self.end(EndReason::PeerUnresponsive { queued, limit: write_deadline });
        }
    }

    // ---- the end ----

    fn violated(&mut self, violation: Violation) {
        let reason = violation.to_string();
        self.outbox
            .abort(&Header::Goodbye { cause: GoodbyeCause::Violation, reason: reason.into() });
        self.end(EndReason::Violation(violation));
    }

    fn end(&mut self, reason: EndReason) {
        if self.ended.is_none() {
            self.ended = Some(reason.clone());
            self.finishing = None;
            self.events.push_back(Event::Ended(reason));
        }
    }
}
