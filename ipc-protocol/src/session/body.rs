//! Buffers for long bodies.
//!
//! They are initialized memory that is used again: neither cleared nor given back to the system
//! between two messages, which costs as much as copying the message. What an earlier message left
//! in one is never seen, since only what was filled can be read.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept for the next bodies, for all sessions of the process together.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// How many are kept; each is about a mebibyte at most.
const KEPT: usize = 8;

/// Shorter ones are left to the allocator, which is good at them.
const WORTH_KEEPING: usize = 128 * 1024;

/// A buffer of fixed capacity that is filled from its start.
#[derive(Debug)]
pub(super) struct Body {
    /// Initialized throughout, perhaps longer than asked for.
    buffer: Vec<u8>,
    length: usize,
}

impl Body {
    pub(super) fn new(capacity: usize) -> Self {
        let spare = if capacity < WORTH_KEEPING { None } else { take_spare(capacity) };
        Self { buffer: spare.unwrap_or_else(|| vec![0; capacity]), length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The next `count` bytes, to be written to.
    pub(super) fn free(&mut self, count: usize) -> &mut [u8] {
        &mut self.buffer[self.length..self.length + count]
    }

    /// `count` bytes of [`Body::free`] have been written.
    pub(super) fn fill(&mut self, count: usize) {
        self.length += count;
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.free(bytes.len()).copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The bytes, for as long as anybody holds them.
    pub(super) fn freeze(mut self) -> Bytes {
        if self.buffer.len() < WORTH_KEEPING {
            self.buffer.truncate(self.length);
            return Bytes::from(std::mem::take(&mut self.buffer));
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() >= WORTH_KEEPING {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        }
    }
}

fn take_spare(capacity: usize) -> Option<Vec<u8>> {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let index = spare.iter().position(|buffer| buffer.len() >= capacity)?;
    Some(spare.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_shows_nothing_of_before() {
        let mut first = Body::new(1024 * 1024);
        first.append(b"secret");
        let bytes = first.freeze();
        assert_eq!(bytes.as_ref(), b"secret");
        let copy = bytes.clone();
        drop(bytes);
        assert_eq!(copy.as_ref(), b"secret");
        drop(copy);
        let mut second = Body::new(512 * 1024);
        assert_eq!(second.bytes(), b"");
        second.append(b"x");
        assert_eq!(second.freeze().as_ref(), b"x");
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let bodies: Vec<_> = (0..3 * KEPT).map(|_| Body::new(WORTH_KEEPING)).collect();
        drop(bodies);
        let kept = SPARE.lock().unwrap().len();
        assert!((1..=KEPT).contains(&kept), "{kept}");
    }
}
