//! What was done to the trust store, as the launcher saw it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{Action, Audit, Entry, Outcome};
use crate::failure::Failure;
use crate::link::{Reply, Request};
use crate::supervise::launcher_link::{Launcher, unexpected};
use crate::supervise::principal::Principal;
use crate::trust::{Change, Standing};

/// How long a change can be without its row, at the most.
const EVERY: Duration = Duration::from_secs(1);

impl Audit {
    /// Writes down each change, for as long as the service lives.
    pub(crate) async fn keep_trust_recorded(self, launcher: Launcher) {
        let mut turns = interval(EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut last) = (None, None);
        loop {
            turns.tick().await;
            match self.record_trust(&launcher, &mut last).await.map_err(|failure| failure.code) {
                Ok(()) => told = None,
                Err(code) if told == Some(code) => {}
                Err(code) => {
                    tracing::error!(%code, "a change of the trust store is not in the audit");
                    told = Some(code);
                }
            }
        }
    }

    /// Writes down what waits, except for the `last` that was, of which the launcher may not have heard
    /// yet. A death in between writes it down twice.
    async fn record_trust(
        &self,
        launcher: &Launcher,
        last: &mut Option<u64>,
    ) -> Result<(), Failure> {
        loop {
            let (number, change) = match launcher.ask(Request::TrustChange).await? {
                (Reply::TrustChange(Some((number, change))), _) => (number, change.0),
                (Reply::TrustChange(None), _) => return Ok(()),
                (other, _) => return Err(unexpected(&other)),
            };
            if *last != Some(number) {
                self.record(entry(&change)).await?;
                *last = Some(number);
            }
            launcher.ask_done(Request::TrustRecorded { number }).await?;
        }
    }
}

fn entry(change: &Change) -> Entry {
    let Change { id, kind, before, after, owner, modified } = change;
    let entry = Entry::new(Principal::unknown(), Action::TrustChanged, Outcome::Done)
        .with("key", id)
        .with("change", kind)
        .with("before", before.as_ref().map(standing))
        .with("after", after.as_ref().map(standing))
        .with("fileOwner", owner);
    let modified = modified.and_then(|since| {
        let since = jiff::SignedDuration::try_from(since).ok()?;
        jiff::Timestamp::from_duration(since).ok()
    });
    entry.with("fileModified", modified.map(|time| format!("{time:.3}")))
}

fn standing(standing: &Standing) -> Value {
    let Standing { key, plugins, revoked } = standing;
    json!({ "publicKey": key, "plugins": plugins, "revoked": revoked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::ChangeKind;

    #[test]
    fn a_row_says_what_was_done_and_not_who_did_it() {
        let standing = Standing {
            key: None,
            plugins: vec!["clinic-*".parse().unwrap()],
            revoked: Some("2026-05-04T10:20:30.000Z".to_owned()),
        };
        let change = Change {
            id: "00000000000000FF".parse().unwrap(),
            kind: ChangeKind::Revoked,
            before: None,
            after: Some(standing),
            owner: Some(0),
            modified: Some(Duration::from_millis(1_767_225_600_500)),
        };
        let entry = entry(&change);
        assert_eq!((entry.action, entry.principal.uid), (Action::TrustChanged, None));
        assert_eq!(
            Value::Object(entry.details),
            json!({
                "key": "00000000000000FF",
                "change": "revoked",
                "before": null,
                "after": {
                    "publicKey": null,
                    "plugins": ["clinic-*"],
                    "revoked": "2026-05-04T10:20:30.000Z",
                },
                "fileOwner": 0,
                "fileModified": "2026-01-01T00:00:00.500Z",
            })
        );
    }
}
