//! How values become bytes: the only file that knows the serialization crate.
//!
//! The format is bincode 2 in its standard configuration (little endian, variable-length
//! integers; <https://github.com/bincode-org/bincode/blob/v2.0.1/docs/spec.md>). The crate is no
//! longer maintained, so it is named here and nowhere else, and the golden files under
//! `tests/golden/` pin the bytes that a successor has to produce.

use bincode::config::{self, Config};
use bincode::enc::write::Writer;
use serde::{Deserialize, Serialize};

/// The most bytes that [`decode`] accepts for one value, and the most that a length inside the
/// value may claim: a frame's worth.
pub const MAX_VALUE: usize = crate::frame::MAX_FRAME;

fn configuration() -> impl Config {
    config::standard().with_limit::<MAX_VALUE>()
}

/// The bytes are not exactly one value of the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input is longer than any value may be.
    #[error("{found} bytes of input exceed the limit of {MAX_VALUE} bytes for one value")]
    TooLong {
        /// The length of the input, in bytes.
        found: usize,
    },
    /// The bytes do not have the layout of the type.
    #[error("malformed value in {length} bytes of input: {reason}")]
    Malformed {
        /// The length of the input, in bytes.
        length: usize,
        /// What the decoder stumbled over.
        reason: String,
    },
    /// A whole value was read and bytes are left over.
    #[error("{trailing} bytes are left after a value of {used} bytes")]
    Trailing {
        /// How many bytes the value took.
        used: usize,
        /// How many bytes follow it.
        trailing: usize,
    },
}

/// The value's own `Serialize` implementation refused, or asked for what the format does not have
/// (a sequence of unknown length, for example).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be encoded: {reason}")]
pub struct EncodeError {
    reason: String,
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Encodes a value of one of our own types.
///
/// # Panics
/// If the type's `Serialize` implementation fails. Derived implementations over types of known
/// length cannot; for a type that somebody else wrote, use [`try_encode`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value` to `bytes`, as [`encode`] does.
///
/// # Panics
/// As [`encode`].
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    try_encode_into(value, bytes)
        .expect("a derived Serialize of known length into memory cannot fail");
}

/// Encodes a value of a type that somebody else wrote.
pub fn try_encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    try_encode_into(value, &mut bytes)?;
    Ok(bytes)
}

fn try_encode_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    bincode::serde::encode_into_writer(value, Appender(bytes), configuration())
        .map_err(|error| EncodeError { reason: error.to_string() })
}

/// Decodes exactly one value from all of `bytes`. Strings and byte slices may borrow from it.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    let length = bytes.len();
    if length > MAX_VALUE {
        return Err(DecodeError::TooLong { found: length });
    }
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, configuration())
        .map_err(|error| DecodeError::Malformed { length, reason: error.to_string() })?;
    if used != length {
        return Err(DecodeError::Trailing { used, trailing: length - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        let value = (7_u64, "seven".to_owned(), Some(vec![1_u32, 2, 3]));
        let bytes = encode(&value);
        assert_eq!(decode::<(u64, String, Option<Vec<u32>>)>(&bytes), Ok(value));
    }

    #[test]
    fn strings_can_borrow() {
        let bytes = encode("borrowed");
        let text: &str = decode(&bytes).unwrap();
        assert!(bytes.as_ptr_range().contains(&text.as_ptr()));
    }

    #[test]
    fn a_byte_too_many_is_refused() {
        let mut bytes = encode(&5_u8);
        bytes.push(0);
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::Trailing { used: 1, trailing: 1 }));
    }

    #[test]
    fn a_byte_too_few_is_refused() {
        let bytes = encode("four");
        let error = decode::<String>(&bytes[..4]).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { length: 4, .. }), "{error}");
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_it_is_reserved() {
        // 253 announces a u64: a string of 2^40 bytes in a value of nine.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn too_long_an_input_is_refused() {
        let bytes = vec![0; MAX_VALUE + 1];
        assert_eq!(decode::<u8>(&bytes), Err(DecodeError::TooLong { found: MAX_VALUE + 1 }));
    }

    #[test]
    fn a_value_that_refuses_is_an_error_and_not_a_panic() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not today"))
            }
        }
        assert!(try_encode(&Refuses).unwrap_err().to_string().contains("not today"));
    }
}
