//! Bulk data beside a call's request and reply.

pub use bulkhead_ipc_driver::{StreamError, StreamReader, StreamWriter};

use crate::error::{Error, code};

/// The streams that a caller opened with its call; see [`Router::on_stream`](crate::Router::on_stream).
#[derive(Debug, Default)]
pub struct Streams {
    /// What the caller sends. Dropping it before its end tells the caller to stop.
    pub upload: Option<StreamReader>,
    /// Where the caller expects data. [`StreamWriter::end`] says that all was sent; dropping it says that it was not.
    pub download: Option<StreamWriter>,
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        let code = match &error {
            StreamError::Ended(_) => code::SESSION_LOST,
            StreamError::Reset | StreamError::Stopped => code::STREAM_BROKEN,
        };
        Self::new(code, error.to_string())
    }
}
