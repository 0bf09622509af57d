//! Work in the background, which ends when the plugin stops.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::Host;
use crate::error::{Result, code};
use crate::panic::caught;

/// How far the plugin's end has come, as its background work sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Running,
    /// Nothing new begins.
    Stopping,
    /// What is not finished is given up.
    Over,
}

#[derive(Debug)]
pub(crate) struct Tasks(watch::Sender<Stage>);

impl Default for Tasks {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Running))
    }
}

impl Tasks {
    pub(crate) fn reach(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    async fn reached(&self, stage: Stage) {
        // The sender is alive as long as `self` is, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|present| *present >= stage).await;
    }
}

/// Work in the background; see [`Host::spawn`] and [`Host::every`]. It goes on when this is dropped.
#[derive(Clone, Debug)]
pub struct Task(AbortHandle);

impl Task {
    /// Ends it, at its next `.await`.
    pub fn cancel(&self) {
        self.0.abort();
    }

    /// Whether it has ended, however it did.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Host {
    /// Runs `work` in the background, under a name for the log. An error or a panic is logged.
    ///
    /// When the plugin stops it is dropped at its next `.await`, before the calls in flight are waited for. What must not
    /// be left half done goes into [`Host::shielded`].
    ///
    /// ```no_run
    /// # use bulkhead_plugin_sdk::Host;
    /// # use std::time::Duration;
    /// # fn init(host: Host) {
    /// let log = host.log();
    /// host.spawn("warm-up", async move {
    ///     tokio::time::sleep(Duration::from_secs(10)).await;
    ///     log.info("ten seconds later");
    ///     Ok(())
    /// });
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside the plugin's own thread.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<()>> + 'static,
    ) -> Task {
        let host = self.clone();
        let task = tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = host.tasks().reached(Stage::Stopping) => {}
                outcome = caught(work) => host.tell(name, outcome),
            }
        });
        Task(task.abort_handle())
    }

    /// Runs `work` again and again, under a name for the log: the first time after one `period`, then at most once in
    /// each. A run that takes longer puts the next one off; two never overlap. An error or a panic is logged, and the next
    /// run comes all the same.
    ///
    /// When the plugin stops, a run that has begun is finished before `save`, in the time of the calls in flight, and
    /// none begins.
    ///
    /// ```no_run
    /// # use bulkhead_plugin_sdk::{Cache, Host};
    /// # use std::time::Duration;
    /// # fn init(host: Host, names: Cache<String, String>) {
    /// let every = host.clone();
    /// host.every("report", Duration::from_secs(60), async move || {
    ///     every.log().with("hits", names.stats().hits).info("names");
    ///     Ok(())
    /// });
    /// # }
    /// ```
    ///
    /// # Panics
    /// When `period` is zero; outside the plugin's own thread.
    pub fn every(
        &self,
        name: &'static str,
        period: Duration,
        mut work: impl AsyncFnMut() -> Result<()> + 'static,
    ) -> Task {
        assert!(!period.is_zero(), "`{name}` would run without a pause: its period is zero");
        let host = self.clone();
        let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let task = tokio::task::spawn_local(async move {
            loop {
                tokio::select! {
                    biased;
                    () = host.tasks().reached(Stage::Stopping) => return,
                    _ = ticks.tick() => {}
                }
                let _ticket = host.0.pending.begin();
                tokio::select! {
                    biased;
                    () = host.tasks().reached(Stage::Over) => return,
                    outcome = caught(work()) => host.tell(name, outcome),
                }
            }
        });
        Task(task.abort_handle())
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    fn tell(&self, name: &str, outcome: Result<()>) {
        let Err(error) = outcome else { return };
        let log = self.log().with("task", name).with("code", error.code());
        if error.code() == code::PANIC {
            log.error(error.message());
        } else {
            log.warn(format_args!("background work failed: {}", error.message()));
        }
    }
}
