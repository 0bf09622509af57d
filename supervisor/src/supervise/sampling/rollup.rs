//! From samples to the rows of the history.
//!
//! A minute that is over is written for all plugins at once. The one that is not is only here: it is lost
//! when the supervisor dies, and so is what a process used from then to the next supervisor's first sample.

use std::collections::BTreeMap;

use crate::id::PluginId;
use crate::supervise::store::{Step, Used};

/// In milliseconds.
const MINUTE: i64 = 60_000;

/// The minute that is not over, and before that is taken, what came late to one that is.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    /// Each is of the minute (seconds since the epoch) that it stands under.
    open: BTreeMap<(PluginId, i64), Used>,
}

impl Rollup {
    /// Adds what a plugin used in the time that it covers until `end` (milliseconds since the epoch).
    pub(super) fn add(&mut self, plugin: &PluginId, used: &Used, end: i64) {
        for part in split(used, end) {
            let minute = (plugin.clone(), Step::Minute.beginning(part.time));
            self.open.entry(minute).and_modify(|open| *open = open.and(&part)).or_insert(part);
        }
    }

    /// What is of another minute than `now` (seconds since the epoch). That is one that is over, or
    /// the clock was set back.
    pub(super) fn take_over(&mut self, now: i64) -> Vec<(PluginId, Used)> {
        let now = Step::Minute.beginning(now);
        let (open, over): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.open).into_iter().partition(|((_, minute), _)| *minute == now);
        self.open = open;
        over.into_iter().map(|((plugin, _), used)| (plugin, used)).collect()
    }
}

/// Cut at the borders of minutes. Each part has of the amounts what its time is of all the time; what is
/// no amount was seen, as far as anybody knows, in all of it.
fn split(used: &Used, end: i64) -> impl Iterator<Item = Used> {
    let covered = used.covered_ms;
    let begin = end.saturating_sub_unsigned(covered);
    let mut from = begin;
    let mut is_first = true;
    std::iter::from_fn(move || {
        // Where no time is covered there is one part all the same.
        if from >= end && !is_first {
            return None;
        }
        is_first = false;
        let to = (from - from.rem_euclid(MINUTE) + MINUTE).min(end);
        let (before, after) = ((from - begin) as u128, (to - begin) as u128);
        // By what has been given away until then, so that the parts have the sum.
        let until = |amount: u64, at: u128| {
            (u128::from(amount) * at).checked_div(u128::from(covered)).unwrap_or(0) as u64
        };
        let part = |amount: Option<u64>| {
            amount.map(|amount| match covered {
                0 => amount,
                _ => until(amount, after) - until(amount, before),
            })
        };
        let time = from.div_euclid(1000);
        from = to;
        Some(Used {
            time,
            covered_ms: (after - before) as u64,
            cpu_usec: part(used.cpu_usec),
            throttled_usec: part(used.throttled_usec),
            io_read_bytes: part(used.io_read_bytes),
            io_written_bytes: part(used.io_written_bytes),
            network_received_bytes: part(used.network_received_bytes),
            network_sent_bytes: part(used.network_sent_bytes),
            ..*used
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_written_when_it_is_over() {
        let (one, other): (PluginId, PluginId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let used = |time, cpu| Used {
            time,
            covered_ms: 10_000,
            cpu_usec: Some(cpu),
            pids: Some(cpu),
            ..Used::default()
        };
        let mut rollup = Rollup::default();
        rollup.add(&one, &used(0, 5), 71_000);
        rollup.add(&one, &used(0, 3), 81_000);
        assert_eq!(rollup.take_over(119), []);
        rollup.add(&other, &used(0, 1), 120_000);
        let both = Used { covered_ms: 20_000, cpu_usec: Some(8), ..used(61, 5) };
        let over = [(one.clone(), both), (other, used(110, 1))];
        assert_eq!(rollup.take_over(120), over);
        assert_eq!(rollup.take_over(180), []);
        rollup.add(&one, &used(0, 1), 130_000);
        assert_eq!(rollup.take_over(60).len(), 1, "the clock was set back");
        // Of what was used before we came no amount is known.
        let seen = Used { covered_ms: 0, cpu_usec: None, ..used(190, 4) };
        rollup.add(&one, &seen, 190_000);
        assert_eq!(rollup.take_over(240), [(one, seen)]);
    }

    #[test]
    fn whatever_the_interval_each_minute_has_what_was_used_in_it() {
        let plugin: PluginId = "one".parse().unwrap();
        // From half past on, so that no interval begins with a minute; seconds.
        let (begin, end) = (30, 30 + 12_600);
        for interval in [7, 40, 90, 300, 12_600] {
            let mut rollup = Rollup::default();
            let mut rows = Vec::new();
            for time in (begin + interval..=end).step_by(interval as usize) {
                let used = Used {
                    covered_ms: interval as u64 * 1000,
                    cpu_usec: Some(interval as u64 * 1001),
                    pids: Some(2),
                    ..Used::default()
                };
                rollup.add(&plugin, &used, time * 1000);
                rows.extend(rollup.take_over(time));
            }
            rows.extend(rollup.take_over(end + 60));
            let of_minute = |minute: i64| {
                let all = rows.iter().filter(move |(_, used)| used.time / 60 == minute);
                all.map(|(_, used)| *used).reduce(|one, other| one.and(&other))
            };
            let minutes: Vec<Used> = (0..).map_while(of_minute).collect();
            let expected = (0..).map_while(|minute| {
                let seconds = end.min(minute * 60 + 60) - begin.max(minute * 60);
                (seconds > 0).then(|| seconds as u64 * 1000)
            });
            let covered: Vec<u64> = minutes.iter().map(|used| used.covered_ms).collect();
            assert_eq!(covered, expected.collect::<Vec<_>>(), "{interval} s");
            let cpu: u64 = minutes.iter().filter_map(|used| used.cpu_usec).sum();
            assert_eq!(cpu, 12_600 * 1001, "{interval} s");
            for used in &minutes {
                let about = used.covered_ms / 1000 * 1001;
                assert!(used.cpu_usec.unwrap().abs_diff(about) <= 2, "{interval} s: {used:?}");
            }
        }
    }
}
