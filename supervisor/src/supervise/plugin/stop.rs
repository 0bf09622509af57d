//! Stopping: drain → save state → SIGTERM → SIGKILL to the whole cgroup, in one monotonic budget.
//!
//! Theory of operation. The launcher is told of the whole budget before anything else, so the
//! guarantee holds from then on whatever becomes of this process. Then the plugin is asked to
//! drain, whether the launcher has answered or not. If it says goodbye and exits, all the better; if
//! not, the launcher's SIGTERM comes when the drain's share of the budget is used up, and its SIGKILL
//! when the budget is. Nothing here waits for anything but the launcher's word that no process is left,
//! and even for that not for ever: a process that the kernel holds in an uninterruptible wait, and a
//! launcher that is held up itself, are reported, not waited for.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_ipc_protocol::{Drain, EndReason};
use bulkhead_sandbox::Cause;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::process::Process;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Exited, Request, Settings, Stage, StageName};
use crate::manifest::{Manifest, TimeSpan};
use crate::supervise::launcher_link::Launcher;

/// How long after a SIGKILL a process may take to be gone before that is an error.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// How long before that is told the launcher is asked whether it still does what is due.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How to disable a plugin, as a request has it.
#[derive(Clone, Debug)]
pub(crate) struct DisableRequest {
    pub(crate) save_state: bool,
    /// The whole budget; the manifest's, or else the service's, where it is not given.
    pub(crate) timeout: Option<Duration>,
    pub(crate) reason: &'static str,
}

impl DisableRequest {
    /// With its state saved, in its own budget.
    pub(crate) fn orderly(reason: &'static str) -> Self {
        Self { save_state: true, timeout: None, reason }
    }
}

/// How to stop.
#[derive(Clone, Debug)]
pub(crate) struct StopOptions {
    /// The whole budget.
    pub(crate) budget: Duration,
    /// The drain's part of it; none for three fifths.
    pub(crate) drain: Option<Duration>,
    pub(crate) save_state: bool,
    /// `disable`, `shutdown`, `uninstall`, …; the plugin is told.
    pub(crate) reason: &'static str,
}

impl StopOptions {
    pub(crate) fn of(settings: &Settings, manifest: &Manifest, request: &DisableRequest) -> Self {
        let lifecycle = &manifest.lifecycle;
        let own = lifecycle.stop_timeout.map_or(settings.stop_timeout, TimeSpan::duration);
        Self {
            budget: request.timeout.unwrap_or(own),
            drain: lifecycle.drain_timeout.map(TimeSpan::duration),
            save_state: request.save_state,
            reason: request.reason,
        }
    }

    /// When SIGTERM is sent; what follows it gets the rest.
    pub(crate) fn drain_share(&self) -> Duration {
        self.drain.unwrap_or(self.budget * 3 / 5).min(self.budget)
    }
}

/// A stop that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Stopping {
    pub(crate) asked: Monotonic,
    pub(crate) options: StopOptions,
}

impl Stopping {
    /// One that is asked for now.
    pub(crate) fn now(options: StopOptions) -> Self {
        Self { asked: Monotonic::now(), options }
    }

    /// When nothing is left.
    pub(crate) fn due(&self) -> Monotonic {
        self.asked.plus(self.options.budget)
    }

    /// Tells the launcher of it, which keeps the earliest deadlines that it was ever given.
    pub(crate) async fn arm(&self, launcher: &Launcher, id: &PluginId, generation: u64) {
        let used = self.asked.until(Monotonic::now());
        let term_in = self.options.drain_share().saturating_sub(used);
        let kill_in = self.options.budget.saturating_sub(used);
        arm(launcher, id, generation, term_in, kill_in).await;
    }
}

/// What became of a stop, as the reply and the event tell it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StopReport {
    pub(crate) budget_ms: u64,
    pub(crate) total_ms: u64,
    /// Whether SIGKILL was needed.
    pub(crate) forced: bool,
    /// Whether the plugin was asked to save its state, finished its drain and exited with 0: what it
    /// wanted to save is saved.
    pub(crate) state_saved: bool,
    pub(crate) timeline: Vec<Moment>,
    /// How the process ended; null if there was none.
    #[schema(value_type = Option<Object>)]
    pub(crate) exit: Value,
    pub(crate) explanation: Option<String>,
}

/// A stage and when it came, counted from the request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Moment {
    /// `drain`, `saved`, `goodbye`, `sigterm`, `sigkill`, `exited`, `empty`, `removed`
    #[schema(value_type = String)]
    pub(crate) stage: StageName,
    pub(crate) at_ms: f64,
}

impl StopReport {
    /// There was nothing to stop.
    pub(crate) fn nothing_ran(budget: Duration) -> Self {
        Self {
            budget_ms: budget.as_millis() as u64,
            total_ms: 0,
            forced: false,
            state_saved: false,
            timeline: vec![],
            exit: Value::Null,
            explanation: None,
        }
    }
}

/// Stops the process; `Err` only if it is not gone some time after its SIGKILL is due.
pub(crate) async fn stop(
    launcher: &Launcher,
    id: &PluginId,
    process: &Process,
    stopping: &Stopping,
) -> Result<StopReport, Failure> {
    let Stopping { asked, options } = stopping;
    stopping.arm(launcher, id, process.generation).await;
    let used = asked.until(Monotonic::now());
    let mut stages = vec![Stage { name: StageName::Drain, at: Monotonic::now() }];
    process.host.begin_drain(options.save_state);
    process.peer.drain(Drain {
        budget: options.drain_share().saturating_sub(used),
        reason: options.reason.to_owned(),
        save_state: options.save_state,
    });
    let patience = options.budget.saturating_sub(used) + AFTER_KILL;
    let deadline = Instant::now() + patience;
    let mut goodbye = None;
    let ended = async {
        tokio::select! {
            exited = process.exited() => exited,
            end = process.peer.closed() => {
                goodbye = matches!(end, EndReason::Goodbye(_)).then(Monotonic::now);
                process.exited().await
            }
        }
    };
    let exited = gone_by(deadline, ended, launcher, id, process.generation).await;
    let exited =
        exited.map_err(|failure| failure.with("budgetMs", options.budget.as_millis() as u64))?;
    let drained = matches!(process.peer.end_reason(), Some(EndReason::Goodbye(_)));
    if drained {
        // The two news come by two ways, and the later one may be heard first.
        let exit = exited.stages.iter().find(|stage| stage.name == StageName::Exited);
        let at = goodbye.into_iter().chain(exit.map(|stage| stage.at)).min();
        stages.extend(at.map(|at| Stage { name: StageName::Goodbye, at }));
    }
    if let Some(at) = process.host.saved_at() {
        stages.push(Stage { name: StageName::Saved, at });
    }
    // A plugin that could not save what it wanted to says goodbye all the same, and exits with an error.
    let saved = options.save_state && drained && exited.exit.0.cause == Cause::Code(0);
    Ok(report(stopping, stages, saved, &exited))
}

/// Waits for the end of what is to be gone [`AFTER_KILL`] before that. The launcher is asked for it once
/// more: only where it answers it does what is due.
pub(super) async fn gone_by<T>(
    deadline: Instant,
    ended: impl Future<Output = T>,
    launcher: &Launcher,
    id: &PluginId,
    generation: u64,
) -> Result<T, Failure> {
    let mut killed = false;
    let asking = async {
        tokio::time::sleep_until(deadline - LAST_CHANCE).await;
        killed = launcher
            .ask_done(stop_in(id, generation, Duration::ZERO, Duration::ZERO))
            .await
            .is_ok();
        std::future::pending().await
    };
    tokio::select! {
        ended = ended => return Ok(ended),
        ended = asking => return Ok(ended),
        () = tokio::time::sleep_until(deadline) => {}
    }
    let late = AFTER_KILL.as_millis();
    let message = if killed {
        format!(
            "a process of {id} is still there {late} ms after it was to be gone, and SIGKILL was sent: \
             the kernel holds it in an uninterruptible wait (state D); its cgroup stays frozen out \
             until it ends"
        )
    } else {
        format!(
            "{id} may still run {late} ms after it was to be gone: the launcher has not answered, so \
             it is not known whether SIGKILL was sent; it is once the launcher goes on. Is that \
             stopped, or does it wait for something (`ps`)?"
        )
    };
    Err(Failure::new(Code::Timeout, message).with("stage", "kill"))
}

/// Tells the launcher when to send what, and does not wait for its answer: what the plugin is told meanwhile
/// need not. It may be gone already: then there is nothing to arm.
pub(crate) async fn arm(
    launcher: &Launcher,
    id: &PluginId,
    generation: u64,
    term_in: Duration,
    kill_in: Duration,
) {
    let answered = launcher.write_done(stop_in(id, generation, term_in, kill_in)).await;
    let id = id.clone();
    tokio::spawn(async move {
        if let Err(failure) = answered.await
            && failure.code != Code::NotFound
        {
            tracing::error!(plugin = %id, generation, %failure, "the launcher did not arm the stop");
        }
    });
}

fn stop_in(id: &PluginId, generation: u64, term_in: Duration, kill_in: Duration) -> Request {
    Request::Stop { id: id.clone(), generation, term_in, kill_in }
}

/// What became of a stop that has come to these `stages` before the launcher's.
pub(super) fn report(
    stopping: &Stopping,
    mut stages: Vec<Stage>,
    saved: bool,
    exited: &Arc<Exited>,
) -> StopReport {
    let Stopping { asked, options } = stopping;
    stages.extend(exited.stages.iter().copied());
    stages.sort_by_key(|stage| stage.at);
    let last = stages.last().map_or(*asked, |stage| stage.at);
    StopReport {
        budget_ms: options.budget.as_millis() as u64,
        total_ms: asked.until(last).as_millis() as u64,
        forced: stages.iter().any(|stage| stage.name == StageName::Sigkill),
        state_saved: saved,
        timeline: stages
            .iter()
            .map(|stage| Moment {
                stage: stage.name,
                at_ms: (asked.until(stage.at).as_secs_f64() * 1e5).round() / 100.0,
            })
            .collect(),
        exit: serde_json::to_value(&exited.exit.0).unwrap_or(Value::Null),
        explanation: Some(exited.exit.0.explain()),
    }
}
