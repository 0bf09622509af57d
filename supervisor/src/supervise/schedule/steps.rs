//! What a machine says is carried out: written down, called, written down.

use bulkhead_ipc_protocol::TraceContext;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::clock::Clock;
use super::jitter::Seed;
use super::machine::{Effect, Left};
use super::world::{Errand, World};
use super::{Ask, Ran};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Schedule;
use crate::supervise::principal::Principal;
use crate::supervise::store::{RunEnd, RunOutcome, ScheduleKey};

/// Carries out what a machine says.
pub(super) struct Steps<W> {
    pub(super) world: W,
    pub(super) clock: Clock,
    pub(super) seed: Seed,
    pub(super) plugin: PluginId,
    pub(super) schedule: Schedule,
}

impl<W: World> Steps<W> {
    fn key(&self) -> ScheduleKey {
        ScheduleKey { plugin: self.plugin.clone(), name: self.schedule.name().to_owned() }
    }

    pub(super) async fn carry_out(&self, effects: Vec<Effect>, mut ask: Option<Ask>) {
        for effect in effects {
            match effect {
                Effect::Note { due, count, why } => {
                    let why = match why {
                        Left::Missed => RunOutcome::Missed,
                        Left::Skipped => RunOutcome::SkippedOverlap,
                    };
                    if let Err(failure) = self.world.note(self.key(), due, count, why).await {
                        tracing::error!(plugin = %self.plugin, %failure, "not written down");
                    }
                }
                Effect::Start { due } => {
                    let (answer, principal) = match ask.take() {
                        Some(ask) => (Some(ask.answer), ask.principal),
                        None => (None, Principal::schedule()),
                    };
                    let result = self.run(due, principal).await;
                    if let Err(failure) = &result {
                        self.world.warn(&self.key(), due, failure);
                    }
                    let _ = answer.map(|answer| answer.send(result));
                }
                Effect::Refuse => {
                    let name = self.schedule.name();
                    let message =
                        format!("{name} of {} runs already; wait for its end", self.plugin);
                    let refusal = Failure::new(Code::Conflict, message).with("state", "running");
                    let _ = ask.take().map(|ask| ask.answer.send(Err(refusal)));
                }
            }
        }
    }

    /// No record, no run.
    async fn run(&self, due: Option<Timestamp>, principal: Principal) -> Result<Ran, Failure> {
        let number = self.world.begin(self.key(), due, self.clock.now()).await?;
        let begun = Instant::now();
        let errand = Errand {
            plugin: self.plugin.clone(),
            schedule: self.schedule.clone(),
            principal,
            trace: self.trace(number),
        };
        let called = self.world.call(errand).await;
        let duration_ms = begun.elapsed().as_millis() as u64;
        let code = called.as_ref().err().map(|failure| failure.code.to_string());
        let end = RunEnd { at: self.clock.now(), duration_ms, code };
        if let Err(failure) = self.world.end(number, end).await {
            tracing::error!(plugin = %self.plugin, %failure, "a run's end is not written down");
        }
        called.map(|()| Ran { number, duration_ms })
    }

    /// A trace of its own for each run, on each machine.
    fn trace(&self, number: u64) -> TraceContext {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(number.to_be_bytes());
        hash.update("trace");
        let hash: [u8; 32] = hash.finalize().into();
        let mut trace = TraceContext { trace_id: [0; 16], span_id: [0; 8], flags: 1 };
        trace.trace_id.copy_from_slice(&hash[..16]);
        trace.span_id.copy_from_slice(&hash[16..24]);
        trace
    }
}
