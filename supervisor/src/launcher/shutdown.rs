//! The end of the service: asked of the supervisor, bounded here.
//!
//! The supervisor has the budget to drain and save. At its goodbye or at the end of the budget what
//! is left is killed, and the launcher ends when all of it is gone.

use std::time::Duration;

use super::event_loop::Launcher;
use super::supervision::Supervision;
use crate::clock::Monotonic;
use crate::link::{LinkError, Message};

/// What the supervisor has to end in after it said goodbye, or after the budget.
const FAREWELL: Duration = Duration::from_secs(1);
/// When the launcher stops waiting for processes that the kernel does not let go.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// The service's own stop.
pub(super) struct Stop {
    pub(super) deadline: Monotonic,
    farewell: Option<Monotonic>,
    failed: bool,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    /// The supervisor does not come up, or processes could not be ended.
    Failed,
}

impl Stop {
    /// `failed`: the service stops because it cannot go on.
    pub(super) fn within(budget: Duration, now: Monotonic, failed: bool) -> Self {
        Self { deadline: now.plus(budget), farewell: None, failed }
    }

    /// From now on the supervisor has a moment to end by itself.
    pub(super) fn bid_farewell(&mut self, now: Monotonic) {
        self.farewell.get_or_insert(now.plus(FAREWELL));
    }

    pub(super) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let last = self.deadline.plus(LAST_RESORT);
        [Some(self.deadline), self.farewell, Some(last)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

impl Launcher {
    pub(super) fn begin_stop(&mut self) {
        let now = Monotonic::now();
        let budget = self.settings.stop_timeout;
        tracing::info!(plugins = self.plugins.count(), ?budget, "stopping");
        self.notify.stopping();
        self.notify.extend(budget + FAREWELL + LAST_RESORT);
        self.stop = Some(Stop::within(budget, now, false));
        self.errands.kill();
        let served = matches!(&self.supervision, Supervision::Running(it) if it.ready.is_some());
        // SIGTERM comes from here only if the supervisor does not get to it.
        let term_in = if served { budget } else { Duration::ZERO };
        for plugin in self.plugins.running_mut() {
            plugin.stopping.arm(now, term_in, budget);
        }
        if served {
            self.tell(&Message::Shutdown { budget }, Vec::new());
        } else {
            self.kill_supervisor();
            if matches!(self.supervision, Supervision::Paused { .. }) {
                self.supervision = Supervision::Over;
            }
        }
    }

    /// The supervisor has done all it could.
    pub(super) fn goodbye(&mut self) {
        let now = Monotonic::now();
        if let Some(stop) = &mut self.stop {
            stop.bid_farewell(now);
            for plugin in self.plugins.running_mut() {
                plugin.stopping.arm(now, Duration::ZERO, Duration::ZERO);
            }
        } else {
            tracing::error!("the supervisor said goodbye without being asked: starting it anew");
            self.give_up_link(&LinkError::Closed);
        }
    }

    pub(super) fn advance_stop(&mut self, now: Monotonic) {
        let Some(stop) = &mut self.stop else { return };
        if stop.deadline <= now {
            stop.bid_farewell(now);
        }
        if stop.farewell.is_some_and(|at| at <= now) {
            self.kill_supervisor();
        }
    }

    pub(super) fn kill_everything(&mut self) {
        let now = Monotonic::now();
        for plugin in self.plugins.running_mut() {
            plugin.stopping.arm(now, Duration::ZERO, Duration::ZERO);
        }
        if let Some(stop) = &mut self.stop {
            stop.deadline = stop.deadline.min(now);
        }
        self.kill_supervisor();
    }

    pub(super) fn ended(&self) -> Option<End> {
        let stop = self.stop.as_ref()?;
        let over = matches!(self.supervision, Supervision::Over);
        // Removals that the budget has no time for are done by the next start.
        let cleared = self.jobs.is_empty() || stop.deadline <= Monotonic::now();
        let idle = self.plugins.count() == 0 && self.errands.is_empty() && self.starts.is_empty();
        if over && cleared && idle {
            return Some(if stop.failed { End::Failed } else { End::Stopped });
        }
        if stop.deadline.plus(LAST_RESORT) <= Monotonic::now() {
            for plugin in self.plugins.running() {
                tracing::error!(plugin = %plugin.id, pid = plugin.spawned.pid, "left behind: it cannot be killed");
            }
            return Some(End::Failed);
        }
        None
    }
}
