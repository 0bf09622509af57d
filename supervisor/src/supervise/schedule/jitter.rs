//! How much later than due a run begins: always as much for the same run of the same machine, and
//! differently on another one.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::id::PluginId;

/// What a machine has drawn once, so that it differs from others.
pub(super) type Seed = [u8; 16];

#[derive(Clone, Debug)]
pub(super) struct Jitter {
    seed: Seed,
    /// Of the plugin and the schedule.
    place: String,
    longest: SignedDuration,
}

impl Jitter {
    pub(super) fn new(seed: Seed, plugin: &PluginId, schedule: &str, millis: u64) -> Self {
        let longest = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        Self { seed, place: format!("{plugin}/{schedule}"), longest }
    }

    pub(super) fn longest(&self) -> SignedDuration {
        self.longest
    }

    /// Of the run that is due then: shorter than the longest, and than the `gap` before the next.
    pub(super) fn of(&self, due: Timestamp, gap: SignedDuration) -> SignedDuration {
        let below = self.longest.min(gap).as_millis();
        if below <= 0 {
            return SignedDuration::ZERO;
        }
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(due.as_second().to_be_bytes());
        hash.update(&self.place);
        let hash: [u8; 32] = hash.finalize().into();
        let drawn = hash[..8].iter().fold(0u64, |drawn, byte| drawn << 8 | u64::from(*byte));
        // Both fit: the remainder is below a span that was one of milliseconds in 63 bits.
        SignedDuration::from_millis((u128::from(drawn) % below.unsigned_abs()) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn of(seed: u8, plugin: &str, due: i64, gap: i64) -> SignedDuration {
        let jitter = Jitter::new([seed; 16], &plugin.parse().unwrap(), "nightly", 10 * MINUTE);
        jitter.of(Timestamp::from_second(due).unwrap(), SignedDuration::from_secs(gap))
    }

    #[test]
    fn it_is_the_same_again_and_another_elsewhere() {
        let one = of(1, "a", 60, 3600);
        assert_eq!(of(1, "a", 60, 3600), one);
        for other in [of(2, "a", 60, 3600), of(1, "b", 60, 3600), of(1, "a", 120, 3600)] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn it_stays_below_the_longest_and_the_gap_and_uses_what_there_is() {
        for (gap, below) in [(3600, 600), (60, 60)] {
            let all: Vec<SignedDuration> = (0..200).map(|due| of(1, "a", due * 60, gap)).collect();
            assert!(all.iter().all(|one| *one < SignedDuration::from_secs(below)), "{all:?}");
            let quarter = SignedDuration::from_secs(below / 4);
            let early = all.iter().filter(|one| **one < quarter).count();
            assert!((20..80).contains(&early), "{early} of 200 are in the first quarter");
        }
        let none = Jitter::new([1; 16], &"a".parse().unwrap(), "n", 0);
        let due = Timestamp::from_second(60).unwrap();
        assert_eq!(none.of(due, SignedDuration::MAX), SignedDuration::ZERO);
    }
}
