//! Bulk data that goes with a call.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bulkhead_ipc_protocol::EndReason;
use bulkhead_ipc_protocol::session::{Room, StreamId};
use bytes::Bytes;

use crate::shared::{ReadSlot, Shared, State, WriteSlot};

/// Why a stream is not, or no longer, there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The sending end gave up, or the call is over: what came is not all.
    #[error("the stream was cut before its end: what came is not all")]
    Reset,
    /// The receiving end wants no more, or the call is over.
    #[error("the receiver wants no more of the stream")]
    Stopped,
    /// The session ended.
    #[error("the session is over: {0}")]
    Ended(EndReason),
}

/// The sending end. Dropped without [`StreamWriter::end`], it tells the receiver that data is
/// missing.
#[derive(Debug)]
pub struct StreamWriter {
    shared: Arc<Shared>,
    stream: StreamId,
}

impl StreamWriter {
    /// Registers a stream that the session has opened.
    pub(crate) fn new(stream: StreamId, state: &mut State, shared: &Arc<Shared>) -> Self {
        state.writers.insert(stream, WriteSlot::default());
        Self { shared: Arc::clone(shared), stream }
    }

    /// Sends all of `data`, in pieces, as the receiver allows. Waits while it does not. If it is
    /// dropped while it waits, a part of `data` is sent.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        poll_fn(|context| self.poll_write(&mut data, context)).await
    }

    fn poll_write(
        &mut self,
        data: &mut Bytes,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let stream = self.stream;
        self.shared.request(|state| {
            while !data.is_empty() {
                if let Some(reason) = state.session.ended() {
                    return Poll::Ready(Err(StreamError::Ended(reason.clone())));
                }
                match state.session.send_chunk(stream, data) {
                    Room::Bytes(_) => {}
                    Room::Over => return Poll::Ready(Err(StreamError::Stopped)),
                    Room::Wait => {
                        if let Some(slot) = state.writers.get_mut(&stream) {
                            slot.waker = Some(context.waker().clone());
                        }
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Says that this was all.
    pub fn end(self) -> Result<(), StreamError> {
        self.shared.request(|state| {
            if let Some(reason) = state.session.ended() {
                return Err(StreamError::Ended(reason.clone()));
            }
            if state.session.room(self.stream) == Room::Over {
                return Err(StreamError::Stopped);
            }
            state.session.end_stream(self.stream, true);
            Ok(())
        })
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.shared.request(|state| {
            state.session.end_stream(self.stream, false);
            state.writers.remove(&self.stream);
        });
    }
}

/// The receiving end. Dropped before the end, it tells the sender to stop. The sender is allowed
/// nothing before the first read.
#[derive(Debug)]
pub struct StreamReader {
    shared: Arc<Shared>,
    stream: StreamId,
    /// Bytes that the sender has been allowed and that were not read yet.
    allowed: u32,
}

impl StreamReader {
    /// Registers a stream that the session has opened.
    pub(crate) fn new(stream: StreamId, state: &mut State, shared: &Arc<Shared>) -> Self {
        state.readers.insert(stream, ReadSlot::default());
        Self { shared: Arc::clone(shared), stream, allowed: 0 }
    }

    /// The next piece, 1 byte to 64 KiB; `None` at the end. May be dropped while it waits: nothing
    /// is lost.
    pub async fn read(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|context| self.poll_read(context)).await
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let Self { shared, stream, allowed } = self;
        shared.request(|state| {
            let Some(slot) = state.readers.get_mut(stream) else {
                return Poll::Ready(Err(StreamError::Reset));
            };
            let chunk = slot.chunks.pop_front();
            let over = slot.over;
            if let Some(chunk) = &chunk {
                *allowed = allowed.saturating_sub(chunk.len() as u32);
            } else if over.is_none() {
                slot.waker = Some(context.waker().clone());
            }
            let window = state.session.stream_window();
            if over.is_none() && *allowed <= window / 2 {
                state.session.grant(*stream, window - *allowed);
                *allowed = window;
            }
            match (chunk, over, state.session.ended()) {
                (Some(chunk), ..) => Poll::Ready(Ok(Some(chunk))),
                (None, Some(true), _) => Poll::Ready(Ok(None)),
                (None, Some(false), None) => Poll::Ready(Err(StreamError::Reset)),
                (None, _, Some(reason)) => Poll::Ready(Err(StreamError::Ended(reason.clone()))),
                (None, None, None) => Poll::Pending,
            }
        })
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.shared.request(|state| {
            state.readers.remove(&self.stream);
            state.session.stop_stream(self.stream);
        });
    }
}
