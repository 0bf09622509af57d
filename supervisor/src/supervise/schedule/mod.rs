//! Schedules: methods of plugins that are called by the clock.
//!
//! Theory of operation. Pure parts decide: [`calendar`] when a schedule is due, [`jitter`] how much later
//! it begins, [`machine`] what becomes of it. One task, the [`runner`], has the machines of all plugins
//! and one timer, for the first of an ordered queue. It looks at the time of day again every few seconds
//! and sees when that was set; it is told when a plugin comes up or goes down. [`steps`] carries out what
//! a machine says, beside the runner. A run is a call like any other ([`service`]), with a deadline, a
//! trace, and `schedule` as the principal; so it is drained like any other when its plugin is disabled.
//!
//! **At most once.** That a run begins is committed to the store before the call is made, and with it
//! that its due time is dealt with. When the supervisor dies meanwhile, nobody knows how far the plugin
//! came: the next one writes down `interrupted` and does not repeat it. What was due and had not begun is
//! late, and `missed` says what becomes of it.

mod calendar;
mod clock;
mod jitter;
mod machine;
mod runner;
#[cfg(test)]
mod runner_tests;
mod service;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::principal::Principal;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

pub(super) use service::run;

/// A handle on the runner.
#[derive(Debug)]
pub(crate) struct Schedules {
    commands: mpsc::UnboundedSender<Command>,
    /// Until the runner takes it.
    inbox: Mutex<Option<mpsc::UnboundedReceiver<Command>>>,
}

/// What can be asked of the runner.
#[derive(Debug)]
enum Command {
    Show {
        plugin: PluginId,
        answer: oneshot::Sender<BTreeMap<String, Standing>>,
    },
    Run(Ask),
    /// Answered when nothing runs and all is written down.
    Settle {
        answer: oneshot::Sender<()>,
    },
}

/// A run that somebody wants now.
#[derive(Debug)]
struct Ask {
    plugin: PluginId,
    schedule: String,
    principal: Principal,
    answer: oneshot::Sender<Result<Ran, Failure>>,
}

/// How a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// When it is due next; none while the plugin is not enabled.
    pub(crate) due: Option<Timestamp>,
    /// When that run begins.
    pub(crate) start: Option<Timestamp>,
    pub(crate) running: usize,
}

/// A run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) number: u64,
    pub(crate) duration_ms: u64,
}

impl Default for Schedules {
    fn default() -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        Self { commands, inbox: Mutex::new(Some(inbox)) }
    }
}

impl Schedules {
    /// How each of a plugin's schedules stands, by its name.
    pub(crate) async fn show(&self, plugin: PluginId) -> BTreeMap<String, Standing> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Show { plugin, answer });
        answered.await.unwrap_or_default()
    }

    /// Runs one now, and waits until it has ended.
    ///
    /// # Errors
    /// What the call fails with; [`Code::Conflict`] where it runs already and may not twice.
    pub(crate) async fn run_now(
        &self,
        plugin: PluginId,
        schedule: String,
        principal: Principal,
    ) -> Result<Ran, Failure> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Run(Ask { plugin, schedule, principal, answer }));
        answered
            .await
            .unwrap_or_else(|_| Err(Failure::new(Code::ShuttingDown, "the service is going down")))
    }

    /// Waits until no run is left and what they came to is written down.
    pub(crate) async fn settle(&self) {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Settle { answer }).is_ok() {
            let _ = answered.await;
        }
    }

    fn take_inbox(&self) -> Option<mpsc::UnboundedReceiver<Command>> {
        // Nothing that holds it can leave it half taken.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
