//! What the service counts of each plugin: calls, restarts and deaths, from its metrics.

use std::collections::{BTreeMap, VecDeque};

use super::sample::Moment;

/// Over how long calls are averaged.
const WINDOW: Moment = 15_000;

/// Counted since the supervisor's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) restarts: u64,
    pub(super) deaths: u64,
    pub(super) calls: u64,
    /// Of the calls: those that came out otherwise than well, and were not given up by who asked.
    pub(super) failed: u64,
}

impl Counters {
    /// Those of all plugins, from the text of `GET /metrics`.
    pub(super) fn parse(text: &str) -> BTreeMap<String, Self> {
        let mut found = BTreeMap::new();
        for line in text.lines() {
            if let Some((plugin, _, value)) = series(line, "bulkhead_restarts_total") {
                of(&mut found, plugin).restarts += value;
            } else if let Some((plugin, _, value)) = series(line, "bulkhead_deaths_total") {
                of(&mut found, plugin).deaths += value;
            } else if let Some((plugin, more, value)) = series(line, "bulkhead_calls_total") {
                let counters = of(&mut found, plugin);
                counters.calls += value;
                // The last label; a quote within one is escaped.
                let outcome = more.rsplit_once(",outcome=\"").map_or("", |(_, outcome)| outcome);
                if !matches!(outcome, "ok\"" | "cancelled\"") {
                    counters.failed += value;
                }
            }
        }
        found
    }
}

fn of<'a>(found: &'a mut BTreeMap<String, Counters>, plugin: &str) -> &'a mut Counters {
    found.entry(plugin.to_owned()).or_default()
}

/// The plugin, the labels after it, and the value of a line of a family that counts.
fn series<'a>(line: &'a str, family: &str) -> Option<(&'a str, &'a str, u64)> {
    let labels = line.strip_prefix(family)?.strip_prefix("{plugin=\"")?;
    let (labels, value) = labels.rsplit_once("} ")?;
    let (plugin, more) = labels.split_once('"')?;
    Some((plugin, more, value.parse().ok()?))
}

/// How many calls a plugin has got lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    counted: VecDeque<(Moment, Counters)>,
}

impl Pace {
    pub(super) fn push(&mut self, at: Moment, counters: Counters) {
        // A supervisor that was started again begins at zero.
        if self.counted.back().is_some_and(|(_, last)| counters.calls < last.calls) {
            self.counted.clear();
        }
        self.counted.push_back((at, counters));
        while self.counted.get(1).is_some_and(|(second, _)| at - second >= WINDOW) {
            self.counted.pop_front();
        }
    }

    fn ends(&self) -> Option<[(Moment, Counters); 2]> {
        let (first, last) = (*self.counted.front()?, *self.counted.back()?);
        (first.0 < last.0).then_some([first, last])
    }

    pub(super) fn calls_per_second(&self) -> Option<f64> {
        let [(from, before), (to, now)] = self.ends()?;
        Some((now.calls - before.calls) as f64 * 1e3 / (to - from) as f64)
    }

    /// Of the calls, from 0 to 1; absent where there was none.
    pub(super) fn error_share(&self) -> Option<f64> {
        let [(_, before), (_, now)] = self.ends()?;
        let calls = (now.calls - before.calls) as f64;
        (calls > 0.0).then(|| now.failed.saturating_sub(before.failed) as f64 / calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_that_count_are_read() {
        let text = "# HELP bulkhead_calls_total Calls\n# TYPE bulkhead_calls_total counter\n\
            bulkhead_calls_total{plugin=\"a\",method=\"x/y\",outcome=\"ok\"} 7\n\
            bulkhead_calls_total{plugin=\"a\",method=\"z\",outcome=\"cancelled\"} 1\n\
            bulkhead_calls_total{plugin=\"a\",method=\"\\\",outcome=\\\"ok\",outcome=\"died\"} 2\n\
            bulkhead_calls_total_more{plugin=\"a\"} 100\n\
            bulkhead_restarts_total{plugin=\"a\"} 3\n\
            bulkhead_deaths_total{plugin=\"a\",reason=\"killed\"} 1\n\
            bulkhead_deaths_total{plugin=\"a\",reason=\"crashed\"} 4\n\
            bulkhead_restarts_total{plugin=\"b\"} 0\nbulkhead_restarts_total{plugin=\"b\"} x\n";
        let found = Counters::parse(text);
        assert_eq!(found["a"], Counters { restarts: 3, deaths: 5, calls: 10, failed: 2 });
        assert_eq!(found["b"], Counters::default());
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let calls = |calls, failed| Counters { calls, failed, ..Counters::default() };
        let mut pace = Pace::default();
        pace.push(0, calls(100, 0));
        assert_eq!((pace.calls_per_second(), pace.error_share()), (None, None));
        pace.push(2_000, calls(120, 5));
        assert_eq!((pace.calls_per_second(), pace.error_share()), (Some(10.0), Some(0.25)));
        for at in 2..=10 {
            pace.push(at * 2_000, calls(120, 5));
        }
        assert_eq!((pace.calls_per_second(), pace.error_share()), (Some(0.0), None));
        pace.push(22_000, calls(3, 0));
        assert_eq!(pace.calls_per_second(), None, "another supervisor");
    }
}
