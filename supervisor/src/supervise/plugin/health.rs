//! Health checks of a plugin that runs.
//!
//! Theory of operation. Every `health_interval` the plugin is sent a ping on the control lane, which no
//! amount of waiting calls holds up, and is then asked for its health; both within `health_timeout`. So
//! many failed checks in a row count as a hang: the actor stops it, which is a death like any other.

use std::time::Duration;

use bulkhead_ipc_driver::Peer;
use bulkhead_ipc_protocol::{Call, CallFailure, Payload, lifecycle};
use tokio::time::Instant;

use crate::failure::{Code, Failure};

/// The checks of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    /// Failed ones in a row.
    failed: u32,
}

/// What a check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is well, or no better and no worse than was told already.
    Nothing,
    /// The first failed check of a row.
    Unwell,
    /// So many failed that it counts as a hang. Told once of a process.
    Hung,
}

impl Checks {
    /// One more check; `limit` failed ones in a row are a hang.
    pub(super) fn hear(&mut self, good: bool, limit: u32) -> Finding {
        if self.failed >= limit {
            return Finding::Nothing;
        }
        self.failed = if good { 0 } else { self.failed + 1 };
        match self.failed {
            failed if failed == limit => Finding::Hung,
            1 => Finding::Unwell,
            _ => Finding::Nothing,
        }
    }

    pub(crate) fn failed(self) -> u32 {
        self.failed
    }
}

/// One check, within `limit`. None if it says nothing.
pub(super) async fn check(peer: &Peer, limit: Duration) -> Option<Result<(), Failure>> {
    let asked = Instant::now();
    match tokio::time::timeout(limit, peer.ping()).await {
        Err(_) => return Some(Err(late("a ping", limit))),
        Ok(Err(_)) => return None,
        Ok(Ok(_)) => {}
    }
    let left = limit.saturating_sub(asked.elapsed());
    let nothing = Payload::bincode(&()).ok()?;
    match peer.call(Call::new(lifecycle::HEALTH, nothing).with_timeout(left)).await {
        Ok(_) => Some(Ok(())),
        Err(CallFailure::Remote(error)) => Some(Err(Failure::new(
            Code::CallFailed,
            format!("it says that it is not well: {}: {}", error.code, error.message),
        )
        .with("stage", "health")
        .with("pluginCode", error.code))),
        Err(CallFailure::Timeout { .. }) => Some(Err(late("its health check", limit))),
        // Where it is exhausted, others ask too much of it, and it has answered the ping.
        Err(
            CallFailure::Exhausted { .. }
            | CallFailure::Ended(_)
            | CallFailure::Draining
            | CallFailure::TooLong { .. },
        ) => None,
    }
}

fn late(what: &str, limit: Duration) -> Failure {
    Failure::new(Code::Timeout, format!("it did not answer {what} within {} ms", limit.as_millis()))
        .with("stage", "health")
        .with("budgetMs", limit.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(checks: &[bool]) -> Vec<Finding> {
        let mut all = Checks::default();
        checks.iter().map(|good| all.hear(*good, 3)).collect()
    }

    #[test]
    fn so_many_failed_in_a_row_are_a_hang_and_the_first_is_told() {
        use Finding::{Hung, Nothing, Unwell};
        assert_eq!(
            findings(&[true, false, false, false, false, false]),
            [Nothing, Unwell, Nothing, Hung, Nothing, Nothing]
        );
    }

    #[test]
    fn a_good_one_begins_the_row_anew() {
        use Finding::{Nothing, Unwell};
        assert_eq!(
            findings(&[false, false, true, false, false, true]),
            [Unwell, Nothing, Nothing, Unwell, Nothing, Nothing]
        );
        let mut checks = Checks::default();
        checks.hear(false, 3);
        assert_eq!(checks.failed(), 1);
    }

    #[test]
    fn where_one_is_enough_it_is_a_hang_at_once() {
        assert_eq!(Checks::default().hear(false, 1), Finding::Hung);
    }
}
