//! Bulk data: what the local side asks of a session about its streams.
//!
//! A chunk goes out when the receiver has allowed its bytes and the out-buffer has room: a stream
//! never takes more of it than [`ROOM`], so that calls and replies find theirs.

use bytes::Bytes;

use crate::frame::FRAGMENT;
use crate::message::{Direction, Header, StreamPart};
use crate::session::half::{ReceiveHalf, SendHalf};
use crate::session::outbox::Settled;
use crate::session::{Session, StreamId};

/// Streams wait while the out-buffer has this many bytes or more.
pub(super) const ROOM: usize = 4 * FRAGMENT;

/// What a stream on which we send can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A chunk of up to this many bytes, at least one.
    Bytes(usize),
    /// Nothing for the moment: [`super::Event::StreamChanged`] or [`super::Event::Writable`] says
    /// when to ask again.
    Wait,
    /// Nothing any more: the receiver does not want it, the stream has ended, or its call is over.
    Over,
}

impl Session {
    /// What a stream on which we send can take now.
    pub fn room(&mut self, stream: StreamId) -> Room {
        let full = self.outbox.queued() >= ROOM;
        let Some(half) = self.send_half(stream) else { return Room::Over };
        if half.is_over() || half.is_stopped() {
            return Room::Over;
        }
        match half.credit() {
            0 => Room::Wait,
            _ if full => {
                self.room_wanted = true;
                Room::Wait
            }
            credit => Room::Bytes((FRAGMENT as u64).min(credit) as usize),
        }
    }

    /// Sends the first bytes of `data`, as many as [`Session::room`] allows, and takes them off it.
    pub fn send_chunk(&mut self, stream: StreamId, data: &mut Bytes) -> Room {
        let room = self.room(stream);
        if let Room::Bytes(most) = room
            && !data.is_empty()
        {
            let chunk = data.split_to(most.min(data.len()));
            if let Some(half) = self.send_half(stream) {
                half.spend(chunk.len() as u64);
            }
            self.push_part(stream, StreamPart::Chunk, chunk);
        }
        room
    }

    /// Ends a stream on which we send: `complete` says whether that was all. Nothing happens if it
    /// has ended.
    pub fn end_stream(&mut self, stream: StreamId, complete: bool) {
        if self.send_half(stream).is_some_and(SendHalf::end) {
            let part = if complete { StreamPart::End } else { StreamPart::Reset };
            self.push_part(stream, part, Bytes::new());
        }
    }

    /// Allows the peer to send more on a stream that we receive.
    pub fn grant(&mut self, stream: StreamId, bytes: u32) {
        let granted = self.receive_half(stream).map_or(0, |half| half.grant(bytes));
        if granted > 0 {
            self.push_feedback(stream, StreamPart::Credit { bytes: granted });
        }
    }

    /// Wants no more of a stream that we receive; no more events about it will come.
    pub fn stop_stream(&mut self, stream: StreamId) {
        if self.receive_half(stream).is_some_and(ReceiveHalf::stop) {
            self.push_feedback(stream, StreamPart::Stop);
        }
    }

    /// How many bytes ahead of its consumption a stream should be allowed: less while many are
    /// open, so that all of them together stay within bounds.
    pub fn stream_window(&self) -> u32 {
        let open = (self.outgoing.len() + self.incoming.len()).max(1);
        let share = (16 * 1024 * 1024 / open) as u32;
        self.limits.stream_window.min(share).max(FRAGMENT as u32)
    }

    fn send_half(&mut self, stream: StreamId) -> Option<&mut SendHalf> {
        match stream.direction {
            Direction::Upload => self.outgoing.get_mut(&stream.call)?.upload.as_mut(),
            Direction::Download => self.incoming.get_mut(&stream.call)?.download.as_mut(),
        }
    }

    fn receive_half(&mut self, stream: StreamId) -> Option<&mut ReceiveHalf> {
        match stream.direction {
            // After our reply the peer may not hear of its upload any more.
            Direction::Upload => {
                let call = self.incoming.get_mut(&stream.call)?;
                if call.replied { None } else { call.upload.as_mut() }
            }
            Direction::Download => self.outgoing.get_mut(&stream.call)?.download.as_mut(),
        }
    }

    /// A download that is open when we reply is cut short.
    pub(super) fn close_download(&mut self, call: u64) {
        self.end_stream(StreamId { call, direction: Direction::Download }, false);
    }

    /// Feedback goes ahead of bulk data, but never of the call that it is about.
    fn push_feedback(&mut self, stream: StreamId, part: StreamPart) {
        let StreamId { call, direction } = stream;
        let header = Header::Stream { call, direction, part };
        let unsent = direction == Direction::Download
            && self.outgoing.get(&call).is_some_and(|call| !self.outbox.is_written(call.last_unit));
        if unsent {
            self.outbox.push(Bytes::new(), Settled::default(), |_| header.clone());
        } else {
            self.outbox.push_control(&header);
        }
    }

    fn push_part(&mut self, stream: StreamId, part: StreamPart, data: Bytes) {
        let StreamId { call, direction } = stream;
        let unit = self.outbox.push(data, Settled::default(), |_| Header::Stream {
            call,
            direction,
            part,
        });
        if direction == Direction::Upload
            && let Some(call) = self.outgoing.get_mut(&call)
        {
            call.last_unit = unit;
        }
    }
}
