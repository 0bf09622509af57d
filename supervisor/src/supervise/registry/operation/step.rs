//! What each step does, and its undo. All of it can be repeated.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::{DisableRequest, Registry, ask};
use super::pause::DEPENDENCIES;
use super::{Kind, Moment, Operation, Plan, Step, pause};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::Request;
use crate::supervise::plugin::{Command, EnableReport};
use crate::supervise::store::PluginRow;

impl Registry {
    pub(super) async fn perform(
        self: &Arc<Self>,
        operation: &Operation,
        step: Step,
    ) -> Result<(), Failure> {
        let (plugin, plan) = (&operation.plugin, &operation.plan);
        match step {
            // A tree that is wanted came with the import, or is that of an earlier version.
            Step::Tree if plan.to.is_some() => Ok(()),
            Step::Tree => self.discard_trees(operation).await,
            Step::Stop => self.halt(operation).await,
            Step::Archive => match (&plan.archive, &plan.from) {
                (Some(name), Some(row)) => self.archive(row, name).await,
                _ => Ok(()),
            },
            Step::Restore => match (&plan.archive, &plan.to) {
                (Some(name), Some(row)) => self.take_up(row, name).await,
                _ => Ok(()),
            },
            Step::Snapshot => self.store.keep_state(plugin.clone()).await,
            Step::Start => self.prove(operation).await,
            Step::Row if plan.kind == Kind::Enable => self.want(plan.to.as_ref()).await,
            Step::Settle => {
                self.store.forget_kept_state(plugin.clone()).await?;
                self.discard_trees(operation).await
            }
            Step::Storage | Step::Logs | Step::Row | Step::Task => {
                self.arrange(plugin, step, plan.to.as_ref()).await
            }
        }
    }

    pub(super) async fn undo_step(
        self: &Arc<Self>,
        operation: &Operation,
        step: Step,
    ) -> Result<(), Failure> {
        let (plugin, plan) = (&operation.plugin, &operation.plan);
        match step {
            Step::Tree => self.discard_trees(operation).await,
            Step::Stop => {
                self.start_again(operation).await;
                Ok(())
            }
            Step::Archive => plan.archive.as_ref().map_or(Ok(()), |name| self.unarchive(name)),
            Step::Snapshot => self.store.restore_state(plugin.clone()).await,
            Step::Start => self.halt_what_failed(plugin).await,
            Step::Row if plan.kind == Kind::Enable => self.want(plan.from.as_ref()).await,
            // The first goes with the row and the storage; nobody comes here from past the return.
            Step::Restore | Step::Settle => Ok(()),
            Step::Storage | Step::Logs | Step::Row | Step::Task => {
                self.arrange(plugin, step, plan.from.as_ref()).await
            }
        }
    }

    /// Makes one part of a plugin as `wanted` has it; none: it is not there.
    async fn arrange(
        self: &Arc<Self>,
        plugin: &PluginId,
        step: Step,
        wanted: Option<&PluginRow>,
    ) -> Result<(), Failure> {
        match (step, wanted) {
            (Step::Storage, Some(_)) => {
                self.launcher.ask(Request::Allot { id: plugin.clone() }).await.map(drop)
            }
            (Step::Storage, None) => {
                match self.launcher.ask_done(Request::Release { id: plugin.clone() }).await {
                    Err(failure) if failure.code == Code::NotFound => Ok(()),
                    other => other,
                }
            }
            (Step::Logs, wanted) => {
                let path = self.log_directory(plugin);
                let done = match wanted {
                    Some(_) => std::fs::create_dir_all(&path),
                    None => remove(&path),
                };
                done.map_err(|error| {
                    Failure::new(
                        Code::StorageFailed,
                        format!(
                            "the logs in {} cannot be made or removed: {error}",
                            path.display()
                        ),
                    )
                    .with("path", &path)
                })
            }
            (Step::Row, Some(row)) => self.store.put_plugin(row.clone()).await,
            (Step::Row, None) => self.store.remove_plugin(plugin.clone()).await,
            (Step::Task, Some(row)) => self.exchange_task(row).await,
            (Step::Task, None) => self.end_task(plugin).await,
            (step, _) => Err(Failure::internal(format!("{} is no part of a plugin", step.name()))),
        }
    }

    /// Stops what runs. A plugin that is upgraded stays one that the operator wants to run.
    async fn halt(&self, operation: &Operation) -> Result<(), Failure> {
        let plan = &operation.plan;
        // One that is broken has no task, and does not run.
        let Some(handle) = self.find(&operation.plugin) else { return Ok(()) };
        let request = DisableRequest::orderly(plan.kind.name());
        match self.disable_one(&handle, &request, plan.to.is_none()).await {
            Err(failure) if plan.force => {
                tracing::warn!(plugin = %operation.plugin, %failure, "going on all the same");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Starts the version before again. That it does not come up is told, and keeps nothing else from
    /// being undone.
    async fn start_again(self: &Arc<Self>, operation: &Operation) {
        let wanted = operation.plan.from.as_ref().is_some_and(|row| row.enabled);
        if wanted
            && self.check_open().is_ok()
            && let Err(failure) = self.start_unless_halted(&operation.plugin, &operation.plan).await
        {
            tracing::error!(plugin = %operation.plugin, %failure,
                "the version before does not start again");
        }
    }

    /// Starts the version that is to be, and has it stay up for its probation.
    async fn prove(self: &Arc<Self>, operation: &Operation) -> Result<(), Failure> {
        if !operation.plan.to.as_ref().is_some_and(|row| row.enabled) {
            return Ok(());
        }
        self.start_unless_halted(&operation.plugin, &operation.plan).await?;
        let handle = self.get(&operation.plugin)?;
        if operation.plan.kind == Kind::Enable {
            return Ok(());
        }
        let probation = handle.manifest.lifecycle.probation.duration();
        if probation.is_zero() {
            return Ok(());
        }
        let ended = tokio::select! {
            biased;
            halt = self.turns.until_halted(&operation.plugin) => {
                return Err(operation.plan.halted(&operation.plugin, halt, "probation"));
            }
            stayed = handle.stays_up(probation) => match stayed {
                Ok(()) => return Ok(()),
                Err(ended) => ended,
            }
        };
        let why = match &ended.cause {
            Some(cause) => cause.message.clone(),
            None => format!("it is {}", ended.state),
        };
        Err(Failure::new(
            Code::InitializationFailed,
            format!("the plugin did not stay up for its probation of {probation:?}: {why}"),
        )
        .with("stage", "probation")
        .with("state", ended.state)
        .with("cause", ended.cause))
    }

    /// Starts the plugin, unless it is disabled meanwhile: then the start is given up, and whoever
    /// disables it, or the undo, stops what was begun.
    pub(in crate::supervise::registry) async fn start_unless_halted(
        self: &Arc<Self>,
        plugin: &PluginId,
        plan: &Plan,
    ) -> Result<EnableReport, Failure> {
        let start = async {
            if self.bring_up_dependencies(plugin).await? {
                pause(self, plan.kind.name(), DEPENDENCIES, Moment::After);
            }
            self.bring_up(plugin).await
        };
        tokio::select! {
            biased;
            halt = self.turns.until_halted(plugin) => {
                Err(plan.halted(plugin, halt, Step::Start.name()))
            }
            started = start => started,
        }
    }

    /// Has the store, and the plugin's task, know what is wanted of it, and with which configuration.
    async fn want(&self, wanted: Option<&PluginRow>) -> Result<(), Failure> {
        let Some(row) = wanted else { return Ok(()) };
        let (enabled, config) = (row.enabled, row.config.clone());
        let Some(handle) = self.find(&row.id) else {
            return self.store.set_wanted(row.id.clone(), enabled, config).await;
        };
        let (answer, answered) = oneshot::channel();
        ask(&handle, Command::Want { enabled, config, answer }, answered).await
    }

    /// Stops a version that did not prove itself. It is not asked to save anything: its state is put
    /// back to what it was.
    async fn halt_what_failed(&self, plugin: &PluginId) -> Result<(), Failure> {
        let Some(handle) = self.find(plugin) else { return Ok(()) };
        let request = DisableRequest { save_state: false, ..DisableRequest::orderly("rollback") };
        match self.disable_one(&handle, &request, false).await {
            Err(failure) if failure.code == Code::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// Has the plugin managed as the row says. Its log goes on.
    async fn exchange_task(self: &Arc<Self>, row: &PluginRow) -> Result<(), Failure> {
        let manifest = Arc::new(self.manifest(row)?);
        let book = match self.find(&row.id) {
            Some(handle) => {
                retire(&handle).await?;
                Some(handle.book)
            }
            None => None,
        };
        self.register_with(row.clone(), manifest, None, book).await.map(drop)
    }

    async fn end_task(&self, plugin: &PluginId) -> Result<(), Failure> {
        if let Some(handle) = self.find(plugin) {
            retire(&handle).await?;
            self.table().remove(plugin);
        }
        self.forget_broken(plugin);
        Ok(())
    }

    /// Discards the trees of an operation that nobody needs any more.
    async fn discard_trees(&self, operation: &Operation) -> Result<(), Failure> {
        for tree in operation.plan.trees() {
            self.discard_unused(tree, operation.number).await?;
        }
        Ok(())
    }
}

/// Ends a task that manages nothing any more; one that has ended already is well.
async fn retire(handle: &super::super::PluginHandle) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    match ask(handle, Command::Retire { answer }, answered).await {
        Err(failure) if failure.code == Code::NotFound => Ok(()),
        other => other,
    }
}

/// Whatever lies there, so that what broke a plugin does not keep it from being uninstalled.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    }
}
