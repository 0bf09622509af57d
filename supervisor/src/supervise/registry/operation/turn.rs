//! One operation at a time on each plugin, and what may go on beside one.
//!
//! Theory of operation. An operation has its plugin alone: it reads what the store says, and writes it
//! back changed. Whoever changes that without being an operation (a disabling, a new configuration, another grant)
//! holds a [`Share`] meanwhile, for which operations wait, so that nothing is written back that was
//! changed in between. A disabling waits for nobody: it halts an operation that starts the plugin, which
//! then takes itself back. So does an uninstallation with one that only enables it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::Kind;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// Whose turn it is, plugin by plugin.
#[derive(Default)]
pub(in crate::supervise::registry) struct Turns {
    busy: Mutex<BTreeMap<PluginId, Busy>>,
    freed: Notify,
}

#[derive(Default)]
struct Busy {
    operation: Option<Kind>,
    /// Why the operation is to take itself back.
    halt: watch::Sender<Option<Halt>>,
    configuring: usize,
    permitting: usize,
    disabling: usize,
}

/// Why an operation is to take itself back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise::registry) enum Halt {
    /// The plugin was disabled meanwhile, and is to stay so.
    Disabled,
    /// It is to be uninstalled.
    Uninstalled,
}

/// What is done to a plugin beside its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise::registry) enum Request {
    Configure,
    /// What it is permitted, which an enabling neither changes nor puts back.
    Permit,
    Disable,
}

/// The right to carry out an operation on a plugin; given back when it is dropped.
pub(in crate::supervise::registry) struct Turn {
    turns: Arc<Turns>,
    plugin: PluginId,
}

/// The right to change what is stored of a plugin; given back when it is dropped.
pub(in crate::supervise::registry) struct Share {
    turns: Arc<Turns>,
    plugin: PluginId,
    request: Request,
    /// Whether an operation is under way, which was halted.
    pub(in crate::supervise::registry) halts: bool,
}

impl Busy {
    fn is_free(&self) -> bool {
        self.operation.is_none()
            && self.configuring == 0
            && self.permitting == 0
            && self.disabling == 0
    }

    fn of(&mut self, request: Request) -> &mut usize {
        match request {
            Request::Configure => &mut self.configuring,
            Request::Permit => &mut self.permitting,
            Request::Disable => &mut self.disabling,
        }
    }
}

impl Turns {
    fn busy(&self) -> MutexGuard<'_, BTreeMap<PluginId, Busy>> {
        // Nothing that holds it can leave the map half changed.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing else is done to the plugin. An uninstallation cuts a start short.
    pub(in crate::supervise::registry) async fn take(
        self: &Arc<Self>,
        plugin: &PluginId,
        kind: Kind,
    ) -> Turn {
        loop {
            // Before the look, so that one that is freed after it is heard.
            let freed = self.freed.notified();
            if let Some(turn) = self.try_take(plugin, kind) {
                return turn;
            }
            if kind == Kind::Uninstall
                && let Some(busy) = self.busy().get(plugin)
                && busy.operation == Some(Kind::Enable)
            {
                busy.halt.send_if_modified(|halt| {
                    let first = halt.is_none();
                    halt.get_or_insert(Halt::Uninstalled);
                    first
                });
            }
            freed.await;
        }
    }

    /// The turn to enable it: waits for whoever does that already. CONFLICT while it is disabled, or an
    /// operation of another kind is under way.
    pub(in crate::supervise::registry) async fn take_to_enable(
        self: &Arc<Self>,
        plugin: &PluginId,
    ) -> Result<Turn, Failure> {
        loop {
            let freed = self.freed.notified();
            if let Some(turn) = self.try_take(plugin, Kind::Enable) {
                return Ok(turn);
            }
            if let Some(busy) = self.busy().get(plugin) {
                match busy.operation {
                    _ if busy.disabling > 0 => return Err(conflict(plugin, "disabling")),
                    None | Some(Kind::Enable) => {}
                    Some(kind) => return Err(conflict(plugin, kind.doing())),
                }
            }
            freed.await;
        }
    }

    /// `None` while anything is done to the plugin.
    pub(super) fn try_take(self: &Arc<Self>, plugin: &PluginId, kind: Kind) -> Option<Turn> {
        let mut busy = self.busy();
        let entry = busy.entry(plugin.clone()).or_default();
        if !entry.is_free() {
            return None;
        }
        entry.operation = Some(kind);
        Some(Turn { turns: Arc::clone(self), plugin: plugin.clone() })
    }

    /// CONFLICT while an operation on the plugin is under way that a disabling does not halt, or that
    /// is there at all, for other requests.
    pub(in crate::supervise::registry) fn share(
        self: &Arc<Self>,
        plugin: &PluginId,
        request: Request,
    ) -> Result<Share, Failure> {
        let mut busy = self.busy();
        let entry = busy.entry(plugin.clone()).or_default();
        let halts = match (entry.operation, request) {
            (None, _) | (Some(Kind::Enable), Request::Permit) => false,
            (Some(Kind::Enable | Kind::Upgrade | Kind::Rollback), Request::Disable) => {
                entry.halt.send_replace(Some(Halt::Disabled));
                true
            }
            (Some(kind), _) => return Err(conflict(plugin, kind.doing())),
        };
        *entry.of(request) += 1;
        Ok(Share { turns: Arc::clone(self), plugin: plugin.clone(), request, halts })
    }

    /// CONFLICT while an operation on the plugin is under way.
    pub(in crate::supervise::registry) fn check(&self, plugin: &PluginId) -> Result<(), Failure> {
        match self.busy().get(plugin).and_then(|busy| busy.operation) {
            None => Ok(()),
            Some(kind) => Err(conflict(plugin, kind.doing())),
        }
    }

    /// Whether the operation under way is to take itself back.
    pub(super) fn halted(&self, plugin: &PluginId) -> Option<Halt> {
        self.busy().get(plugin).and_then(|busy| *busy.halt.borrow())
    }

    /// Waits until it is.
    pub(super) async fn until_halted(&self, plugin: &PluginId) -> Halt {
        let halt = self.busy().get(plugin).map(|busy| busy.halt.subscribe());
        if let Some(mut halt) = halt
            && let Ok(halted) = halt.wait_for(Option::is_some).await
            && let Some(halt) = *halted
        {
            return halt;
        }
        std::future::pending().await
    }

    /// Waits until no operation is under way.
    pub(in crate::supervise::registry) async fn operation_ends(&self, plugin: &PluginId) {
        loop {
            let freed = self.freed.notified();
            if self.check(plugin).is_ok() {
                return;
            }
            freed.await;
        }
    }

    fn give_back(&self, plugin: &PluginId, change: impl FnOnce(&mut Busy)) {
        let mut busy = self.busy();
        if let Some(entry) = busy.get_mut(plugin) {
            change(entry);
            if entry.is_free() {
                busy.remove(plugin);
            }
        }
        drop(busy);
        self.freed.notify_waiters();
    }
}

fn conflict(plugin: &PluginId, state: &str) -> Failure {
    Failure::new(Code::Conflict, format!("{plugin} is {state}; ask again when that is done"))
        .with("state", state)
}

impl Turn {
    pub(super) fn plugin(&self) -> &PluginId {
        &self.plugin
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.give_back(&self.plugin, |busy| {
            busy.operation = None;
            busy.halt = watch::Sender::default();
        });
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.turns.give_back(&self.plugin, |busy| {
            let count = busy.of(self.request);
            *count = count.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests;
