//! The audit: who did what, who was refused what, and what died.
//!
//! Theory of operation. Each row is one JSON object in a chain of hashes ([`crate::audit_chain`]), so
//! that a row that is changed, removed, added in between or moved is found ([`verification`]). An
//! operation ([`Operation`]) has two: one before anything is done, so that what cannot be recorded is
//! not done, and one with the outcome, before it is answered. What ends because the service dies is
//! closed as interrupted at the next start. Deaths and refusals are rows of their own, in the same
//! transaction as what is stored of them. The launcher keeps how far the chain had come
//! ([`anchoring`]), so that its end cannot be cut off either.
//!
//! Deliberately absent from every row: payloads, values of configurations, secrets, and the text of
//! errors, which could quote any of them.

mod anchoring;
mod entry;
mod notice;
mod operation;
#[cfg(test)]
mod tests;
mod throttle;
mod trust;
mod verification;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

pub(crate) use entry::{Action, Entry, Outcome};
pub(crate) use notice::of_event;
pub(crate) use operation::{Operation, Subject};
pub(super) use throttle::Throttle;
pub(crate) use verification::Verified;

use super::principal::Principal;
use super::store::{AuditRow, Kind, Store};
use crate::audit_chain::Head;
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::id::PluginId;

/// The row of an operation that goes on after the death of its supervisor.
pub(crate) struct Unended {
    begun: u64,
    content: Value,
}

/// A handle on the audit; cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    store: Store,
    refusals: Arc<Mutex<Throttle>>,
    /// Held by whoever anchors: two at once would each tell the launcher what comes after the same row.
    anchoring: Arc<tokio::sync::Mutex<()>>,
}

impl Audit {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, refusals: Arc::default(), anchoring: Arc::default() }
    }

    /// Writes down something that happened.
    pub(crate) async fn record(&self, entry: Entry) -> Result<Head, Failure> {
        self.store.append_audit(entry.row(Kind::Single)).await
    }

    /// Writes down that somebody was refused something. So many of one principal are counted only,
    /// as otherwise whoever is refused could fill the disk.
    pub(crate) async fn refused(&self, entry: Entry) {
        if let Some(entry) = self.admit_refusal(entry) {
            self.record_refusal(entry).await;
        }
    }

    /// The entry for a refusal, if this one is not only counted.
    pub(crate) fn admit_refusal(&self, entry: Entry) -> Option<Entry> {
        // Not by the person acted for, whom the user may name as it likes.
        let who = Principal { on_behalf_of: None, ..entry.principal.clone() }.to_string();
        let passed = {
            // Nothing that holds it can leave it half changed.
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.admit(&who, Monotonic::now())
        };
        let uncounted = passed?;
        Some(if uncounted > 0 { entry.with("unrecorded", uncounted) } else { entry })
    }

    /// Writes down a refusal that was admitted.
    pub(crate) async fn record_refusal(&self, entry: Entry) {
        let who = entry.principal.clone();
        if let Err(failure) = self.record(entry).await {
            // The refusal stands all the same.
            tracing::error!(%who, %failure, "a refusal is not in the audit");
        }
    }

    /// The rows after `sequence`, oldest first, at most `limit`; all, or those of a plugin.
    pub(crate) async fn since(
        &self,
        sequence: u64,
        plugin: Option<PluginId>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, Failure> {
        self.store.audit_since(sequence, plugin, limit).await
    }

    /// Ends what a supervisor before this one had begun and could not end: it was done or undone, as
    /// the events say. The uninstallation of a plugin that `goes_on` is not over: it stays open, and
    /// is given back for [`Audit::end_uninstalling`].
    pub(crate) async fn close_interrupted(
        &self,
        goes_on: impl Fn(&PluginId) -> bool,
    ) -> Result<BTreeMap<PluginId, Unended>, Failure> {
        let mut unended = BTreeMap::new();
        let open = self.store.audit_open().await?;
        if open.is_empty() {
            return Ok(unended);
        }
        let installed = self.store.plugins().await?;
        for (begun, plugin, content) in open {
            let gone = plugin.as_ref().is_some_and(|id| installed.iter().all(|row| row.id != *id));
            let uninstall = content["action"] == json!(Action::Uninstall);
            let uninstalled = uninstall && gone;
            // The first of several is the one that has the turn.
            if let Some(id) = plugin.as_ref().filter(|id| uninstall && goes_on(id))
                && !unended.contains_key(id)
            {
                unended.insert(id.clone(), Unended { begun, content });
                continue;
            }
            let (kind, outcome) = if uninstalled {
                (Kind::Farewell(begun), Outcome::Done)
            } else {
                (Kind::End(begun), Outcome::Interrupted)
            };
            let row = entry::again(content, plugin, kind, &outcome, begun);
            self.store.append_audit(row).await?;
        }
        Ok(unended)
    }

    /// A plugin is uninstalled by a later supervisor than the one that was asked.
    pub(crate) async fn end_uninstalling(&self, plugin: &PluginId, unended: Unended) {
        let Unended { begun, content } = unended;
        let (kind, plugin) = (Kind::Farewell(begun), Some(plugin.clone()));
        let row = entry::again(content, plugin, kind, &Outcome::Done, begun);
        if let Err(failure) = self.store.append_audit(row).await {
            // The next start finds it open, and the plugin gone.
            tracing::error!(%failure, "the end of an uninstallation is not in the audit");
        }
    }

    /// Writes down that the service itself did something.
    pub(crate) async fn service(&self, action: Action, details: Value) {
        let mut entry = Entry::new(Principal::service(), action, Outcome::Done);
        if let Value::Object(details) = details {
            entry.details = details;
        }
        if let Err(failure) = self.record(entry).await {
            tracing::error!(?action, %failure, "not in the audit");
        }
    }
}

/// A row as the API shows it: what it says, with its place.
pub(crate) fn shown(row: &AuditRow) -> Value {
    let mut shown = json!({
        "sequence": row.sequence,
        "pluginId": row.plugin,
        "hash": row.hash,
    });
    let content = row.content.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match (content, &mut shown) {
        (Some(Value::Object(content)), Value::Object(shown)) => {
            // Random, and of use to nobody who reads.
            shown.extend(content.into_iter().filter(|(key, _)| key != "salt"));
        }
        _ => shown["removed"] = Value::Bool(true),
    }
    shown
}
