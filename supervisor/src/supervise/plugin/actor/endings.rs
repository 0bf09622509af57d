//! What the end of a session, or of a process, means for its plugin.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_ipc_protocol::EndReason;
use bulkhead_sandbox::Cause;
use serde_json::{Value, json};

use super::super::health::Finding;
use super::super::last_lines::{last_lines, masked};
use super::super::machine::{Input, State};
use super::super::stop;
use super::{Actor, EXIT_AFTER_CLOSE};
use crate::failure::{Code, Failure};
use crate::link::{Exited, Request, Stage, StageName};
use crate::refusal::Barrier;
use crate::supervise::audit::{Action, Entry, Outcome};
use crate::supervise::logs::Stream;
use crate::supervise::principal::Principal;
use crate::supervise::store::Kind;

/// Of what a process has died.
struct Why {
    explanation: String,
    /// `layer` and `remedy`, where a layer ended it, or was why we did.
    barrier: serde_json::Map<String, Value>,
}

impl Actor {
    /// The entry of the audit for an end that nobody asked for.
    fn unasked(&self, exited: &Exited, why: &Why) -> Option<Entry> {
        let told = |stage: &Stage| matches!(stage.name, StageName::Sigterm | StageName::Sigkill);
        match self.machine.state() {
            State::Disabling => return None,
            // Told to go by us, it may have earned that: by breaking the protocol, say.
            State::Enabled => {}
            // A start that failed for another reason is taken back.
            _ if exited.stages.iter().any(told) => return None,
            _ => {}
        }
        let mut entry = Entry::new(Principal::service(), Action::Died, Outcome::Done)
            .about(&self.row.id)
            .with("generation", exited.generation)
            .with("version", self.row.version.to_string())
            .with("explanation", &why.explanation);
        for (key, value) in &why.barrier {
            entry = entry.with(key, value);
        }
        Some(entry)
    }

    /// A process that we ended has died of what we ended it for, whatever signal that took.
    fn why(&self, exited: &Exited) -> Why {
        let current = self.process.as_ref().is_some_and(|it| it.generation == exited.generation);
        let ended_for = self.last_failure.as_ref();
        let ended_for = ended_for.filter(|_| current && self.machine.state() == State::Enabled);
        let mut explanation = exited.exit.0.explain();
        let mut details = json!({});
        if let Some(barrier) = Barrier::of_death(&exited.exit.0) {
            barrier.tell(&mut details);
        } else if let Some(failure) = ended_for {
            explanation = format!("bulkhead stopped it: {}", failure.message);
            details = failure.details.clone();
        }
        let mut barrier = details.as_object().cloned().unwrap_or_default();
        barrier.retain(|key, _| key == "layer" || key == "remedy");
        Why { explanation, barrier }
    }

    /// The session of an enabled plugin ended: it exits by itself, or it is made to.
    pub(super) async fn session_ended(&mut self, generation: u64, end: EndReason) {
        let Some(process) = self.process.clone() else { return };
        if self.machine.state() != State::Enabled || process.generation != generation {
            return;
        }
        let (term_in, kill_in) = match &end {
            EndReason::Violation(_) => (Duration::ZERO, Duration::ZERO),
            _ => (EXIT_AFTER_CLOSE, EXIT_AFTER_CLOSE + self.how_to_stop().options.budget),
        };
        if !matches!(end, EndReason::Closed | EndReason::Goodbye(_)) {
            let code = match &end {
                EndReason::Violation(_) => Code::ProtocolViolation,
                _ => Code::Timeout,
            };
            self.last_failure = Some(
                Failure::new(code, format!("the plugin's session ended: {end}"))
                    .with("stage", "running")
                    .with("violation", end.to_string()),
            );
        }
        stop::arm(&self.context.launcher, &self.row.id, generation, term_in, kill_in).await;
    }

    /// What a start had used, as the launcher counted it at its end, and what of that can only be
    /// seen while it runs, as it was when it was asked to stop.
    fn last_usage(&mut self, exited: &Exited) -> Value {
        let sampled =
            self.sampled.take().filter(|(generation, _)| *generation == exited.generation);
        let sampled = sampled.map(|(_, usage)| usage).unwrap_or_default();
        let total = exited.exit.0.usage;
        json!({
            "time": crate::supervise::timestamp(),
            "memoryBytes": sampled.memory_bytes,
            "memoryPeakBytes": total.memory_peak.or(sampled.memory_peak_bytes),
            "cpuUsec": total.cpu_usec.or(sampled.cpu_usec),
            "pids": sampled.pids,
            "ioReadBytes": total.io_read,
            "ioWrittenBytes": total.io_written,
        })
    }

    /// A health check of a process came to that.
    pub(super) async fn checked(&mut self, generation: u64, result: Result<(), Failure>) {
        let current = self.process.as_ref().is_some_and(|it| it.generation == generation);
        if self.machine.state() != State::Enabled || !current {
            return;
        }
        let limit = self.manifest.lifecycle.health_failures;
        let finding = self.checks.hear(result.is_ok(), limit);
        let Err(failure) = result else { return };
        let failure = masked(&self.context, &self.manifest, generation, failure);
        match finding {
            Finding::Nothing => {}
            Finding::Unwell => {
                let message = format!(
                    "a health check of {} failed: {}; after {limit} in a row it is stopped",
                    self.row.id, failure.message
                );
                let body = json!({ "code": "HEALTH_CHECK_FAILED", "message": message });
                self.context.events.emit("plugin:warning", &self.row.id, body);
            }
            Finding::Hung => {
                let message = format!(
                    "the plugin hangs: {limit} health checks in a row failed, the last as {}; see \
                     lifecycle.health_failures, health_interval and health_timeout in its manifest",
                    failure.message
                );
                self.overrun(generation, Failure { message, ..failure }).await;
            }
        }
    }

    /// It is stopped as at any other time, and that counts as a failure of its own.
    pub(super) async fn overrun(&mut self, generation: u64, failure: Failure) {
        let Some(process) = self.process.clone() else { return };
        if self.machine.state() != State::Enabled || process.generation != generation {
            return;
        }
        if self.last_failure.is_none() {
            self.context.events.emit("plugin:error", &self.row.id, json!({ "error": failure }));
            self.last_failure = Some(failure);
        }
        let kill_in = self.how_to_stop().options.budget;
        stop::arm(&self.context.launcher, &self.row.id, generation, Duration::ZERO, kill_in).await;
    }

    /// The end of a start, where it was heard of.
    pub(super) fn exit_of(&self, generation: u64) -> Option<Arc<Exited>> {
        self.exits.borrow().clone().filter(|exited| exited.generation == generation)
    }

    pub(super) async fn exited(&mut self, mut exited: Box<Exited>, descriptors: Vec<OwnedFd>) {
        self.context.registry.denials.explain(&mut exited).await;
        let exited: Arc<Exited> = Arc::from(exited);
        self.exits.send_replace(Some(Arc::clone(&exited)));
        if exited.generation > self.heard
            && self.process.as_ref().is_none_or(|p| p.generation != exited.generation)
            && self.machine.state() == State::Disabled
        {
            // It ended while no supervisor was there; what it wrote last is still in the pipes.
            for (pipe, stream) in descriptors.into_iter().zip([Stream::Stdout, Stream::Stderr]) {
                self.context.capture(pipe, stream, exited.generation, &self.exits);
            }
        }
        let why = self.why(&exited);
        let (key, lines) = last_lines(&self.context, &self.manifest, exited.generation).await;
        let mut exit = json!({
            "time": crate::supervise::timestamp(),
            "exit": exited.exit.0,
            "explanation": why.explanation,
            key: lines,
        });
        for (key, value) in &why.barrier {
            exit[key] = value.clone();
        }
        self.row.last_exit = Some(exit.clone());
        let usage = self.last_usage(&exited);
        self.row.last_usage = Some(usage.clone());
        let died = self.unasked(&exited, &why).map(|entry| entry.row(Kind::Single));
        self.context.registry.metrics.exited(&self.row.id, &exited.exit.0, died.is_some());
        let stored = self.context.store.set_last_exit(self.row.id.clone(), exit, usage, died).await;
        match stored {
            Ok(()) => {
                let (id, generation) = (exited.id.clone(), exited.generation);
                let acknowledged =
                    self.context.launcher.ask_done(Request::Acknowledge { id, generation }).await;
                if let Err(failure) = acknowledged {
                    tracing::warn!(plugin = %self.row.id, %failure, "an exit was not acknowledged");
                }
            }
            // The launcher tells it again to the next supervisor.
            Err(failure) => tracing::error!(plugin = %self.row.id, %failure, "an exit is not kept"),
        }
        let enabled = self.machine.state() == State::Enabled;
        let Some(process) = self.process.clone() else { return };
        if enabled && process.generation == exited.generation {
            let said_goodbye = matches!(process.peer.end_reason(), Some(EndReason::Goodbye(_)));
            let clean = said_goodbye
                && matches!(exited.exit.0.cause, Cause::Code(0))
                && self.last_failure.is_none();
            if !clean {
                let failure = self.last_failure.take().unwrap_or_else(|| {
                    let message = format!("the plugin died: {}", why.explanation);
                    Failure::new(Code::PluginDied, message)
                });
                let failure = failure
                    .with("exit", &exited.exit.0)
                    .with("explanation", why.explanation)
                    .with(key, lines);
                self.last_failure = Some(Barrier::explain_death(&exited.exit.0, failure));
            }
            self.process = None;
            self.step(Input::Died { clean }).await;
        }
    }
}
