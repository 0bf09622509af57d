//! Bulk data that goes with a call.

use bytes::Bytes;

/// Why a stream is not, or no longer, there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The sending end gave up: what came is not all.
    #[error("the sender gave up before the end of the stream")]
    Reset,
    /// The receiving end wants no more, or the call is over.
    #[error("the receiver wants no more of the stream")]
    Stopped,
    /// The session ended.
    #[error("the session is over: {0}")]
    Ended(bulkhead_ipc_protocol::EndReason),
}

/// The sending end. Dropped without [`StreamWriter::end`], it tells the receiver that data is
/// missing.
#[derive(Debug)]
pub struct StreamWriter {}

impl StreamWriter {
    /// Sends all of `data`, in pieces, as the receiver allows. Waits while it does not.
    pub async fn write(&mut self, data: Bytes) -> Result<(), StreamError> {
        let _ = data;
        unimplemented!()
    }

    /// Says that this was all.
    pub fn end(self) -> Result<(), StreamError> {
        unimplemented!()
    }
}

/// The receiving end. Dropped before the end, it tells the sender to stop.
#[derive(Debug)]
pub struct StreamReader {}

impl StreamReader {
    /// The next piece, 1 byte to 64 KiB; `None` at the end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, StreamError> {
        unimplemented!()
    }
}
