//! How long events, runs of schedules, the audit and what plugins used are kept.
//!
//! All are bounded by age and by size or number, so that no disk fills up with them. What is over is removed
//! in small pieces, each a transaction of its own, so that nobody else waits long for the store. The
//! newest event and the newest row stay, whatever their age: the numbers go on from them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::audit::{Action, Entry, Outcome};
use super::principal::Principal;
use super::registry::Registry;
use super::store::{Kind, Step, Store};
use crate::audit_chain::Head;
use crate::config::Retention;
use crate::failure::Failure;
use crate::link::{Reply, Request};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// How much goes in one transaction.
const PIECE: usize = 500;

impl Registry {
    /// Removes what is over, for as long as the service lives.
    pub(crate) async fn keep_within_retention(self: Arc<Self>) {
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.store.keep_room();
            for failure in self.prune().await {
                tracing::error!(%failure, "what is older than the retention could not be removed");
            }
        }
    }

    /// Removes what is over; what of it failed. A kind that cannot be removed does not keep the others.
    async fn prune(&self) -> Vec<Failure> {
        let rules = &self.settings.retention;
        let mut failed = prune_history(&self.store, rules).await;
        failed.extend(self.prune_audit(rules).await.err());
        failed
    }

    async fn prune_audit(&self, rules: &Retention) -> Result<(), Failure> {
        // What the launcher does not vouch for yet stays: it could not go on from there.
        let (Reply::AuditHead(Some(anchored)), _) = self.launcher.ask(Request::AuditHead).await?
        else {
            return Ok(());
        };
        let audit = before(rules.audit.duration());
        loop {
            let cut = self.store.audit_cut(audit.clone(), rules.audit_rows, anchored.sequence);
            let Some(cut) = cut.await? else { return Ok(()) };
            self.store.prune_audit(cut, pruned(cut).row(Kind::Single)).await?;
        }
    }
}

/// Removes what is over of events, runs and usage; what of it failed.
async fn prune_history(store: &Store, rules: &Retention) -> Vec<Failure> {
    let (events, bytes) = (before(rules.events.duration()), rules.events_bytes.bytes());
    let mut pruned = vec![
        in_pieces(|| store.prune_events(events.clone(), bytes, PIECE)).await,
        in_pieces(|| store.prune_runs(events.clone(), PIECE)).await,
    ];
    for (step, kept) in [(Step::Minute, rules.usage_1m), (Step::Quarter, rules.usage_15m)] {
        let now = jiff::Timestamp::now().as_second();
        let oldest = now.saturating_sub_unsigned(kept.duration().as_secs());
        pruned.push(in_pieces(|| store.prune_usage(step, oldest, PIECE)).await);
    }
    pruned.into_iter().filter_map(Result::err).collect()
}

/// Removes one piece after the other until none is left.
async fn in_pieces<F>(remove: impl Fn() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<usize, Failure>>,
{
    while remove().await? > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The time of which what is `age` old is, as the store has it.
fn before(age: Duration) -> String {
    let then = jiff::Timestamp::now().checked_sub(age);
    // Further back than there is a calendar for: nothing is as old.
    then.map_or_else(|_| String::new(), |then| format!("{then:.3}"))
}

/// The row that accounts for the rows up to that place.
pub(super) fn pruned(through: Head) -> Entry {
    Entry::new(Principal::service(), Action::Pruned, Outcome::Done)
        .with("through", json!(through.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kind_that_cannot_be_removed_does_not_keep_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let store = Store::open(&path).unwrap();
        let outside = rusqlite::Connection::open(&path).unwrap();
        outside
            .execute_batch(
                "INSERT INTO event (time, name, body) VALUES ('2000-01-01T00:00:00.000Z', 'a', '{}'),
                     ('2000-01-01T00:00:00.000Z', 'b', '{}');
                 INSERT INTO plugin (id, version, digest, config, enabled, installed_at)
                     VALUES ('a', '1.0.0', '', '{}', 0, '2000-01-01T00:00:00Z');
                 INSERT INTO usage (plugin, step, time, covered) VALUES ('a', 60, 0, 1), ('a', 900, 0, 1);
                 CREATE TRIGGER kept BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'kept'); END;",
            )
            .unwrap();
        let left = |table: &str| -> i64 {
            let count = format!("SELECT count(*) FROM {table}");
            outside.query_row(&count, [], |row| row.get(0)).unwrap()
        };
        let failed = prune_history(&store, &Retention::default()).await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].message.contains("kept"), "{failed:?}");
        assert_eq!((left("event"), left("usage")), (2, 0));
        outside.execute_batch("DROP TRIGGER kept").unwrap();
        assert_eq!(prune_history(&store, &Retention::default()).await, []);
        assert_eq!(left("event"), 1, "the newest stays");
    }
}
