//! What an operation has left: tried again by itself until it is done.
//!
//! Theory of operation. An undo, or the rest of an operation past its return, can fail as well: a full
//! disk, a launcher that refuses. The operation stays in the journal and here, in sight of `inspect`. It
//! is tried again after pauses that grow up to a minute, before anything else is done to the plugin,
//! and by the next supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::Registry;
use super::{Kind, Operation, Turn};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::supervise::audit;
use crate::supervise::principal::Principal;
use crate::supervise::retry::with_growing_pauses;

/// Operations that could be neither done nor undone yet.
#[derive(Default)]
pub(in crate::supervise::registry) struct Unfinished {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    left: BTreeMap<PluginId, Left>,
    /// Those that are tried again by themselves.
    retried: BTreeSet<PluginId>,
}

struct Left {
    operation: Operation,
    /// Why it is undone.
    cause: Failure,
    /// Why it could not be ended.
    failure: Failure,
    attempts: u32,
}

/// An operation that is not over.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remainder {
    /// `install`, `enable`, `upgrade`, `rollback`, `uninstall`
    operation: &'static str,
    /// Whether it is taken back; if not, what is left of it is done.
    undoing: bool,
    /// How often that was tried.
    attempts: u32,
    /// What stood in the way the last time.
    error: Failure,
}

impl Unfinished {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that holds it can leave it half changed.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// What an operation on the plugin has left.
    pub(crate) fn remainder(&self, plugin: &PluginId) -> Option<Remainder> {
        self.unfinished.book().left.get(plugin).map(|left| Remainder {
            operation: left.operation.plan.kind.name(),
            undoing: left.operation.is_taken_back(),
            attempts: left.attempts,
            error: left.failure.clone(),
        })
    }

    /// Keeps an operation for a later try. One that is to be uninstalled stays in sight.
    pub(super) fn leave_unfinished(
        self: &Arc<Self>,
        operation: Operation,
        cause: Failure,
        failure: Failure,
    ) {
        self.leave(Left { operation, cause, failure, attempts: 1 });
    }

    fn leave(self: &Arc<Self>, left: Left) {
        let plugin = left.operation.plugin.clone();
        let (kind, undoing) = (left.operation.plan.kind, left.operation.is_taken_back());
        if let (Kind::Uninstall, false, Some(row)) = (kind, undoing, &left.operation.plan.from)
            && self.find(&plugin).is_none()
        {
            self.show_uninstalling(row.clone(), Some(left.failure.clone()));
        }
        if left.attempts == 1 {
            let what = if undoing { "could not be undone" } else { "could not be finished" };
            let message = format!(
                "the {} of {plugin} {what}; it is tried again, at least once a minute: {}",
                kind.name(),
                left.failure.message
            );
            let body = json!({
                "code": "OPERATION_UNFINISHED",
                "message": message,
                "operation": kind.name(),
                "undoing": undoing,
                "error": left.failure,
            });
            self.events.emit("plugin:warning", &plugin, body);
        }
        let mut book = self.unfinished.book();
        book.left.insert(plugin.clone(), left);
        let first = book.retried.insert(plugin.clone());
        drop(book);
        if !first {
            return;
        }
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            with_growing_pauses(|| registry.retry(&plugin, kind)).await;
        });
    }

    /// Whether nothing is left of an operation.
    async fn retry(self: &Arc<Self>, plugin: &PluginId, kind: Kind) -> bool {
        if self.check_open().is_err() {
            // For the next supervisor.
            return true;
        }
        // What is left may be of another operation by now.
        let kind =
            self.unfinished.book().left.get(plugin).map_or(kind, |left| left.operation.plan.kind);
        let turn = self.turns.take(plugin, kind).await;
        // A failure is told where it happens.
        let _ = self.end_unfinished(&turn).await;
        let mut book = self.unfinished.book();
        let done = !book.left.contains_key(plugin);
        if done {
            book.retried.remove(plugin);
        }
        done
    }

    /// Ends what an earlier operation on the plugin has left. The turn must be the caller's. An
    /// uninstallation that comes to its end so has its last row in the audit.
    pub(in crate::supervise::registry) async fn end_unfinished(
        self: &Arc<Self>,
        turn: &Turn,
    ) -> Result<(), Failure> {
        let plugin = turn.plugin();
        let removes = self.unfinished.book().left.get(plugin).is_some_and(|left| {
            left.operation.plan.kind == Kind::Uninstall && !left.operation.is_taken_back()
        });
        self.end_left(turn).await?;
        if removes {
            self.forget_broken(plugin);
            let farewell = audit::Operation::new(Principal::service(), audit::Action::Uninstall)
                .about(plugin)
                .run(self, |_, _| std::future::ready(Ok(())));
            if let Err(failure) = farewell.await {
                tracing::error!(%plugin, %failure, "the end of an uninstallation is not in the audit");
            }
        }
        Ok(())
    }

    pub(in crate::supervise::registry) fn is_unfinished(&self, plugin: &PluginId) -> bool {
        self.unfinished.book().left.contains_key(plugin)
    }

    /// The plugin was disabled: whatever becomes of what is left, it stays so.
    pub(in crate::supervise::registry) fn heed_in_unfinished(&self, plugin: &PluginId) {
        if let Some(left) = self.unfinished.book().left.get_mut(plugin) {
            left.operation.stays_disabled();
        }
    }

    /// Ends what an earlier operation on the plugin has left, before the plugin goes on: an undo puts
    /// its state back as it was, which must not happen after it has written more.
    pub(in crate::supervise::registry) async fn settle(
        self: &Arc<Self>,
        id: &PluginId,
    ) -> Result<(), Failure> {
        let kind = self.unfinished.book().left.get(id).map(|left| left.operation.plan.kind);
        let Some(kind) = kind else { return Ok(()) };
        let turn = self.turns.take(id, kind).await;
        self.end_unfinished(&turn).await
    }

    /// The same for an uninstallation, which says itself how it came out.
    pub(in crate::supervise::registry) async fn end_left(
        self: &Arc<Self>,
        turn: &Turn,
    ) -> Result<(), Failure> {
        let Some(left) = self.unfinished.book().left.remove(turn.plugin()) else { return Ok(()) };
        let Left { mut operation, cause, attempts, .. } = left;
        let ended = if operation.is_taken_back() {
            self.undo(&mut operation).await
        } else {
            self.do_rest(&mut operation).await
        };
        match ended {
            Ok(()) if operation.is_taken_back() => self.tell_undone(&operation, &cause),
            Ok(()) => self.tell_done(&operation, None),
            Err(failure) => {
                let (plugin, kind) = (&operation.plugin, operation.plan.kind.name());
                tracing::error!(%plugin, kind, attempts, %failure, "an operation is still not over");
                let failed = failure.clone();
                self.leave(Left { operation, cause, failure, attempts: attempts + 1 });
                return Err(failed);
            }
        }
        Ok(())
    }
}

impl Operation {
    /// Whether what is left of it is its undo.
    fn is_taken_back(&self) -> bool {
        self.undoing || !self.plan.kind.is_past_return(self.step)
    }
}
