//! From messages to bytes.
//!
//! Two lanes. The control lane is one buffer of small frames; the bulk lane is a queue of *units*,
//! each a run of whole frames of which the last may have its body in a shared buffer. A unit is at
//! most one piece of 64 KiB and a few small frames, and the control lane is written as soon as the
//! unit that has begun is out: so a ping waits for no more than that, however much is queued.
//!
//! A control frame is never written after a bulk frame that was queued later; it may be written
//! before one that was queued earlier, and whoever queues it has to know that nothing depends on
//! their order ([`Outbox::is_written`]).
//!
//! Small frames are appended to the last unit, so that a turn of the driver that answers sixty
//! calls writes one buffer. Large bodies are never copied: they go into the same `writev` as
//! the header before them.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::codec;
use crate::frame::{FRAGMENT, Lengths, PREFIX};
use crate::message::Header;

/// Bodies up to this length are copied behind their header: cheaper than one more iovec.
const COPIED_BODY: usize = 4 * 1024;

/// A unit takes no more small frames beyond this length.
const RUN: usize = 16 * 1024;

/// How long a run may be for a large body to join it.
const HEAD: usize = 512;

/// The most slices that are worth giving to one `writev`.
pub(super) const MAX_SLICES: usize = 64;

/// Buffers of written units kept for the next ones.
const SPARE: usize = 8;

/// What is settled when a unit has been written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    /// Calls of the peer's whose reply is out.
    pub(super) replies: usize,
    /// The bodies of those calls, in bytes.
    pub(super) call_bytes: usize,
}

impl Settled {
    pub(super) fn add(&mut self, other: Self) {
        self.replies += other.replies;
        self.call_bytes += other.call_bytes;
    }
}

#[derive(Debug, Default)]
struct Unit {
    head: Vec<u8>,
    body: Bytes,
    settled: Settled,
}

impl Unit {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    /// Our `Hello`: before everything else.
    preface: Vec<u8>,
    preface_written: usize,
    control: Vec<u8>,
    control_written: usize,
    units: VecDeque<Unit>,
    /// Bytes of the first unit that are written.
    unit_written: usize,
    /// The number of the first unit; they are numbered from 0.
    first_unit: u64,
    queued: usize,
    /// Nothing but the preface may go yet.
    held: bool,
    /// Nothing is accepted any more.
    closed: bool,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// Starts with our `Hello`, and holds the rest until [`Outbox::release`].
    pub(super) fn new(hello: &[u8]) -> Self {
        let mut preface = Lengths { header: hello.len(), body: 0 }.encode().to_vec();
        preface.extend_from_slice(hello);
        Self {
            queued: preface.len(),
            preface,
            preface_written: 0,
            control: Vec::new(),
            control_written: 0,
            units: VecDeque::new(),
            unit_written: 0,
            first_unit: 0,
            held: true,
            closed: false,
            spare: Vec::new(),
        }
    }

    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// Bytes that wait, `Hello` and control frames included.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether some of the bytes that wait may be written now.
    pub(super) fn is_ready(&self) -> bool {
        if self.held { self.preface_written < self.preface.len() } else { self.queued > 0 }
    }

    /// Whether the unit with this number has been written.
    pub(super) fn is_written(&self, unit: u64) -> bool {
        unit < self.first_unit
    }

    /// Whether every control frame has been written.
    pub(super) fn control_is_empty(&self) -> bool {
        self.control.is_empty()
    }

    /// Queues a control frame.
    pub(super) fn push_control(&mut self, header: &Header<'_>) {
        if !self.closed {
            let before = self.control.len();
            append_frame(&mut self.control, header, 0, &[]);
            self.queued += self.control.len() - before;
        }
    }

    /// Queues a frame behind all others, and returns the number of its unit. The header says how
    /// much of a long body follows in further frames, given `rest`.
    pub(super) fn push<'h>(
        &mut self,
        body: Bytes,
        settled: Settled,
        header: impl Fn(u32) -> Header<'h>,
    ) -> u64 {
        if self.closed {
            return self.first_unit;
        }
        if body.len() <= COPIED_BODY {
            let unit = self.unit(RUN);
            let before = unit.head.len();
            append_frame(&mut unit.head, &header(0), body.len(), &body);
            unit.settled.add(settled);
            self.queued += self.units.back().map_or(0, |unit| unit.head.len()) - before;
        } else {
            self.push_pieces(body, settled, header);
        }
        self.last_unit()
    }

    fn push_pieces<'h>(
        &mut self,
        mut body: Bytes,
        settled: Settled,
        header: impl Fn(u32) -> Header<'h>,
    ) {
        let piece = body.split_to(body.len().min(FRAGMENT));
        let first = header(body.len() as u32);
        self.push_piece(&first, piece);
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(FRAGMENT));
            self.push_piece(&Header::More, piece);
        }
        if let Some(unit) = self.units.back_mut() {
            unit.settled.add(settled);
        }
    }

    fn push_piece(&mut self, header: &Header<'_>, piece: Bytes) {
        let unit = self.unit(HEAD);
        let before = unit.head.len();
        append_frame(&mut unit.head, header, piece.len(), &[]);
        let added = unit.head.len() - before + piece.len();
        unit.body = piece;
        self.queued += added;
    }

    /// The last unit, or a new one if that is full or has begun: a frame that joined one that has
    /// begun would overtake the control frames that wait for it to end.
    fn unit(&mut self, full: usize) -> &mut Unit {
        let begun = self.units.len() == 1 && self.unit_written > 0;
        let fits = !begun
            && self.units.back().is_some_and(|unit| unit.body.is_empty() && unit.head.len() < full);
        if !fits {
            let head = self.spare.pop().unwrap_or_default();
            self.units.push_back(Unit { head, ..Unit::default() });
        }
        self.units.back_mut().expect("one was pushed if there was none")
    }

    fn last_unit(&self) -> u64 {
        self.first_unit + (self.units.len() as u64).saturating_sub(1)
    }

    /// Accepts nothing more; `last` goes behind everything that is queued.
    pub(super) fn finish(&mut self, last: &Header<'_>) {
        self.push(Bytes::new(), Settled::default(), |_| last.clone());
        self.closed = true;
        self.held = false;
    }

    /// Drops everything but what has begun; `last` goes right behind that.
    pub(super) fn abort(&mut self, last: &Header<'_>) {
        let keep = usize::from(self.unit_written > 0);
        while self.units.len() > keep
            && let Some(unit) = self.units.pop_back()
        {
            self.queued -= unit.len();
        }
        if self.control_written == 0 {
            self.queued -= self.control.len();
            self.control.clear();
        }
        self.push_control(last);
        self.closed = true;
        self.held = false;
    }

    /// Fills `slices` with what is to be written next, in order, and returns how many it used.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut add = |bytes: &'a [u8]| {
            if !bytes.is_empty()
                && let Some(slice) = slices.get_mut(used)
            {
                *slice = IoSlice::new(bytes);
                used += 1;
            }
        };
        add(&self.preface[self.preface_written..]);
        if self.held {
            return used;
        }
        let control = &self.control[self.control_written..];
        let mut units = self.units.iter();
        if self.unit_written > 0
            && let Some(unit) = units.next()
        {
            match unit.head.get(self.unit_written..) {
                Some(head) => {
                    add(head);
                    add(&unit.body);
                }
                None => add(&unit.body[self.unit_written - unit.head.len()..]),
            }
        }
        add(control);
        // More units than a `writev` takes slices need not be visited.
        for unit in units.take(MAX_SLICES) {
            add(&unit.head);
            add(&unit.body);
        }
        used
    }

    /// `count` bytes of what [`Outbox::slices`] gave have been written.
    pub(super) fn written(&mut self, mut count: usize) -> Settled {
        let mut settled = Settled::default();
        self.queued -= count;
        let preface = count.min(self.preface.len() - self.preface_written);
        self.preface_written += preface;
        count -= preface;
        if self.unit_written > 0 {
            count = self.written_unit(count, &mut settled);
        }
        if self.unit_written == 0 {
            let control = count.min(self.control.len() - self.control_written);
            self.control_written += control;
            count -= control;
            if self.control_written == self.control.len() {
                self.control.clear();
                self.control_written = 0;
            }
        }
        while count > 0 {
            count = self.written_unit(count, &mut settled);
        }
        settled
    }

    /// Takes up to `count` bytes off the first unit, and returns how many are left.
    fn written_unit(&mut self, count: usize, settled: &mut Settled) -> usize {
        let Some(unit) = self.units.front() else { return 0 };
        let missing = unit.len() - self.unit_written;
        if count < missing {
            self.unit_written += count;
            return 0;
        }
        settled.add(unit.settled);
        self.unit_written = 0;
        self.first_unit += 1;
        if let Some(Unit { mut head, .. }) = self.units.pop_front()
            && self.spare.len() < SPARE
        {
            head.clear();
            self.spare.push(head);
        }
        count - missing
    }
}

fn append_frame(buffer: &mut Vec<u8>, header: &Header<'_>, length: usize, body: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX]);
    codec::encode_into(header, buffer);
    let lengths = Lengths { header: buffer.len() - start - PREFIX, body: length };
    buffer[start..start + PREFIX].copy_from_slice(&lengths.encode());
    buffer.extend_from_slice(body);
}
