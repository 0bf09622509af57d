//! The envelope of every message.
//!
//! ```text
//! offset  size  field
//! 0       4     total    u32, little endian: the bytes that follow this field
//! 4       2     header   u16, little endian: the length of the header, at least 1
//! 6       h     the header: one encoded value, fully consumed
//! 6 + h   ...   the body: total - 2 - h raw bytes, at most MAX_BODY
//! ```
//!
//! Every length is checked before a byte of memory is reserved for what it announces.

use crate::Violation;

/// The most bytes that one frame may have after its length field.
pub const MAX_FRAME: usize = MAX_BODY + 64 * 1024;
/// The most bytes in the body of a message, whether it comes in one frame or in several.
pub const MAX_BODY: usize = 1024 * 1024;
/// The most bytes in a header: what its length field can say.
pub const MAX_HEADER: usize = u16::MAX as usize;
/// The bytes before the header: both length fields.
pub const PREFIX: usize = 6;
/// The smallest frame there is, with its length fields: a header of one byte and no body.
pub const MIN_FRAME: usize = PREFIX + 1;
/// A sender cuts bodies into pieces of this many bytes, so that a control frame never waits for
/// more than one of them.
pub const FRAGMENT: usize = 64 * 1024;

/// The lengths that a frame announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Bytes in the header.
    pub header: usize,
    /// Bytes in the body.
    pub body: usize,
}

impl Lengths {
    /// Reads the length fields at the start of `bytes`: `None` if they are not all there yet.
    /// `max_body` is what the receiver accepts at this moment.
    pub fn parse(bytes: &[u8], max_body: usize) -> Result<Option<Self>, Violation> {
        let Some((total, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let total = u32::from_le_bytes(*total) as usize;
        if total > MAX_FRAME {
            return Err(Violation::FrameTooLong { length: total, limit: MAX_FRAME });
        }
        if total < MIN_FRAME - 4 {
            return Err(Violation::FrameTooShort { length: total, minimum: MIN_FRAME - 4 });
        }
        let Some((header, _)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        let header = usize::from(u16::from_le_bytes(*header));
        if header == 0 {
            return Err(Violation::HeaderEmpty);
        }
        let Some(body) = (total - 2).checked_sub(header) else {
            return Err(Violation::HeaderTooLong { header, frame: total });
        };
        if body > max_body {
            return Err(Violation::BodyTooLong { length: body, limit: max_body });
        }
        Ok(Some(Self { header, body }))
    }

    /// The length fields as bytes.
    ///
    /// # Panics
    /// If the lengths are beyond [`MAX_HEADER`] or [`MAX_BODY`]: a sender checks them first.
    pub fn encode(self) -> [u8; PREFIX] {
        let total = u32::try_from(2 + self.header + self.body)
            .ok()
            .filter(|total| *total as usize <= MAX_FRAME)
            .expect("the sender checks the body against MAX_BODY");
        let header = u16::try_from(self.header).expect("the sender checks the header's length");
        let mut bytes = [0; PREFIX];
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[4..].copy_from_slice(&header.to_le_bytes());
        bytes
    }

    /// The bytes of the whole frame, length fields included.
    pub fn frame(self) -> usize {
        PREFIX + self.header + self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        let lengths = Lengths { header: 300, body: 70_000 };
        let bytes = lengths.encode();
        assert_eq!(Lengths::parse(&bytes, MAX_BODY), Ok(Some(lengths)));
        assert_eq!(lengths.frame(), 6 + 300 + 70_000);
    }

    #[test]
    fn too_few_bytes_are_not_an_error() {
        let bytes = Lengths { header: 1, body: 0 }.encode();
        for have in 0..PREFIX {
            assert_eq!(Lengths::parse(&bytes[..have], MAX_BODY), Ok(None), "{have} bytes");
        }
    }

    #[test]
    fn a_four_gigabyte_prefix_is_refused_by_its_first_four_bytes() {
        let violation = Lengths::parse(&[0xff; 4], MAX_BODY).unwrap_err();
        assert_eq!(
            violation,
            Violation::FrameTooLong { length: u32::MAX as usize, limit: MAX_FRAME }
        );
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let parse = |bytes: [u8; 6]| Lengths::parse(&bytes, MAX_BODY).unwrap_err();
        assert_eq!(parse([2, 0, 0, 0, 0, 0]), Violation::FrameTooShort { length: 2, minimum: 3 });
        assert_eq!(parse([3, 0, 0, 0, 0, 0]), Violation::HeaderEmpty);
        assert_eq!(parse([3, 0, 0, 0, 9, 0]), Violation::HeaderTooLong { header: 9, frame: 3 });
    }

    #[test]
    fn the_receiver_says_how_long_a_body_may_be() {
        let bytes = Lengths { header: 1, body: 11 }.encode();
        assert_eq!(
            Lengths::parse(&bytes, 10),
            Err(Violation::BodyTooLong { length: 11, limit: 10 })
        );
        assert!(Lengths::parse(&bytes, 11).is_ok());
    }
}
