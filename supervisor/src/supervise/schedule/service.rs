//! What the runner needs, as the service has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_ipc_protocol::{Call, Payload};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::clock::Clock;
use super::runner::Runner;
use super::world::{Errand, World};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::manifest::Manifest;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::events::Events;
use crate::supervise::registry::Registry;
use crate::supervise::store::{RunEnd, RunOutcome, ScheduleKey};

/// The events after which other plugins are up than before.
const CHANGES: [&str; 9] = [
    "plugin:enabled",
    "plugin:disabling",
    "plugin:disabled",
    "plugin:error",
    "plugin:recovered",
    "plugin:restarting",
    "plugin:upgraded",
    "plugin:rolledback",
    "plugin:uninstalled",
];

/// Runs the schedules of all plugins, for as long as the supervisor lives. Must run inside the local
/// set.
pub(in crate::supervise) async fn run(registry: Arc<Registry>) {
    let Some(inbox) = registry.schedules.take_inbox() else { return };
    let world = Service(registry);
    world.close_interrupted().await;
    let seed = world.0.store.schedule_seed().await.unwrap_or_else(|failure| {
        tracing::error!(%failure, "runs begin at the same moments as on other machines");
        [0; 16]
    });
    let changed = Arc::new(Notify::new());
    tokio::task::spawn_local(pass_changes_on(world.0.events.clone(), Arc::clone(&changed)));
    Runner::new(world, Clock::of_service(), seed).run(inbox, changed).await;
}

async fn pass_changes_on(events: Events, changed: Arc<Notify>) {
    let mut told = events.listen();
    loop {
        match told.recv().await {
            Ok(event) if !CHANGES.contains(&event.name.as_str()) => {}
            // What was not heard may have been one of them.
            Ok(_) | Err(RecvError::Lagged(_)) => changed.notify_one(),
            Err(RecvError::Closed) => return,
        }
    }
}

#[derive(Clone)]
struct Service(Arc<Registry>);

impl Service {
    async fn close_interrupted(&self) {
        let interrupted = match self.0.store.interrupt_runs().await {
            Ok(interrupted) => interrupted,
            Err(failure) => {
                tracing::error!(%failure, "runs that were interrupted are not written down as that");
                return;
            }
        };
        for (plugin, run) in interrupted {
            let message = format!(
                "the service ended while its schedule {} ran; it is not known how far it came, and it \
                 is not repeated",
                run.name
            );
            let body = json!({ "message": message, "schedule": run.name, "due": run.due });
            self.0.events.emit("plugin:warning", &plugin, body);
        }
    }
}

impl World for Service {
    fn plugins(&self) -> Vec<(Arc<Manifest>, bool)> {
        let scheduled = self.0.all().into_iter().filter(|it| !it.manifest.schedule.is_empty());
        scheduled.map(|it| (Arc::clone(&it.manifest), it.peer_now().is_some())).collect()
    }

    fn is_up(&self, plugin: &PluginId) -> bool {
        self.0.find(plugin).is_some_and(|handle| handle.peer_now().is_some())
    }

    async fn adopt(
        &self,
        plugin: &PluginId,
        rules: Vec<(String, String)>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Timestamp>, Failure> {
        self.0.store.adopt_schedules(plugin.clone(), rules, now).await
    }

    async fn note(
        &self,
        key: ScheduleKey,
        due: Timestamp,
        count: u64,
        why: RunOutcome,
    ) -> Result<(), Failure> {
        self.0.store.note_unrun(key, due, count, why).await
    }

    async fn begin(
        &self,
        key: ScheduleKey,
        due: Option<Timestamp>,
        started: Timestamp,
    ) -> Result<u64, Failure> {
        self.0.store.begin_run(key, due, started).await
    }

    async fn end(&self, number: u64, end: RunEnd) -> Result<(), Failure> {
        self.0.store.end_run(number, end).await
    }

    async fn call(&self, errand: Errand) -> Result<(), Failure> {
        let Errand { plugin, schedule, principal, trace } = errand;
        let call = Call {
            timeout: schedule.timeout.map(crate::manifest::TimeSpan::duration),
            trace: Some(trace),
            on_behalf_of: principal.on_behalf_of.clone(),
            ..Call::new(schedule.method.as_str(), Payload::json_bytes("null"))
        };
        let registry = &self.0;
        if !registry.settings.audited_calls.include(principal.on_behalf_of.as_deref()) {
            return registry.call(&plugin, call).await.map(drop);
        }
        Operation::new(principal, Action::Call)
            .about(&plugin)
            .with("method", &call.method)
            .with("schedule", schedule.name())
            .run_while_wanted(registry, |registry, _| async move {
                registry.call(&plugin, call).await.map(drop)
            })
            .await
    }

    fn warn(&self, key: &ScheduleKey, due: Option<Timestamp>, failure: &Failure) {
        // One that was just uninstalled is no more to be spoken of.
        if self.0.find(&key.plugin).is_none() {
            return;
        }
        // The code only: what a plugin says of its failure can quote what it works with.
        let message = format!("its schedule {} failed: {}", key.name, failure.code);
        let body = json!({
            "message": message, "schedule": key.name, "due": due, "code": failure.code,
        });
        self.0.events.emit("plugin:warning", &key.plugin, body);
    }
}
