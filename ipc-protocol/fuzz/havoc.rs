//! A fuzzer's way with its seeds, without the fuzzer: bytes are changed, cut, doubled, swapped and
//! joined for a fixed time. It sees no coverage, so it finds less than `cargo fuzz`, but it runs
//! wherever the tests do.
//!
//! `BULKHEAD_FUZZ_SECONDS` is for how long, and `BULKHEAD_FUZZ_SEED` the number from which the changes
//! follow; what fails is printed in hexadecimal, to become a file of the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long each target has.
const SECONDS: u64 = 5;
/// Bytes that mean something to parsers: ends, signs, quotes, brackets, length prefixes.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'\\%&/:;=?[]{}0-9";
/// No case is longer.
const LONGEST: usize = 256 * 1024;

/// xorshift64*: repeatable, and good enough to choose places.
pub(crate) struct Random(u64);

impl Random {
    /// From the environment, or from the time.
    pub(crate) fn new() -> Self {
        let given = std::env::var("BULKHEAD_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
        let now =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |it| it.as_nanos() as u64);
        let seed: u64 = given.unwrap_or_else(now);
        println!("BULKHEAD_FUZZ_SEED={seed}");
        Self(seed.max(1))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// For how long.
pub(crate) fn budget() -> Duration {
    let given = std::env::var("BULKHEAD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(SECONDS))
}

/// Calls the target with what becomes of the seeds, until the time is over; how many cases.
pub(crate) fn run(seeds: &[Vec<u8>], mut target: impl FnMut(&[u8])) -> u64 {
    let (mut random, until) = (Random::new(), Instant::now() + budget());
    let mut cases = 0;
    while Instant::now() < until {
        let case = mutate(seeds, &mut random);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&case))) {
            print!("case {cases} fails: ");
            for byte in &case {
                print!("{byte:02x}");
            }
            println!();
            resume_unwind(panic);
        }
        cases += 1;
    }
    println!("{cases} cases");
    cases
}

/// One of the seeds, changed in a few places.
pub(crate) fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut case = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(case.len());
        let length = random.below((case.len() - at).min(64)) + 1;
        let end = (at + length).min(case.len());
        match random.below(9) {
            _ if case.is_empty() => case.push(random.below(256) as u8),
            0 => case[at] ^= 1 << random.below(8),
            1 => case[at] = TELLING[random.below(TELLING.len())],
            2 => case[at] = random.below(256) as u8,
            3 => case.truncate(at),
            4 => drop(case.drain(at..end)),
            5 => {
                // The same again, and again.
                let piece = case[at..end].to_vec();
                let times = 1 << random.below(8);
                case.splice(at..at, piece.repeat(times));
            }
            6 => case.insert(at, TELLING[random.below(TELLING.len())]),
            7 => {
                // A number that is as large as it can be, in four bytes.
                for byte in case.iter_mut().skip(at).take(4) {
                    *byte = 0xff;
                }
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                case.truncate(at);
                case.extend_from_slice(&other[random.below(other.len()).min(other.len())..]);
            }
        }
        case.truncate(LONGEST);
    }
    case
}
