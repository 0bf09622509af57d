//! Carrying an operation out, and taking it back.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::Registry;
use super::{Halt, Kind, Moment, Operation, Plan, Step, Turn, pause};
use crate::failure::{Code, Failure};
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
        // Before anything is written down there is nothing to undo.
        self.check_halted(&plan, &plugin, plan.kind.doing())?;
        let unsaid = |error| Failure::internal(format!("an operation cannot be written: {error}"));
        let principal = serde_json::to_value(principal).map_err(unsaid)?;
        let journalled = serde_json::to_value(&plan).map_err(unsaid)?;
        let step = plan.kind.steps()[0];
        let begun = self.store.begin_operation(plugin.clone(), principal, step.name(), journalled);
        let number = begun.await?;
        let name = match plan.kind {
            Kind::Install => Some("plugin:installing"),
            // The plugin's own task tells of it.
            Kind::Enable => None,
            Kind::Upgrade | Kind::Rollback => Some("plugin:upgrading"),
            Kind::Uninstall => Some("plugin:uninstalling"),
        };
        if let Some(name) = name {
            self.events.emit(name, &plugin, plan.body());
        }
        self.go_on(Operation { number, plugin, plan, step, undoing: false }).await
    }

    /// Does what is left of an operation, beginning with the step that was intended last.
    pub(super) async fn go_on(self: &Arc<Self>, mut operation: Operation) -> Result<(), Failure> {
        if let Err(failure) = self.do_rest(&mut operation).await {
            return Err(self.give_up(operation, failure).await);
        }
        self.tell_done(&operation, None);
        Ok(())
    }

    /// The same, and nothing about a failure.
    pub(super) async fn do_rest(
        self: &Arc<Self>,
        operation: &mut Operation,
    ) -> Result<(), Failure> {
        let begin = operation.step;
        for step in operation.plan.kind.steps().iter().copied().skip_while(|step| *step != begin) {
            self.take_step(operation, step).await?;
        }
        self.store.close_operation(operation.number).await
    }

    async fn take_step(
        self: &Arc<Self>,
        operation: &mut Operation,
        step: Step,
    ) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        if !kind.is_past_return(step) {
            self.check_halted(&operation.plan, &operation.plugin, step.name())?;
        }
        if operation.step != step {
            if kind.journals_steps() {
                self.store.intend_step(operation.number, step.name()).await?;
            }
            operation.step = step;
        }
        pause(self, kind.name(), step.name(), Moment::Before);
        self.perform(operation, step).await?;
        pause(self, kind.name(), step.name(), Moment::After);
        Ok(())
    }

    /// Undoes an operation that failed, where that can be done. Returns what the failure is then.
    async fn give_up(self: &Arc<Self>, mut operation: Operation, failure: Failure) -> Failure {
        let (plugin, kind) = (operation.plugin.clone(), operation.plan.kind);
        if kind != Kind::Enable {
            self.events.emit("plugin:error", &plugin, json!({ "error": failure }));
        }
        if kind.is_past_return(operation.step) {
            tracing::error!(%plugin, kind = kind.name(), step = operation.step.name(), %failure,
                "what is left of an operation could not be done");
            self.leave_unfinished(operation, failure.clone(), failure.clone());
            return failure;
        }
        operation.undoing = true;
        if let Err(unsaid) = self.store.begin_undo(operation.number).await {
            // A death from here on may find it neither done nor undone, and try it again.
            tracing::error!(%plugin, failure = %unsaid, "that it is undone is not stored");
        }
        match self.undo(&mut operation).await {
            Ok(()) => {
                self.tell_undone(&operation, &failure);
                self.with_what_is_back(&operation, failure)
            }
            Err(second) => {
                tracing::error!(%plugin, kind = kind.name(), failure = %second,
                    "a failed operation could not be undone");
                self.leave_unfinished(operation, failure.clone(), second.clone());
                failure.with("undo", second)
            }
        }
    }

    /// The failure of an upgrade or a rollback that was undone, with what there is in its place.
    fn with_what_is_back(&self, operation: &Operation, failure: Failure) -> Failure {
        let (Kind::Upgrade | Kind::Rollback, Some(from)) =
            (operation.plan.kind, &operation.plan.from)
        else {
            return failure;
        };
        let state = self.find(&operation.plugin).map_or("gone", |handle| handle.view().state);
        let message = format!("{}; {} is back, and {state}", failure.message, from.version);
        Failure { message, ..failure }.with("restored", &from.version).with("state", state)
    }

    /// Takes back what was done of an operation, the last step first.
    pub(super) async fn undo(self: &Arc<Self>, operation: &mut Operation) -> Result<(), Failure> {
        let kind = operation.plan.kind;
        for step in operation.steps_so_far() {
            if self.turns.halted(&operation.plugin) == Some(Halt::Disabled) {
                operation.stays_disabled();
            }
            pause(self, kind.name(), step.name(), Moment::Undo);
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

    /// Says that all is as it was before, where nobody has said so yet.
    pub(super) fn tell_undone(&self, operation: &Operation, cause: &Failure) {
        if matches!(operation.plan.kind, Kind::Upgrade | Kind::Rollback) {
            self.tell_done(operation, Some(cause));
        }
    }

    /// CONFLICT where the operation is to take itself back; `stage`: how far it has come.
    pub(super) fn check_halted(
        &self,
        plan: &Plan,
        plugin: &PluginId,
        stage: &str,
    ) -> Result<(), Failure> {
        match self.turns.halted(plugin).filter(|_| plan.kind.starts()) {
            Some(halt) => Err(plan.halted(plugin, halt, stage)),
            None => Ok(()),
        }
    }

    /// Says that an operation is over; `undone`: why all is as it was before.
    pub(super) fn tell_done(&self, operation: &Operation, undone: Option<&Failure>) {
        let plan = &operation.plan;
        let (name, body) = match (plan.kind, undone) {
            // The plugin's own task has told of it.
            (Kind::Enable, _) => return,
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
            self.denials.forget(&operation.plugin);
        }
        self.events.emit(name, &operation.plugin, body);
    }
}

impl Plan {
    /// Why it is taken back.
    pub(super) fn halted(&self, plugin: &PluginId, halt: Halt, stage: &str) -> Failure {
        let (state, message) = match (halt, self.kind, &self.from, &self.to) {
            (Halt::Uninstalled, ..) => {
                ("uninstalling", format!("{plugin} is being uninstalled, so it is not enabled"))
            }
            (Halt::Disabled, Kind::Upgrade | Kind::Rollback, Some(from), Some(to)) => (
                "disabled",
                format!(
                    "{plugin} was disabled before {} had proven itself, so it is {} again, and stays \
                     disabled; enable it and upgrade it again, or leave it as it is",
                    to.version, from.version
                ),
            ),
            (Halt::Disabled, ..) => {
                ("disabled", format!("{plugin} was disabled while it was being enabled"))
            }
        };
        Failure::new(Code::Conflict, message).with("state", state).with("stage", stage)
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
