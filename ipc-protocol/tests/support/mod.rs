//! Frames by hand, and two sessions back to back.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bulkhead_ipc_protocol::frame::Lengths;
use bulkhead_ipc_protocol::message::Header;
use bulkhead_ipc_protocol::session::{Event, MAX_SLICES, Session};
use bulkhead_ipc_protocol::{Hello, Limits, Payload, codec};

pub(crate) fn hello(name: &str) -> Hello {
    Hello::new(name, "0.1.0".parse().unwrap()).unwrap()
}

/// A frame with any header at all.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Lengths { header: header.len(), body: body.len() }.encode().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn message(header: &Header<'_>, body: &[u8]) -> Vec<u8> {
    frame(&codec::encode(header), body)
}

pub(crate) fn hello_frame() -> Vec<u8> {
    frame(&hello("peer").encode().unwrap(), &[])
}

pub(crate) fn raw(text: &str) -> Payload {
    Payload::raw(text.to_owned())
}

/// A session and a clock that only the test moves.
pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) now: Instant,
}

impl Side {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, Limits::default())
    }

    pub(crate) fn with(name: &str, limits: Limits) -> Self {
        let now = Instant::now();
        Self { session: Session::new(hello(name), limits, now).unwrap(), now }
    }

    /// One that has shaken hands with a peer that the test plays.
    pub(crate) fn greeted() -> Self {
        let mut side = Self::new("ours");
        side.feed(&hello_frame());
        assert!(matches!(side.event(), Some(Event::Ready(_))));
        side.take_output(usize::MAX);
        side
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.session.feed(bytes, self.now);
    }

    pub(crate) fn event(&mut self) -> Option<Event> {
        self.session.poll_event()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event()).collect()
    }

    /// Writes up to `most` bytes, as a socket would take them.
    pub(crate) fn take_output(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < most && self.session.has_output() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = self.session.slices(&mut slices);
            let before = bytes.len();
            for slice in &slices[..used] {
                let room = most - bytes.len();
                bytes.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            assert!(bytes.len() > before, "output is announced but there is none");
            self.session.written(bytes.len() - before, self.now);
        }
        bytes
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }
}

/// Two sessions and the bytes between them.
pub(crate) struct Pair {
    pub(crate) a: Side,
    pub(crate) b: Side,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let mut pair = Self { a: Side::with("a", limits.clone()), b: Side::with("b", limits) };
        pair.settle();
        assert!(matches!(pair.a.event(), Some(Event::Ready(_))));
        assert!(matches!(pair.b.event(), Some(Event::Ready(_))));
        pair
    }

    /// Carries everything across, until neither side has anything to say.
    pub(crate) fn settle(&mut self) {
        loop {
            let down = self.a.take_output(usize::MAX);
            self.b.feed(&down);
            let up = self.b.take_output(usize::MAX);
            self.a.feed(&up);
            if down.is_empty() && up.is_empty() {
                break;
            }
        }
    }
}
