//! Packets to bytes and back; the sockets themselves are the sandbox crate's descriptor passing.

use std::os::fd::OwnedFd;

use bulkhead_ipc_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_PACKET;

/// One packet as it arrived.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) value: T,
    pub(crate) descriptors: Vec<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("a packet of {length} bytes exceeds the link's limit of {MAX_PACKET}")]
    TooLong { length: usize },
    #[error("the other end of the link sent what cannot be decoded: {0}")]
    Decode(#[from] codec::DecodeError),
    #[error("the link failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other end of the link is closed")]
    Closed,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, LinkError> {
    let bytes = codec::encode(value);
    if bytes.len() > MAX_PACKET {
        return Err(LinkError::TooLong { length: bytes.len() });
    }
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LinkError> {
    if bytes.len() > MAX_PACKET {
        return Err(LinkError::TooLong { length: bytes.len() });
    }
    Ok(codec::decode(bytes)?)
}
