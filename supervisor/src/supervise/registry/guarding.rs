//! Other plugins' calls go through the circuit of the plugin that they are for.
//!
//! What counts as its failure is that it dies, or gives no answer in a time that is a fair one by its own
//! plan: a caller that gives a slow method little time could else cut the others off. For the same reason a full queue does
//! not count; whoever fills it is refused at once as it is. Its own errors are answers.
//!
//! Calls of the host application pass by: a person waits for them, and may be looking whether it is
//! well again. They do not count either.

use std::time::Duration;

use bulkhead_ipc_protocol::{CallError, CallFailure, Payload};
use serde_json::{Value, json};

use super::Registry;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::manifest::Manifest;
use crate::supervise::events::Events;
use crate::supervise::plugin::{Change, PluginHandle, Ticket, Verdict};

/// A call that was admitted. Dropped, it was withdrawn.
pub(super) struct Admitted {
    provider: PluginHandle,
    events: Events,
    ticket: Option<Ticket>,
    began: Monotonic,
    limit: Duration,
}

impl Registry {
    /// Admits a plugin's call to a provider, or refuses it as the provider's circuit is open.
    pub(super) fn admit_call(
        &self,
        provider: &PluginHandle,
        method: &str,
        limit: Duration,
    ) -> Result<Admitted, Failure> {
        let now = Monotonic::now();
        let ticket = provider.circuit().admit(limit, now).map_err(|wait| {
            let id = &provider.manifest.id;
            let retry_ms = wait.as_millis() as u64;
            Failure::new(
                Code::DependencyMissing,
                format!(
                    "{id}, which provides {method}, has not answered the last calls; none is made \
                     before one that tries in {retry_ms} ms"
                ),
            )
            .with("dependency", id)
            .with("found", provider.manifest.version.to_string())
            .with("state", "circuit-open")
            .with("retryAfterMs", retry_ms)
        })?;
        Ok(Admitted {
            provider: provider.clone(),
            events: self.events.clone(),
            ticket: Some(ticket),
            began: now,
            limit,
        })
    }
}

impl Admitted {
    /// What became of it.
    pub(super) fn end(mut self, result: &Result<Payload, CallFailure>) {
        let verdict = match result {
            // Its session says so in its name, if that has the news first.
            Err(CallFailure::Remote(error)) if error.code == CallError::TIMEOUT => self.late(),
            Ok(_) | Err(CallFailure::Remote(_)) => Verdict::Answered,
            Err(CallFailure::Timeout { .. }) => self.late(),
            Err(CallFailure::Ended(_)) => Verdict::Failed,
            Err(
                CallFailure::Exhausted { .. } | CallFailure::TooLong { .. } | CallFailure::Draining,
            ) => Verdict::Nothing,
        };
        self.settle(verdict);
    }

    /// There was no answer within its limit.
    fn late(&self) -> Verdict {
        let planned = self.provider.manifest.lifecycle.call_timeout.duration();
        if is_fair(self.limit, planned) { Verdict::Failed } else { Verdict::Nothing }
    }

    fn settle(&mut self, verdict: Verdict) {
        let Some(ticket) = self.ticket.take() else { return };
        let change = self.provider.circuit().settle(&ticket, verdict, Monotonic::now());
        if let Some(change) = change {
            tell_circuit(&self.events, &self.provider.manifest, change);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let waited = self.began.until(Monotonic::now());
        self.settle(if at_its_end(waited, self.limit) { self.late() } else { Verdict::Nothing });
    }
}

/// Whether a provider that plans with `planned` for a call should have answered within `limit`. Not the
/// whole of it is asked for: a caller has spent some of its own time, which is often as long, before.
fn is_fair(limit: Duration, planned: Duration) -> bool {
    limit >= planned / 2
}

/// Whether a call that was withdrawn after `waited` was so because its time was over. The caller's
/// clock began a little earlier than ours, so its withdrawal can be here before our own deadline.
pub(crate) fn at_its_end(waited: Duration, limit: Duration) -> bool {
    waited >= limit.mul_f32(0.9)
}

/// Tells of a circuit that opened or closed.
pub(crate) fn tell_circuit(events: &Events, manifest: &Manifest, change: Change) {
    let id = &manifest.id;
    let policy = &manifest.lifecycle.circuit;
    let body: Value = match change {
        Change::Opened => json!({
            "code": "CALL_CIRCUIT_OPENED",
            "message": format!(
                "{id} has not answered {} calls in a row: other plugins' calls to it are refused at \
                 once, and one tries again in {}",
                policy.failures, policy.cool_down
            ),
            "retryAfterMs": policy.cool_down.millis(),
        }),
        Change::Closed => json!({
            "code": "CALL_CIRCUIT_CLOSED",
            "message": format!("{id} answers again: other plugins' calls go to it as before"),
        }),
    };
    events.emit("plugin:warning", id, body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_in_a_hurry_proves_nothing_against_a_slow_provider() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert!(!is_fair(second, minute));
        assert!(!is_fair(29 * second, minute));
        assert!(is_fair(minute / 2, minute));
        assert!(is_fair(second, second));
        assert!(!is_fair(second / 50, second));
    }

    #[test]
    fn a_call_withdrawn_in_the_last_tenth_of_its_time_was_late() {
        let limit = Duration::from_secs(10);
        assert!(!at_its_end(Duration::from_millis(8_999), limit));
        assert!(at_its_end(Duration::from_millis(9_001), limit));
        assert!(at_its_end(Duration::from_secs(11), limit));
    }
}
