//! Whether the audit is what was written.
//!
//! Pure: rows are given in the order of their numbers, and the first fault is told. What is checked:
//! no number is missing, each row follows from the one before, each content is the one that was
//! hashed, a content that is gone belongs to a plugin that a later row uninstalls, rows that are gone
//! at the beginning were pruned by a later row, and each place that somebody kept elsewhere is still
//! in the chain.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::entry::{Action, Outcome};
use crate::audit_chain::{Head, body};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::supervise::store::AuditRow;

/// What is wrong with the row of that number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) sequence: u64,
    pub(crate) reason: Reason,
}

/// Others rely on the names: one is never renamed, only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// Its content, or one of its hashes, is not what was written.
    Altered,
    /// There is no such row.
    Missing,
    /// It does not follow from the row before it: it was added in between, or moved.
    Moved,
    /// Its content is gone, and no later row uninstalls its plugin.
    Erased,
    /// It was there once: a later place of the chain is known.
    Truncated,
    /// Another row was there once: the chain was written anew.
    Rewritten,
}

/// A chain that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = VerifiedAudit)]
pub(crate) struct Verified {
    /// How many rows are there.
    pub(crate) rows: u64,
    /// Of how many of them the content was removed with their plugin.
    pub(crate) removed: u64,
    /// The number of the first row: more than 1 once old ones were pruned.
    pub(crate) first: u64,
    /// The newest row's place: whoever keeps it can hold the audit against it later.
    #[schema(value_type = Object)]
    pub(crate) head: Head,
    /// The place that the launcher keeps.
    #[schema(value_type = Option<Object>)]
    pub(crate) anchored: Option<Head>,
}

/// A check under way.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// Before the first row that is there, once one was seen.
    base: Option<Head>,
    at: Head,
    rows: u64,
    removed: u64,
    /// Plugins with contents that are gone, until a row uninstalls them: the first such row.
    erased: BTreeMap<PluginId, u64>,
    /// Up to where the newest row about that says that rows were pruned.
    pruned: Option<Head>,
    anchored: Option<Head>,
    /// Places that must be in the chain, in order.
    known: Vec<Head>,
}

impl Verifier {
    /// `anchored` is what the launcher keeps, `known` what somebody else does.
    pub(crate) fn new(anchored: Option<Head>, known: Option<Head>) -> Self {
        let mut places: Vec<Head> = anchored.into_iter().chain(known).collect();
        places.sort_by_key(|place| place.sequence);
        Self {
            base: None,
            at: Head::START,
            rows: 0,
            removed: 0,
            erased: BTreeMap::new(),
            pruned: None,
            anchored,
            known: places,
        }
    }

    /// The number after which the next rows are wanted.
    pub(crate) fn after(&self) -> u64 {
        self.at.sequence
    }

    /// Takes the next row.
    pub(crate) fn row(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let broken = |reason| Err(Broken { sequence: row.sequence, reason });
        let before = Head { sequence: row.sequence.saturating_sub(1), hash: row.previous };
        match self.base {
            None if before.sequence == 0 && before != Head::START => return broken(Reason::Moved),
            None => (self.base, self.at) = (Some(before), before),
            Some(_) if row.sequence != self.at.sequence + 1 => {
                return Err(Broken { sequence: self.at.sequence + 1, reason: Reason::Missing });
            }
            Some(_) if row.previous != self.at.hash => return broken(Reason::Moved),
            Some(_) => {}
        }
        if row.content.as_ref().is_some_and(|text| Digest::of(text.as_bytes()) != row.content_hash)
        {
            return broken(Reason::Altered);
        }
        let here = self.at.next(body(row.plugin.as_ref(), row.content_hash));
        if here.hash != row.hash {
            return broken(Reason::Altered);
        }
        if self.known.iter().any(|known| known.sequence == here.sequence && *known != here) {
            return broken(Reason::Rewritten);
        }
        self.at = here;
        self.rows += 1;
        match (&row.content, &row.plugin) {
            (Some(content), _) => self.read(content, row.plugin.as_ref()),
            (None, None) => return broken(Reason::Erased),
            (None, Some(plugin)) => {
                self.removed += 1;
                self.erased.entry(plugin.clone()).or_insert(row.sequence);
            }
        }
        Ok(())
    }

    /// What a row says about others.
    fn read(&mut self, content: &str, plugin: Option<&PluginId>) {
        let Ok(content) = serde_json::from_str::<Value>(content) else { return };
        if content["outcome"] != json!(Outcome::Done) {
            return;
        }
        if content["action"] == json!(Action::Uninstall)
            && let Some(plugin) = plugin
        {
            self.erased.remove(plugin);
        } else if content["action"] == json!(Action::Pruned) {
            let through = content["details"]["through"].as_str();
            self.pruned = through.and_then(|text| text.parse().ok());
        }
    }

    /// There are no more rows.
    pub(crate) fn end(self) -> Result<Verified, Broken> {
        let base = self.base.unwrap_or(Head::START);
        if base != Head::START && self.pruned != Some(base) {
            return Err(Broken { sequence: base.sequence, reason: Reason::Missing });
        }
        if let Some(sequence) = self.erased.values().min() {
            return Err(Broken { sequence: *sequence, reason: Reason::Erased });
        }
        if self.known.iter().any(|known| known.sequence > self.at.sequence) {
            return Err(Broken { sequence: self.at.sequence + 1, reason: Reason::Truncated });
        }
        // A place among the rows that were pruned is vouched for by the row that says so.
        if self.known.iter().any(|known| known.sequence == base.sequence && *known != base) {
            return Err(Broken { sequence: base.sequence, reason: Reason::Rewritten });
        }
        Ok(Verified {
            rows: self.rows,
            removed: self.removed,
            first: base.sequence + 1,
            head: self.at,
            anchored: self.anchored,
        })
    }
}

/// As the API and the command line tell it.
pub(crate) fn broken(Broken { sequence, reason }: &Broken) -> Failure {
    let what = match reason {
        Reason::Altered => "is not what was written",
        Reason::Missing => "is missing",
        Reason::Moved => "does not follow from the row before it: it was added there, or moved",
        Reason::Erased => "has lost its content, and no later row uninstalls its plugin",
        Reason::Truncated => "was there once, and the audit ends before it",
        Reason::Rewritten => "is another than it was once: the audit was written anew",
    };
    let message = format!(
        "the audit is broken: row {sequence} {what}; somebody has written to the store: keep a copy \
         of it, and see docs/audit.md"
    );
    Failure::new(Code::AuditBroken, message).with("sequence", sequence).with("reason", reason)
}
