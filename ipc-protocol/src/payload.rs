//! What a call carries and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec;

/// How the bytes of a [`Payload`] are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// Bytes whose meaning the two ends agreed on otherwise.
    Raw,
    /// UTF-8 JSON (RFC 8259): what the HTTP API sends.
    Json,
    /// The wire's own encoding, see [`codec`]: what Rust plugins send each other.
    Bincode,
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Bincode => "bincode",
        })
    }
}

/// Bytes and how to read them. At most [`crate::frame::MAX_BODY`] of them fit one message; more
/// goes as a stream. Cloning is cheap: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// How to read the body.
    pub encoding: Encoding,
    /// The bytes.
    pub body: Bytes,
}

impl std::fmt::Debug for Payload {
    /// Without the bytes: payloads may hold secrets and are not for logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Payload({}, {} bytes)", self.encoding, self.body.len())
    }
}

/// A payload is not what the reader expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It has another encoding.
    #[error("the payload is {found}, expected {expected}")]
    Encoding {
        /// What the reader wanted.
        expected: Encoding,
        /// What came.
        found: Encoding,
    },
    /// It does not decode as the type wanted.
    #[error(transparent)]
    Decode(#[from] codec::DecodeError),
}

impl Payload {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::raw(Bytes::new())
    }

    /// Bytes that mean what both ends say they mean.
    pub fn raw(body: impl Into<Bytes>) -> Self {
        Self { encoding: Encoding::Raw, body: body.into() }
    }

    /// Text that is JSON already. It is not checked here: the reader parses it.
    pub fn json_bytes(body: impl Into<Bytes>) -> Self {
        Self { encoding: Encoding::Json, body: body.into() }
    }

    /// A value in the wire's own encoding. Fails only if its `Serialize` does.
    pub fn bincode<T: Serialize + ?Sized>(value: &T) -> Result<Self, codec::EncodeError> {
        codec::try_encode(value)
            .map(|bytes| Self { encoding: Encoding::Bincode, body: bytes.into() })
    }

    /// The value of a payload in the wire's own encoding. It may borrow from the payload.
    pub fn decode_bincode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        if self.encoding != Encoding::Bincode {
            return Err(PayloadError::Encoding {
                expected: Encoding::Bincode,
                found: self.encoding,
            });
        }
        Ok(codec::decode(&self.body)?)
    }
}

/// The answer of a call that failed at the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// A stable code in capitals, such as `STATE_CONFLICT`.
    pub code: String,
    /// What happened and what to do, for a person.
    pub message: String,
    /// Typed details as JSON text, where the code has some.
    pub details: Option<String>,
}

impl CallError {
    /// The call's deadline passed before its handler was done.
    pub const TIMEOUT: &'static str = "TIMEOUT";
    /// The caller withdrew the call.
    pub const CANCELLED: &'static str = "CANCELLED";
    /// A bound was met: too many calls, or too many bytes that wait.
    pub const RESOURCE_EXHAUSTED: &'static str = "RESOURCE_EXHAUSTED";

    /// An error without details.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }

    /// The same error with details, as JSON text.
    #[must_use]
    pub fn with_details(mut self, json: impl Into<String>) -> Self {
        self.details = Some(json.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bincode_payload_comes_back_and_others_are_refused() {
        let payload = Payload::bincode(&("book", 30_u32)).unwrap();
        assert_eq!(payload.decode_bincode::<(&str, u32)>(), Ok(("book", 30)));
        let json = Payload::json_bytes("[]");
        assert_eq!(
            json.decode_bincode::<u8>(),
            Err(PayloadError::Encoding { expected: Encoding::Bincode, found: Encoding::Json })
        );
    }

    #[test]
    fn debug_output_does_not_have_the_bytes() {
        let text = format!("{:?}", Payload::raw("hunter2"));
        assert_eq!(text, "Payload(raw, 7 bytes)");
    }
}
