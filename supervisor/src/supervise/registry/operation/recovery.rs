//! What becomes of the operations of a supervisor that died: before anything is managed or told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::super::Registry;
use super::{Kind, Operation, Step, Turn};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::audit::Unended;

/// What those who take over have to know.
#[derive(Default)]
pub(crate) struct Recovered {
    /// Uninstallations that go on once all is taken over, each with its turn.
    uninstalls: Vec<(Operation, Turn)>,
    /// Plugins that were being enabled, likewise.
    enabling: BTreeMap<PluginId, Resumed>,
    /// Where the audit of the uninstallations is to be ended.
    unended: BTreeMap<PluginId, Unended>,
}

/// An enabling that goes on, with its turn.
pub(crate) struct Resumed {
    operation: Operation,
    turn: Turn,
}

impl Registry {
    /// Undoes or finishes each operation that is not over. Nothing is managed yet, so only what
    /// outlives a supervisor is touched; the rows are right afterwards.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<Recovered, Failure> {
        let mut recovered = Recovered::default();
        for open in self.store.open_operations().await? {
            let operation = match Operation::read(open) {
                Ok(operation) => operation,
                Err(failure) => {
                    tracing::error!(%failure, "an operation is left as it is");
                    continue;
                }
            };
            let (plugin, plan, step) = (&operation.plugin, &operation.plan, operation.step);
            tracing::warn!(%plugin, kind = plan.kind.name(), step = step.name(),
                "an operation was interrupted");
            if plan.kind == Kind::Uninstall && operation.is_finished() {
                if let Some(turn) = self.turns.try_take(plugin, plan.kind) {
                    recovered.uninstalls.push((operation, turn));
                }
                continue;
            }
            if plan.kind == Kind::Enable && operation.is_finished() {
                if let Some(turn) = self.turns.try_take(plugin, plan.kind) {
                    recovered.enabling.insert(plugin.clone(), Resumed { operation, turn });
                }
                continue;
            }
            if let Err(failure) = self.settle_interrupted(&operation).await {
                self.events.emit("plugin:error", plugin, json!({ "error": failure }));
                let cause = operation.interrupted();
                self.leave_unfinished(operation, cause, failure);
            }
        }
        let goes_on = |plugin: &PluginId| recovered.uninstall(plugin).is_some();
        match self.audit.close_interrupted(goes_on).await {
            Ok(unended) => recovered.unended = unended,
            // A full disk must not keep the supervisor from its work; the next one finds them open.
            Err(failure) => {
                tracing::error!(%failure, "what was interrupted stays open in the audit");
            }
        }
        Ok(recovered)
    }

    async fn settle_interrupted(self: &Arc<Self>, operation: &Operation) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        if operation.is_finished() {
            if operation.step == Step::Settle {
                self.perform(operation, Step::Settle).await?;
            }
            self.store.close_operation(operation.number).await?;
            self.tell_done(operation, None);
            return Ok(());
        }
        self.undo_durable(operation).await?;
        let interrupted = operation.interrupted();
        match kind {
            Kind::Upgrade | Kind::Rollback => {
                self.tell_done(operation, Some(&interrupted));
            }
            Kind::Install | Kind::Enable | Kind::Uninstall => {
                self.events.emit(
                    "plugin:error",
                    &operation.plugin,
                    json!({ "error": interrupted }),
                );
            }
        }
        Ok(())
    }

    /// Goes on with the uninstallations; the plugins' tasks are there, where they are needed.
    pub(crate) fn go_on_uninstalling(self: &Arc<Self>, mut recovered: Recovered) {
        for (operation, turn) in recovered.uninstalls {
            let unended = recovered.unended.remove(&operation.plugin);
            let registry = Arc::clone(self);
            tokio::spawn(async move {
                let plugin = operation.plugin.clone();
                // A failure is told where it happens.
                if registry.go_on(operation).await.is_ok() {
                    registry.forget_broken(&plugin);
                    if let Some(unended) = unended {
                        registry.audit.end_uninstalling(&plugin, unended).await;
                    }
                }
                drop(turn);
            });
        }
    }

    /// Goes on with what enables a plugin; the plugin's task is there, and what it is to do first was
    /// done.
    pub(crate) async fn go_on_enabling(self: &Arc<Self>, resumed: Resumed) -> Result<(), Failure> {
        let Resumed { operation, turn } = resumed;
        let enabled = self.go_on(operation).await;
        drop(turn);
        enabled
    }

    /// Undoes what enables a plugin that nobody manages.
    pub(crate) fn give_up_enabling(self: &Arc<Self>, recovered: &mut Recovered) {
        for (_, Resumed { operation, turn }) in std::mem::take(&mut recovered.enabling) {
            let cause = operation.interrupted();
            self.leave_unfinished(operation, cause.clone(), cause);
            drop(turn);
        }
    }

    /// Tries again what could not be done while a process of the plugin was still there.
    pub(crate) fn retry_unfinished(self: &Arc<Self>, plugin: &PluginId) {
        let Some(turn) = self.turns.try_take(plugin, Kind::Uninstall) else { return };
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            // A failure is told where it happens.
            let _ = registry.end_unfinished(&turn).await;
        });
    }
}

impl Operation {
    /// What is told where it is undone because of a death.
    fn interrupted(&self) -> Failure {
        let (kind, plugin, step) = (self.plan.kind, &self.plugin, self.step.name());
        let message = format!(
            "the service ended while it was {} {plugin}, at the step {step}; all is as it was before",
            kind.doing()
        );
        Failure::new(Code::ShuttingDown, message).with("step", step)
    }
}

impl Recovered {
    /// The operation that removes this plugin.
    pub(crate) fn uninstall(&self, plugin: &PluginId) -> Option<&Operation> {
        let mut operations = self.uninstalls.iter().map(|(operation, _)| operation);
        operations.find(|operation| operation.plugin == *plugin)
    }

    /// The operation that enables this plugin, for whoever goes on with it.
    pub(crate) fn take_enabling(&mut self, plugin: &PluginId) -> Option<Resumed> {
        self.enabling.remove(plugin)
    }

    /// Whether it is being enabled.
    pub(crate) fn is_enabling(&self, plugin: &PluginId) -> bool {
        self.enabling.contains_key(plugin)
    }

    /// Those whose task is gone already.
    pub(crate) fn removals(&self) -> impl Iterator<Item = &Operation> {
        self.uninstalls.iter().map(|(operation, _)| operation).filter(|it| !it.needs_task())
    }
}
