//! The calls that are not over, ours and the peer's.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use crate::session::half::{ReceiveHalf, SendHalf};

/// A call of ours.
#[derive(Debug)]
pub(super) struct OutgoingCall {
    pub(super) limit: Duration,
    /// The length of its body, for the bound on all of them.
    pub(super) bytes: usize,
    /// Nobody waits for it any more, but the peer has not replied yet.
    pub(super) abandoned: bool,
    /// The unit of the outbox that has the last frame about it: a cancel must not overtake that.
    pub(super) last_unit: u64,
    pub(super) upload: Option<SendHalf>,
    pub(super) download: Option<ReceiveHalf>,
}

/// A call of the peer's.
#[derive(Debug)]
pub(super) struct IncomingCall {
    /// The length of its body, for the bound on all of them.
    pub(super) bytes: usize,
    /// We have replied, but the caller has not ended its upload yet.
    pub(super) replied: bool,
    pub(super) upload: Option<ReceiveHalf>,
    pub(super) download: Option<SendHalf>,
}

pub(super) type Table<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// A fast hasher for tables whose keys are call numbers.
///
/// Call numbers count upwards and a table has at most a few thousand, so that spreading the bits
/// by one multiplication is enough, even if the peer chooses them badly.
#[derive(Debug, Default, Clone, Copy)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: neighbours land far apart, in the high bits too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
