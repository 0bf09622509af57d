//! From samples to the rows of the history.
//!
//! A minute that is over is written for all plugins at once. The one that is not is only here: it is lost
//! when the supervisor dies, and so is what a process used from then to the next supervisor's first sample.

use std::collections::BTreeMap;

use crate::id::PluginId;
use crate::supervise::store::{Step, Used};

/// The minute that is not over.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    open: BTreeMap<PluginId, Used>,
}

impl Rollup {
    /// Adds what a plugin used.
    pub(super) fn add(&mut self, plugin: &PluginId, used: Used) {
        self.open.entry(plugin.clone()).and_modify(|open| *open = open.and(&used)).or_insert(used);
    }

    /// What is of another minute than `now` (seconds since the epoch). That is one that is over, or
    /// the clock was set back.
    pub(super) fn take_over(&mut self, now: i64) -> Vec<(PluginId, Used)> {
        let now = Step::Minute.beginning(now);
        let (open, over): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, used)| Step::Minute.beginning(used.time) == now);
        self.open = open;
        over.into_iter().collect()
    }
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
        rollup.add(&one, used(61, 5));
        rollup.add(&one, used(71, 3));
        assert_eq!(rollup.take_over(119), []);
        rollup.add(&other, used(119, 1));
        let both = Used { covered_ms: 20_000, cpu_usec: Some(8), ..used(61, 5) };
        let over = [(one.clone(), both), (other, used(119, 1))];
        assert_eq!(rollup.take_over(120), over);
        assert_eq!(rollup.take_over(180), []);
        rollup.add(&one, used(120, 1));
        assert_eq!(rollup.take_over(60).len(), 1, "the clock was set back");
    }
}
