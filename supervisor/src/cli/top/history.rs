//! What a plugin used over the last minutes.

use std::collections::VecDeque;

use super::sample::Moment;

/// How far it goes back.
pub(super) const KEPT: Moment = 15 * 60_000;

/// What was used over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stretch {
    pub(super) from: Moment,
    pub(super) to: Moment,
    pub(super) memory: Option<u64>,
    pub(super) cpu: Option<f64>,
}

/// Stretches, oldest first, none beyond [`KEPT`].
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    stretches: VecDeque<Stretch>,
}

impl History {
    pub(super) fn push(&mut self, stretch: Stretch) {
        while self.stretches.front().is_some_and(|first| first.to < stretch.to - KEPT) {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// Puts what the service remembers before what was seen here.
    pub(super) fn put_before(&mut self, earlier: &[Stretch]) {
        let begin = self.stretches.front().map_or(Moment::MAX, |first| first.from);
        for stretch in earlier.iter().rev().filter(|stretch| stretch.from < begin) {
            self.stretches.push_front(Stretch { to: stretch.to.min(begin), ..*stretch });
        }
    }

    /// The most in each of so many equal parts of the last `span` milliseconds; nothing where it is
    /// not known. The parts keep their place in time, so that what is drawn of them moves in steps
    /// and does not shimmer.
    pub(super) fn parts(
        &self,
        now: Moment,
        span: Moment,
        count: usize,
        value: impl Fn(&Stretch) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut parts = vec![None; count];
        let length = (span / (count.max(1) as Moment)).max(1);
        let last = now.div_euclid(length);
        let index = |at: Moment| at.div_euclid(length) - last + count as Moment - 1;
        for stretch in &self.stretches {
            let Some(value) = value(stretch) else { continue };
            // A stretch ends before the moment that it goes to.
            let (from, to) = (index(stretch.from).max(0), index(stretch.to - 1));
            for part in from..=to.min(count as Moment - 1) {
                let part = &mut parts[part as usize];
                *part = Some(part.map_or(value, |most: f64| most.max(value)));
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(from: Moment, to: Moment, cpu: f64) -> Stretch {
        Stretch { from, to, memory: None, cpu: Some(cpu) }
    }

    fn parts(history: &History, now: Moment) -> Vec<Option<f64>> {
        history.parts(now, 4_000, 4, |stretch| stretch.cpu)
    }

    #[test]
    fn each_part_has_the_most_of_its_time() {
        let mut history = History::default();
        history.push(stretch(0, 500, 1.0));
        history.push(stretch(500, 1_000, 3.0));
        history.push(stretch(2_000, 4_000, 2.0));
        assert_eq!(parts(&history, 3_999), [Some(3.0), None, Some(2.0), Some(2.0)]);
        // Half a part later nothing but the last has moved on.
        assert_eq!(parts(&history, 4_500), [None, Some(2.0), Some(2.0), None]);
        assert_eq!(parts(&History::default(), 0), [None; 4]);
    }

    #[test]
    fn what_the_service_remembers_comes_before() {
        let mut history = History::default();
        history.push(stretch(100, 1_000, 5.0));
        history.put_before(&[
            stretch(-2_000, -1_000, 1.0),
            stretch(-1_000, 800, 2.0),
            stretch(800, 900, 9.0),
        ]);
        assert_eq!(parts(&history, 999), [None, Some(1.0), Some(2.0), Some(5.0)]);
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for at in 0..10_000 {
            history.push(stretch(at * 1_000, (at + 1) * 1_000, 0.0));
        }
        assert_eq!(history.stretches.len() as Moment, KEPT / 1_000 + 1);
    }
}
