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
use super::store::{Kind, Step};
use crate::audit_chain::Head;
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
            if let Err(failure) = self.prune().await {
                tracing::error!(%failure, "what is older than the retention could not be removed");
            }
        }
    }

    async fn prune(&self) -> Result<(), Failure> {
        let rules = &self.settings.retention;
        let before = |age: Duration| {
            let then = jiff::Timestamp::now().checked_sub(age);
            // Further back than there is a calendar for: nothing is as old.
            then.map_or_else(|_| String::new(), |then| format!("{then:.3}"))
        };
        let (events, bytes) = (before(rules.events.duration()), rules.events_bytes.bytes());
        while self.store.prune_events(events.clone(), bytes, PIECE).await? > 0 {
            tokio::task::yield_now().await;
        }
        while self.store.prune_runs(events.clone(), PIECE).await? > 0 {
            tokio::task::yield_now().await;
        }
        for (step, kept) in [(Step::Minute, rules.usage_1m), (Step::Quarter, rules.usage_15m)] {
            let now = jiff::Timestamp::now().as_second();
            let oldest = now.saturating_sub_unsigned(kept.duration().as_secs());
            while self.store.prune_usage(step, oldest, PIECE).await? > 0 {
                tokio::task::yield_now().await;
            }
        }
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

/// The row that accounts for the rows up to that place.
pub(super) fn pruned(through: Head) -> Entry {
    Entry::new(Principal::service(), Action::Pruned, Outcome::Done)
        .with("through", json!(through.to_string()))
}
