//! Answering those who asked, and telling those who listen.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;

use super::super::machine::{Answer, Input, Notice, State};
use super::{Actor, EnableReport};
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::supervise::registry::tell_circuit;

impl Actor {
    pub(super) fn answer(&mut self, input: Input, answer: Answer) {
        let took = self.start_asked.until(Monotonic::now());
        match (answer, input) {
            (Answer::Wait, _) => {}
            (Answer::Satisfied, Input::Enable) => {
                if let Some(waiting) = self.waiting_for_start.pop() {
                    let _ = waiting.send(Ok(EnableReport { started_in: Duration::ZERO }));
                }
            }
            (Answer::Satisfied, _) => {
                if let Some(waiting) = self.waiting_for_stop.pop() {
                    let _ = waiting.send(Ok(self.nothing_ran()));
                }
            }
            (Answer::Refused(state), _) => {
                if let Some(waiting) = self.waiting_for_start.pop() {
                    let message = format!(
                        "{} is {}; wait until it is disabled and enable it again",
                        self.row.id,
                        state.name()
                    );
                    let failure = Failure::new(Code::Conflict, message).with("state", state.name());
                    let _ = waiting.send(Err(failure));
                }
            }
            (Answer::StartEnded { up }, _) => {
                let result = if up {
                    Ok(EnableReport { started_in: took })
                } else {
                    Err(self.last_failure.clone().unwrap_or_else(|| {
                        Failure::new(Code::Conflict, "it was disabled while it was starting")
                            .with("state", "disabling")
                    }))
                };
                for waiting in self.waiting_for_start.drain(..) {
                    let _ = waiting.send(result.clone());
                }
            }
            (Answer::StopEnded, _) => {
                let result = self.last_stop.take().unwrap_or_else(|| Ok(self.nothing_ran()));
                let result = match &self.unstored {
                    Some(failure) => Err(Failure {
                        message: format!(
                            "{} is stopped, but it is not stored that it stays so: {}",
                            self.row.id, failure.message
                        ),
                        ..failure.clone()
                    }),
                    None => result,
                };
                for waiting in self.waiting_for_stop.drain(..) {
                    let _ = waiting.send(result.clone());
                }
            }
        }
    }

    /// Whoever enables it has seen to it: what its calls came to before says nothing any more.
    fn close_circuit(&self) {
        let change = self.circuit.lock().unwrap_or_else(PoisonError::into_inner).close();
        if let Some(change) = change {
            tell_circuit(&self.context.events, &self.manifest, change);
        }
    }

    pub(super) fn emit(&self, notice: Notice) {
        let version = self.row.version.to_string();
        let now = Monotonic::now();
        let (name, body) = match notice {
            Notice::Enabling => ("plugin:enabling", json!({ "version": version })),
            Notice::Enabled | Notice::Recovered => {
                let name = match notice {
                    Notice::Enabled => "plugin:enabled",
                    _ => "plugin:recovered",
                };
                let body = json!({
                    "version": version,
                    "pid": self.process.as_ref().map(|process| process.pid),
                    "startedInMs": self.start_asked.until(now).as_millis() as u64,
                });
                (name, body)
            }
            Notice::Error => ("plugin:error", json!({ "error": self.last_failure })),
            Notice::Disabling => {
                ("plugin:disabling", json!({ "reason": self.how_to_stop().options.reason }))
            }
            Notice::Disabled => {
                let report = self.last_stop.as_ref().and_then(|stop| stop.as_ref().ok());
                ("plugin:disabled", json!({ "version": version, "stop": report }))
            }
            Notice::Restarting | Notice::Tripped => {
                let until = match self.machine.state() {
                    State::Restarting { at } | State::Tripped { until: at } => now.until(at),
                    _ => Duration::ZERO,
                };
                let name = match notice {
                    Notice::Restarting => {
                        self.context.registry.metrics.restarting(&self.row.id);
                        "plugin:restarting"
                    }
                    _ => "plugin:tripped",
                };
                let body = json!({
                    "failures": self.machine.failures(),
                    "nextTryInMs": until.as_millis() as u64,
                });
                (name, body)
            }
        };
        self.context.events.emit(name, &self.row.id, body);
        if notice == Notice::Enabled {
            self.close_circuit();
        }
    }
}
