//! Enabling and disabling.
//!
//! Theory of operation. An enabling that changes what is wanted of the plugin is a journalled
//! [`operation`](super::operation): that it is wanted is stored before anything is started, and a failure
//! puts back what was wanted before. One of a plugin that is wanted already, as at the start of the
//! service, changes nothing that could be undone. A disabling needs no journal: what runs is told to go,
//! and it is stored beside that, so that no disk holds up a deadline. A death in between leaves a plugin
//! that is wanted and on its way out: the next supervisor lets it go, and starts it again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::oneshot;

use super::operation::{DISABLE, Kind, Moment, Plan, Request, STOP, WANT, pause};
use super::{DisableRequest, Registry, ask, not_installed};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::plugin::{Command, EnableReport, PluginHandle, StopReport, check_config};
use crate::supervise::principal::Principal;
use crate::supervise::store::PluginRow;

/// A future that may be that of the function which makes it.
type Nested<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

impl Registry {
    /// Enables a plugin, those it depends on first.
    pub(crate) async fn enable(
        self: &Arc<Self>,
        id: &PluginId,
        config: Option<Value>,
        principal: &Principal,
    ) -> Result<EnableReport, Failure> {
        self.check_open()?;
        let began = Instant::now();
        let turn = self.turns.take_to_enable(id).await?;
        self.end_unfinished(&turn).await?;
        let handle = self.mend(id).await?;
        self.dependency_order(id)?;
        let Some(stored) = self.store.plugin(id.clone()).await? else {
            return Err(not_installed(id));
        };
        // What could not be stored is no less what was wanted.
        let from = PluginRow { enabled: stored.enabled && handle.view().enabled, ..stored };
        let to = wanted(&handle, &from, config)?;
        let plan = Plan { from: Some(from), to: Some(to), ..Plan::of(Kind::Enable) };
        if plan.from == plan.to {
            return self.start_unless_halted(id, &plan).await;
        }
        self.carry_out(&turn, plan, principal).await?;
        Ok(EnableReport { started_in: began.elapsed() })
    }

    /// Starts a plugin that is wanted, those it depends on first, for whoever has its turn.
    pub(super) async fn bring_up(self: &Arc<Self>, id: &PluginId) -> Result<EnableReport, Failure> {
        self.bring_up_dependencies(id).await?;
        let handle = self.get(id)?;
        self.settings.limits.admit(id, &handle.manifest.limits)?;
        if let Some(maximum) = self.settings.admission.max_exposure {
            self.exposure(&handle).check(id, maximum)?;
        }
        let _place = self.admit(&handle)?;
        let (answer, answered) = oneshot::channel();
        ask(&handle, Command::Enable { answer }, answered).await
    }

    /// Enables what a plugin depends on; whether that is anything.
    pub(super) async fn bring_up_dependencies(
        self: &Arc<Self>,
        id: &PluginId,
    ) -> Result<bool, Failure> {
        let dependencies = self.dependency_order(id)?;
        let any = !dependencies.is_empty();
        for dependency in dependencies {
            self.bring_up_dependency(&dependency).await.map_err(|cause| {
                Failure::new(
                    Code::DependencyMissing,
                    format!("{dependency}, which {id} depends on, did not start: {cause}"),
                )
                .with("dependency", &dependency)
                .with("required", self.requirement(id, &dependency))
                .with("found", Value::Null)
                .with("cause", &cause)
            })?;
        }
        Ok(any)
    }

    /// Its enabling is one of its own: complete whatever becomes of the plugin that needs it.
    fn bring_up_dependency<'a>(self: &'a Arc<Self>, id: &'a PluginId) -> Nested<'a, ()> {
        Box::pin(async move {
            let view = self.get(id)?.view();
            let up = view.state == "enabled" && view.enabled;
            if up && !self.is_unfinished(id) && self.turns.check(id).is_ok() {
                return Ok(());
            }
            let (registry, id) = (Arc::clone(self), id.clone());
            // A task of its own, as who waits for it may be halted: half an enabling would be left.
            let enabling =
                tokio::spawn(
                    async move { registry.enable(&id, None, &Principal::service()).await },
                );
            enabling.await.map_err(Failure::internal)?.map(drop)
        })
    }

    /// Disables a plugin; refused while others that are enabled depend on it. An operation that starts
    /// it is halted: it takes itself back, and the plugin stays disabled.
    pub(crate) async fn disable(
        self: &Arc<Self>,
        id: &PluginId,
        request: DisableRequest,
    ) -> Result<StopReport, Failure> {
        let handle = self.get(id)?;
        self.check_dependents(id)?;
        let share = self.turns.share(id, Request::Disable)?;
        let concerns_operation = share.halts || self.is_unfinished(id);
        self.heed_in_unfinished(id);
        let storing = async {
            if concerns_operation
                && let Err(failure) = self.store.disable_operation(id.clone()).await
            {
                // A store that cannot be written must not keep a plugin running.
                tracing::error!(plugin = %id, %failure, "that it stays disabled is not stored yet");
            }
        };
        pause(self, DISABLE, WANT, Moment::Before);
        // Beside each other, as the stop has a deadline and the disk has none.
        let (stopped, ()) =
            tokio::join!(self.disable_one(&handle, &request, !share.halts), storing);
        if !share.halts {
            pause(self, DISABLE, STOP, Moment::After);
            return stopped;
        }
        self.turns.operation_ends(id).await;
        let disabled = self.disable_one(&self.get(id)?, &request, true).await;
        pause(self, DISABLE, STOP, Moment::After);
        match (disabled, stopped) {
            // What is told is the stop that there was.
            (Ok(_), Ok(report)) => Ok(report),
            (disabled, _) => disabled,
        }
    }
}

/// The row of a plugin that is to be enabled.
fn wanted(
    handle: &PluginHandle,
    from: &PluginRow,
    config: Option<Value>,
) -> Result<PluginRow, Failure> {
    let (id, state, manifest) = (&from.id, handle.view().state, &handle.manifest);
    let conflict = |message: String| Failure::new(Code::Conflict, message).with("state", state);
    if state == "disabling" {
        let message = format!("{id} is being disabled; enable it again when that is done");
        return Err(conflict(message));
    }
    let config = match config {
        None => from.config.clone(),
        Some(config) => manifest.config.unredacted(config, &from.config),
    };
    if !config.is_object() {
        let message = "the configuration must be an object";
        return Err(Failure::new(Code::ConfigInvalid, message).with("path", ""));
    }
    if matches!(state, "enabled" | "enabling") && config != from.config {
        let message = format!("{id} is {state} with another configuration; disable it first");
        return Err(conflict(message));
    }
    check_config(manifest, &config)?;
    Ok(PluginRow { enabled: true, config, ..from.clone() })
}
