//! The stop ladder: ask, wait, kill, wait, remove; one monotonic budget, no polling.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::process::{Child, ChildError};

/// How a compartment is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// How long the program has between SIGTERM and SIGKILL. Zero: it is killed at once.
    pub grace: Duration,
    /// How long the kernel has to make it disappear after SIGKILL.
    pub disappear: Duration,
}

/// A stopped compartment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// How it ended.
    pub exit: Exit,
    /// What happened when, in order.
    pub timeline: Vec<Step>,
}

/// One moment of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What happened.
    pub name: StepName,
    /// Milliseconds since the stop began.
    pub at_ms: u64,
}

/// What happened in a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    /// SIGTERM was sent.
    Sigterm,
    /// SIGKILL was sent to all of it.
    Sigkill,
    /// The program and its pid namespace ended.
    Exited,
    /// No process was left in the cgroup.
    Empty,
    /// The cgroup was removed.
    Removed,
}

/// Why a compartment could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// A step failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// Killed, and still there: a process in an uninterruptible wait.
    #[error("process {} is still there {} ms after SIGKILL: it hangs in the kernel", child.pid(), timeline.last().map_or(0, |step| step.at_ms))]
    Hung {
        /// What is left of it.
        child: Box<Child>,
        /// What happened until then.
        timeline: Vec<Step>,
    },
}

/// Stops a compartment: SIGTERM, SIGKILL to all of it after `grace`, then waits until it is empty
/// and removes its cgroup. Blocks, at most for `grace` and `disappear` together.
///
/// A program that ends in time but leaves processes behind (without a pid namespace to take them
/// along) has those killed at once.
pub fn ladder(mut child: Child, ladder: Ladder) -> Result<Stopped, StopError> {
    let start = Instant::now();
    let mut timeline = Vec::with_capacity(5);
    let mut mark = |name| {
        timeline.push(Step { name, at_ms: start.elapsed().as_millis() as u64 });
    };
    if !ladder.grace.is_zero() && child.try_reap()?.is_none() {
        child.signal(Signal::SIGTERM)?;
        mark(StepName::Sigterm);
        child.wait_exited(Some(start + ladder.grace));
    }
    let mut exited = child.try_reap()?.is_some();
    if exited {
        mark(StepName::Exited);
    }
    if !exited || !child.is_empty()? {
        child.kill()?;
        mark(StepName::Sigkill);
    }
    let deadline = Instant::now() + ladder.disappear;
    if !exited {
        child.wait_exited(Some(deadline));
        exited = child.try_reap()?.is_some();
        if exited {
            mark(StepName::Exited);
        }
    }
    if !child.wait_empty(deadline)? || !exited {
        return Err(StopError::Hung { child: Box::new(child), timeline });
    }
    mark(StepName::Empty);
    let exit = child.remove()?;
    mark(StepName::Removed);
    Ok(Stopped { exit, timeline })
}
