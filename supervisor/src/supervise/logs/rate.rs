//! How much a plugin may write: a bucket of lines and one of bytes, and what is told of the rest.
//!
//! Decisions only; the time comes in with each question.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Monotonic;
use crate::manifest::ByteSize;

/// How many seconds' worth may come at once.
const BURST: f64 = 5.0;
/// Once over the limit, nothing is kept for so long: what is dropped are runs of lines, each told
/// by one record, and not every other line.
pub(super) const SHUT: Duration = Duration::from_secs(2);
/// A flood is over when nothing was dropped for so long; what comes then is another one.
const CALM: Duration = Duration::from_secs(60);

/// What a plugin may write, standard output and error together, in each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) lines: u32,
    pub(crate) bytes: ByteSize,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lines and {} bytes a second", self.lines, self.bytes)
    }
}

/// Lines that were not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) lines: u64,
    /// Their line feeds included.
    pub(crate) bytes: u64,
}

impl Dropped {
    pub(super) fn add(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
    }
}

/// What may come now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    lines: f64,
    bytes: f64,
    filled: Monotonic,
    /// Nothing is kept before this.
    shut_until: Option<Monotonic>,
    /// When it was last told that something was dropped.
    told: Option<Monotonic>,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Monotonic) -> Self {
        let (lines, bytes) = (burst(f64::from(rate.lines)), burst(rate.bytes.bytes() as f64));
        Self { rate, lines, bytes, filled: now, shut_until: None, told: None }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether a line of so many bytes is kept.
    pub(super) fn admit(&mut self, now: Monotonic, bytes: u64) -> bool {
        let (lines_a_second, bytes_a_second) =
            (f64::from(self.rate.lines), self.rate.bytes.bytes() as f64);
        let passed = self.filled.until(now).as_secs_f64();
        self.filled = self.filled.max(now);
        self.lines = (self.lines + passed * lines_a_second).min(burst(lines_a_second));
        self.bytes = (self.bytes + passed * bytes_a_second).min(burst(bytes_a_second));
        if self.shut_until.is_some_and(|until| now < until) {
            return false;
        }
        let bytes = bytes as f64;
        if self.lines < 1.0 || self.bytes < bytes {
            self.shut_until = Some(now.plus(SHUT));
            return false;
        }
        self.shut_until = None;
        self.lines -= 1.0;
        self.bytes -= bytes;
        true
    }

    /// It is told that something was dropped: whether that begins a flood.
    pub(super) fn begins_flood(&mut self, now: Monotonic) -> bool {
        let before = self.told.replace(now);
        before.is_none_or(|before| before.until(now) > CALM)
    }
}

fn burst(a_second: f64) -> f64 {
    a_second * BURST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> (Bucket, Monotonic) {
        let now = Monotonic::now();
        (Bucket::new(Rate { lines: 10, bytes: ByteSize::new(1000) }, now), now)
    }

    fn admitted(bucket: &mut Bucket, now: Monotonic, count: u32, bytes: u64) -> usize {
        (0..count).filter(|_| bucket.admit(now, bytes)).count()
    }

    #[test]
    fn a_burst_is_kept_and_then_runs_of_the_rate() {
        let (mut bucket, start) = bucket();
        assert_eq!(admitted(&mut bucket, start, 80, 1), 50);
        let almost = start.plus(SHUT.saturating_sub(Duration::from_nanos(1)));
        assert_eq!(admitted(&mut bucket, almost, 80, 1), 0);
        // What two seconds let in, at once.
        let (mut now, mut kept) = (start, 0);
        for _ in 0..10 {
            now = now.plus(SHUT);
            let count = admitted(&mut bucket, now, 80, 1);
            assert!((19..=20).contains(&count), "{count}");
            kept += count;
        }
        assert!((190..=200).contains(&kept), "{kept}");
    }

    #[test]
    fn bytes_count_as_well_as_lines() {
        let (mut bucket, start) = bucket();
        assert_eq!(admitted(&mut bucket, start, 30, 400), 12);
        let later = start.plus(Duration::from_secs(3600));
        assert_eq!(admitted(&mut bucket, later, 30, 400), 12, "it holds a burst and no more");
    }

    #[test]
    fn who_stays_within_the_rate_loses_nothing() {
        let (mut bucket, start) = bucket();
        for tick in 0..1000 {
            let now = start.plus(Duration::from_millis(tick * 100));
            assert!(bucket.admit(now, 90), "at {tick}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let (mut bucket, start) = bucket();
        assert_eq!(admitted(&mut bucket, start, 50, 1), 50);
        let later = start.plus(Duration::from_secs(1));
        assert_eq!(admitted(&mut bucket, later, 10, 1), 10);
        assert!(!bucket.admit(start, 1), "a time that has passed is not counted again");
    }

    #[test]
    fn a_flood_is_told_once_until_it_is_calm() {
        let (mut bucket, start) = bucket();
        let at = |seconds: u64| start.plus(Duration::from_secs(seconds));
        let told: Vec<bool> =
            [0, 2, 60, 119, 180].map(|second| bucket.begins_flood(at(second))).to_vec();
        assert_eq!(told, [true, false, false, false, true]);
    }
}
