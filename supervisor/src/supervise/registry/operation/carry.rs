//! Carrying an operation out, and taking it back.

use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::super::Registry;
use super::{Kind, Moment, Operation, Plan, Step, Turn, pause};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::supervise::principal::Principal;

impl Registry {
    /// Carries an operation out. At a failure it is undone, unless it is past its return; then the
    /// rest is done when the plugin is uninstalled again, or by the next supervisor.
    pub(in crate::supervise::registry) async fn carry_out(
        self: &Arc<Self>,
        turn: &Turn,
        plan: Plan,
        principal: &Principal,
    ) -> Result<(), Failure> {
        let plugin = turn.plugin().clone();
        let unsaid = |error| Failure::internal(format!("an operation cannot be written: {error}"));
        let principal = serde_json::to_value(principal).map_err(unsaid)?;
        let journalled = serde_json::to_value(&plan).map_err(unsaid)?;
        let step = plan.kind.steps()[0];
        let begun = self.store.begin_operation(plugin.clone(), principal, step.name(), journalled);
        let number = begun.await?;
        let name = match plan.kind {
            Kind::Install => "plugin:installing",
            Kind::Upgrade | Kind::Rollback => "plugin:upgrading",
            Kind::Uninstall => "plugin:uninstalling",
        };
        self.events.emit(name, &plugin, plan.body());
        self.go_on(Operation { number, plugin, plan, step, undoing: false }).await
    }

    /// Does what is left of an operation, beginning with the step that was intended last.
    pub(super) async fn go_on(self: &Arc<Self>, mut operation: Operation) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        let begin = operation.step;
        for step in kind.steps().iter().copied().skip_while(|step| *step != begin) {
            if let Err(failure) = self.take_step(&mut operation, step).await {
                return Err(self.give_up(operation, failure).await);
            }
        }
        if let Err(failure) = self.store.close_operation(operation.number).await {
            return Err(self.give_up(operation, failure).await);
        }
        self.tell_done(&operation, None);
        Ok(())
    }

    async fn take_step(
        self: &Arc<Self>,
        operation: &mut Operation,
        step: Step,
    ) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        if operation.step != step {
            self.store.intend_step(operation.number, step.name()).await?;
            operation.step = step;
        }
        pause(self, kind, step.name(), Moment::Before);
        self.perform(operation, step).await?;
        pause(self, kind, step.name(), Moment::After);
        Ok(())
    }

    /// Undoes an operation that failed, where that can be done. Returns what the failure is then.
    async fn give_up(self: &Arc<Self>, mut operation: Operation, failure: Failure) -> Failure {
        let (plugin, kind) = (operation.plugin.clone(), operation.plan.kind);
        self.events.emit("plugin:error", &plugin, json!({ "error": failure }));
        if kind.is_past_return(operation.step) {
            tracing::error!(%plugin, kind = kind.name(), step = operation.step.name(), %failure,
                "what is left of an operation could not be done");
            self.leave_unfinished(operation, &failure);
            return failure;
        }
        operation.undoing = true;
        if let Err(unsaid) = self.store.begin_undo(operation.number).await {
            // A death from here on may find it neither done nor undone, and try it again.
            tracing::error!(%plugin, failure = %unsaid, "that it is undone is not stored");
        }
        match self.undo(&operation).await {
            Ok(()) => {
                if matches!(kind, Kind::Upgrade | Kind::Rollback) {
                    self.tell_done(&operation, Some(&failure));
                }
                failure
            }
            Err(second) => {
                tracing::error!(%plugin, kind = kind.name(), failure = %second,
                    "a failed operation could not be undone");
                self.leave_unfinished(operation, &second);
                failure.with("undo", second)
            }
        }
    }

    /// Takes back what was done of an operation, the last step first.
    async fn undo(self: &Arc<Self>, operation: &Operation) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        for step in operation.steps_so_far() {
            pause(self, kind, step.name(), Moment::Undo);
            self.undo_step(operation, step).await?;
        }
        self.store.close_operation(operation.number).await
    }

    /// The same after the death of the supervisor that began it: what did not outlive it needs none.
    pub(super) async fn undo_durable(
        self: &Arc<Self>,
        operation: &Operation,
    ) -> Result<(), Failure> {
        for step in operation.steps_so_far().filter(|step| step.is_durable()) {
            self.undo_step(operation, step).await?;
        }
        // A stop that is to last is stored; to be undone it need not have got that far.
        let plan = &operation.plan;
        if let (Kind::Uninstall, Some(row)) = (plan.kind, &plan.from) {
            self.store.set_enabled(row.id.clone(), row.enabled).await?;
        }
        self.store.close_operation(operation.number).await
    }

    /// Says that an operation is over; `undone`: why all is as it was before.
    pub(super) fn tell_done(&self, operation: &Operation, undone: Option<&Failure>) {
        let plan = &operation.plan;
        let (name, body) = match (plan.kind, undone) {
            (Kind::Install, _) => ("plugin:installed", plan.body()),
            (Kind::Uninstall, _) => ("plugin:uninstalled", plan.body()),
            (Kind::Upgrade, None) => ("plugin:upgraded", plan.body()),
            (Kind::Rollback, None) => {
                let mut body = plan.body();
                body["cause"] = Value::Null;
                ("plugin:rolledback", body)
            }
            // It runs what it ran before: that is the version, and what was tried is not.
            (Kind::Upgrade | Kind::Rollback, Some(cause)) => {
                let tried = plan.body();
                let body = json!({
                    "version": tried["previous"],
                    "previous": tried["version"],
                    "cause": cause,
                });
                ("plugin:rolledback", body)
            }
        };
        if plan.kind == Kind::Uninstall && undone.is_none() {
            self.metrics.forget(&operation.plugin);
        }
        self.events.emit(name, &operation.plugin, body);
    }

    fn unfinished(&self) -> MutexGuard<'_, std::collections::BTreeMap<PluginId, Operation>> {
        // Nothing that holds it can leave the map half changed.
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an operation for a later try. One that is to be uninstalled stays in sight.
    pub(super) fn leave_unfinished(&self, operation: Operation, failure: &Failure) {
        if let (Kind::Uninstall, false, Some(row)) =
            (operation.plan.kind, operation.undoing, &operation.plan.from)
            && self.find(&operation.plugin).is_none()
        {
            self.show_uninstalling(row.clone(), Some(failure.clone()));
        }
        self.unfinished().insert(operation.plugin.clone(), operation);
    }

    /// Ends what an earlier operation on the plugin has left, before the plugin goes on: an undo puts
    /// its state back as it was, which must not happen after it has written more.
    pub(in crate::supervise::registry) async fn settle(
        self: &Arc<Self>,
        id: &PluginId,
    ) -> Result<(), Failure> {
        let kind = self.unfinished().get(id).map(|operation| operation.plan.kind);
        let Some(kind) = kind else { return Ok(()) };
        let turn = self.turns.take(id, kind).await;
        self.end_unfinished(&turn).await
    }

    /// Ends what an earlier operation on the plugin has left. The turn must be the caller's.
    pub(in crate::supervise::registry) async fn end_unfinished(
        self: &Arc<Self>,
        turn: &Turn,
    ) -> Result<(), Failure> {
        let Some(operation) = self.unfinished().remove(turn.plugin()) else { return Ok(()) };
        if !operation.undoing && operation.plan.kind.is_past_return(operation.step) {
            return self.go_on(operation).await;
        }
        let undone = self.undo(&operation).await;
        if let Err(failure) = &undone {
            self.leave_unfinished(operation, failure);
        }
        undone
    }
}

impl Operation {
    /// What was begun, the last first.
    fn steps_so_far(&self) -> impl Iterator<Item = Step> + use<> {
        let steps = self.plan.kind.steps();
        let last = steps.iter().position(|step| *step == self.step).unwrap_or(0);
        steps[..=last].iter().rev().copied()
    }
}
