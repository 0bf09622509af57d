//! The stop of one plugin: when SIGTERM and SIGKILL are due, and what has happened.
//!
//! ```text
//!          arm                term due            kill due
//!  running ───▶ armed ──────────────▶ terminating ─────────▶ killing ──┐
//!     │           │                        │                           │ cgroup empty
//!     └───────────┴──── main process ends ─┴──────▶ killing ───────────┴─────▶ gone
//! ```
//! Pure: the loop asks what is due and does it. A deadline that was given once is a guarantee, so it
//! can be brought forward and never put off, whoever asks. When the main process ends, what it leaves
//! behind is killed at once: nothing outlives its plugin. Killing goes on until nothing is left, as a kill can
//! fail and its failure pass.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::link::{LONGEST_STOP, Stage, StageName};

/// After a SIGKILL that has left something, or that failed, comes another.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Deadlines and progress of one plugin's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stopping {
    term_at: Option<Monotonic>,
    kill_at: Option<Monotonic>,
    /// When the whole cgroup was last killed.
    last_kill: Option<Monotonic>,
    stages: Vec<Stage>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Sigterm,
    Sigkill,
}

impl Stopping {
    /// Arms both deadlines, or brings them forward.
    pub(super) fn arm(&mut self, now: Monotonic, term_in: Duration, kill_in: Duration) {
        // A SIGTERM after the SIGKILL would be nonsense, so the kill bounds both.
        let kill = now.plus(kill_in.min(LONGEST_STOP));
        let term = now.plus(term_in).min(kill);
        self.term_at = Some(self.term_at.map_or(term, |at| at.min(term)));
        self.kill_at = Some(self.kill_at.map_or(kill, |at| at.min(kill)));
    }

    /// A stop is under way: the plugin will be gone, whatever happens.
    pub(super) fn is_armed(&self) -> bool {
        self.kill_at.is_some() || self.reached(StageName::Exited)
    }

    /// Nothing of it is left then: it has ended, and what it left is being killed, or it is killed by
    /// that time.
    pub(super) fn is_over_by(&self, at: Monotonic) -> bool {
        self.reached(StageName::Exited) || self.kill_at.is_some_and(|kill| kill <= at)
    }

    fn reached(&self, name: StageName) -> bool {
        self.stages.iter().any(|stage| stage.name == name)
    }

    /// When [`Stopping::due`] must be asked next.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        if let Some(last) = self.last_kill {
            Some(last.plus(KILL_AGAIN))
        } else if self.reached(StageName::Sigterm) || self.reached(StageName::Exited) {
            self.kill_at
        } else {
            self.term_at.into_iter().chain(self.kill_at).min()
        }
    }

    /// What is due; the caller does it and records it with [`Stopping::record`].
    pub(super) fn due(&self, now: Monotonic) -> Option<Due> {
        let passed = |at: Option<Monotonic>| at.is_some_and(|at| at <= now);
        if self.last_kill.is_some() {
            passed(self.deadline()).then_some(Due::Sigkill)
        } else if passed(self.kill_at) {
            Some(Due::Sigkill)
        } else if passed(self.term_at)
            && !self.reached(StageName::Sigterm)
            && !self.reached(StageName::Exited)
        {
            Some(Due::Sigterm)
        } else {
            None
        }
    }

    /// Notes that something happened; the first time of each stage counts. One that is killed and still
    /// there will be killed again.
    pub(super) fn record(&mut self, name: StageName, at: Monotonic) {
        if name == StageName::Sigkill {
            self.last_kill = Some(at);
        }
        if !self.reached(name) {
            self.stages.push(Stage { name, at });
        }
    }

    #[cfg(test)]
    pub(super) fn has_exited(&self) -> bool {
        self.reached(StageName::Exited)
    }

    /// When the whole cgroup was first killed.
    pub(super) fn killed_at(&self) -> Option<Monotonic> {
        self.stages.iter().find(|stage| stage.name == StageName::Sigkill).map(|stage| stage.at)
    }

    pub(super) fn into_stages(self) -> Vec<Stage> {
        self.stages
    }
}

#[cfg(test)]
#[path = "stopping_tests.rs"]
mod tests;
