//! What to do about one schedule: a pure function of its state, what happened, and the time.
//!
//! ```text
//!      due, on time ─────────────┐            ┌─ none runs, or allow ──▶ start
//!      due, late, missed = once ─┴──▶ begin ──┼─ queue ────────────────▶ waits ── that one ended ──▶ start
//!      due, late, missed = skip ──▶ missed    └─ else ─────────────────▶ skipped
//!      due while one waits ───────▶ skipped, which is told when that one starts
//! ```
//!
//! `accounted` is the time up to which all that was due is dealt with; it only moves forward with what
//! is dealt with, so a clock that is put back repeats nothing. One that is put back by more than
//! [`CORRECTION`] was wrong before, and what it is now counts at once (cron(8) does the same). What was
//! due while the plugin was down, or the machine, or while the clock jumped, is late.

use jiff::{SignedDuration, Timestamp};

use super::calendar::Calendar;
use super::jitter::Jitter;
use crate::manifest::{Missed, Overlap, Schedule};

/// How much later than planned a run may begin and still be on time: a busy machine is no reason to
/// leave it out, and a minute is cron's own measure.
pub(super) const ON_TIME: SignedDuration = SignedDuration::from_secs(60);
/// A clock that goes back further was wrong.
pub(super) const CORRECTION: SignedDuration = SignedDuration::from_hours(3);
/// What is missed is counted up to here.
const MOST_COUNTED: u64 = 1000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Time passed, or the plugin came up or went down.
    Look { up: bool },
    /// A run ended.
    Ended,
    /// Somebody wants a run now.
    Asked,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Begin a run; without a due time it is the one that was asked for.
    Start { due: Option<Timestamp> },
    /// Write down what does not run.
    Note { due: Timestamp, count: u64, why: Left },
    /// It runs already, and may not twice.
    Refuse,
}

/// Why something that was due was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Missed,
    /// The one before still ran.
    Skipped,
}

/// When the next run is due, and when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) due: Timestamp,
    pub(super) start: Timestamp,
}

/// What waits for the one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    due: Timestamp,
    /// Up to when all was dealt with before it.
    since: Timestamp,
    /// The last that was skipped for it, and how many were. Written down once it begins: what is
    /// written down is dealt with, and so would be what came before it.
    skipped: Option<(Timestamp, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct Machine {
    calendar: Calendar,
    overlap: Overlap,
    missed: Missed,
    jitter: Jitter,
    accounted: Timestamp,
    /// Since when a clock is believed that is long before `accounted`.
    corrected: Option<Timestamp>,
    up: bool,
    running: usize,
    waiting: Option<Waiting>,
}

impl Machine {
    /// One whose plugin is down; what was due up to `accounted` is dealt with.
    pub(super) fn new(schedule: &Schedule, jitter: Jitter, accounted: Timestamp) -> Self {
        Self {
            calendar: Calendar::of(schedule),
            overlap: schedule.overlap,
            missed: schedule.missed,
            jitter,
            accounted,
            corrected: None,
            up: false,
            running: 0,
            waiting: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// The next run, if the plugin is up.
    pub(super) fn next(&self, now: Timestamp) -> Option<Next> {
        if self.up { self.after(self.since(now)) } else { None }
    }

    pub(super) fn step(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let since = self.since(now);
        self.corrected = (since != self.accounted).then_some(since);
        let mut effects = Vec::new();
        match input {
            Input::Look { up: true } => {
                self.up = true;
                self.begin_waiting(&mut effects);
                self.look(since, now, &mut effects);
            }
            Input::Look { up: false } => {
                self.up = false;
                // It has not begun: when the plugin is back it was missed.
                if let Some(waiting) = self.waiting.take() {
                    self.accounted = waiting.since;
                }
            }
            Input::Ended => {
                self.running = self.running.saturating_sub(1);
                self.begin_waiting(&mut effects);
            }
            Input::Asked => self.begin(None, since, &mut effects),
        }
        effects
    }

    /// Up to when all is dealt with, as the clock is now.
    fn since(&self, now: Timestamp) -> Timestamp {
        if self.accounted.duration_since(now) <= CORRECTION {
            return self.accounted;
        }
        self.corrected
            .filter(|corrected| corrected.duration_since(now) <= CORRECTION)
            .unwrap_or(now)
    }

    fn after(&self, since: Timestamp) -> Option<Next> {
        let due = self.calendar.after(since)?;
        // Never as late as the next one, so that each begins before the next is due.
        let gap =
            self.calendar.after(due).map_or(SignedDuration::MAX, |next| next.duration_since(due));
        let start = due.checked_add(self.jitter.of(due, gap)).unwrap_or(due);
        Some(Next { due, start })
    }

    /// Deals with all whose start is over.
    fn look(&mut self, since: Timestamp, now: Timestamp, effects: &mut Vec<Effect>) {
        let over = |next: &Next| next.start <= now;
        let Some(first) = self.after(since).filter(over) else { return };
        let (mut last, mut before, mut count) = (first, None, 1);
        while let Some(next) = self.after(last.due).filter(over) {
            (before, last, count) = (Some(last.due), next, count + 1);
            if count > MOST_COUNTED {
                (before, last) = self.newest(last, now);
                count = MOST_COUNTED;
                break;
            }
        }
        let late = now.duration_since(last.start) > ON_TIME;
        if let Some(waiting) = &mut self.waiting {
            let before = waiting.skipped.map_or(0, |(_, count)| count);
            waiting.skipped = Some((last.due, before + count));
        } else if late && self.missed == Missed::Skip {
            effects.push(Effect::Note { due: last.due, count, why: Left::Missed });
        } else {
            if let Some(due) = before {
                effects.push(Effect::Note { due, count: count - 1, why: Left::Missed });
            }
            self.begin(Some(last.due), since, effects);
        }
        self.accounted = last.due;
        self.corrected = None;
    }

    /// The last two of very many whose start is over.
    fn newest(&self, reached: Next, now: Timestamp) -> (Option<Timestamp>, Next) {
        let over = now.checked_sub(self.jitter.longest()).unwrap_or(now);
        let mut before = reached.due;
        let mut last = reached;
        if let Some(due) = self.calendar.last(reached.due, over) {
            before = self
                .calendar
                .last(reached.due, due - SignedDuration::from_nanos(1))
                .unwrap_or(before);
            last = Next { due, start: due };
        }
        while let Some(next) = self.after(last.due).filter(|next| next.start <= now) {
            (before, last) = (last.due, next);
        }
        (Some(before), last)
    }

    fn begin(&mut self, due: Option<Timestamp>, since: Timestamp, effects: &mut Vec<Effect>) {
        if self.running == 0 || self.overlap == Overlap::Allow {
            self.running += 1;
            effects.push(Effect::Start { due });
            return;
        }
        // What is asked for does not wait: whoever asks can ask again.
        let Some(due) = due else { return effects.push(Effect::Refuse) };
        if self.overlap == Overlap::Queue {
            self.waiting = Some(Waiting { due, since, skipped: None });
        } else {
            effects.push(Effect::Note { due, count: 1, why: Left::Skipped });
        }
    }

    fn begin_waiting(&mut self, effects: &mut Vec<Effect>) {
        if self.up
            && self.running == 0
            && let Some(waiting) = self.waiting.take()
        {
            self.running += 1;
            effects.push(Effect::Start { due: Some(waiting.due) });
            if let Some((due, count)) = waiting.skipped {
                effects.push(Effect::Note { due, count, why: Left::Skipped });
            }
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
