//! How many refusals are written down one by one.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Monotonic;

/// Of one principal in one window.
const MOST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// How many principals are told apart at a time; those beyond share one count.
const PRINCIPALS: usize = 256;

/// Counts the refusals of each principal.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Throttle {
    windows: HashMap<String, Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Monotonic,
    recorded: u32,
    unrecorded: u64,
}

impl Throttle {
    /// Whether this one is to be written down, and how many before it were not.
    pub(in crate::supervise) fn admit(&mut self, who: &str, now: Monotonic) -> Option<u64> {
        if !self.windows.contains_key(who) && self.windows.len() >= PRINCIPALS {
            // One that hid refusals is kept until it has told how many.
            self.windows.retain(|_, w| w.since.until(now) < WINDOW || w.unrecorded > 0);
        }
        let full = self.windows.len() >= PRINCIPALS && !self.windows.contains_key(who);
        let who = if full { "" } else { who };
        let new = Window { since: now, recorded: 0, unrecorded: 0 };
        let window = self.windows.entry(who.to_owned()).or_insert(new);
        if window.since.until(now) >= WINDOW {
            *window = Window { since: now, recorded: 0, ..*window };
        }
        if window.recorded >= MOST {
            window.unrecorded += 1;
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.unrecorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_the_count_is_told() {
        let mut throttle = Throttle::default();
        let now = Monotonic::now();
        for _ in 0..MOST {
            assert_eq!(throttle.admit("mallory", now), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(throttle.admit("mallory", now), None);
        }
        assert_eq!(throttle.admit("alice", now), Some(0), "another has a count of its own");
        let later = now.plus(WINDOW);
        assert_eq!(throttle.admit("mallory", later), Some(1000));
        assert_eq!(throttle.admit("mallory", later), Some(0));
    }

    #[test]
    fn many_principals_cost_bounded_memory() {
        let mut throttle = Throttle::default();
        let now = Monotonic::now();
        let admitted = (0..10_000).filter(|n| throttle.admit(&n.to_string(), now).is_some());
        assert_eq!(admitted.count(), PRINCIPALS + MOST as usize);
        assert!(throttle.windows.len() <= PRINCIPALS + 1);
        assert!(throttle.admit("new", now.plus(WINDOW)).is_some(), "the old ones make room");
    }
}
