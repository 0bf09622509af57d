//! Installed plugins that cannot be managed: shown with the reason, and to be uninstalled or mended.
//!
//! A manifest that cannot be read, or a log directory that cannot be opened, leaves nobody who could
//! start the plugin; but what it has on this machine is there, and an operator must see it.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::json;

use super::Registry;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::plugin::PluginHandle;
use crate::supervise::store::PluginRow;

/// Why a plugin has no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nobody could manage it.
    Broken,
    /// It is being removed, and something of it is left.
    Uninstalling,
}

/// A plugin without a task.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) row: PluginRow,
    /// None while it is being uninstalled and nothing has failed.
    pub(crate) failure: Option<Failure>,
    why: Why,
}

impl Broken {
    /// The state's name, as the API and the command line show it.
    pub(crate) fn state(&self) -> &'static str {
        match self.why {
            Why::Broken => "broken",
            Why::Uninstalling => "uninstalling",
        }
    }

    /// Why nothing can be asked of it.
    pub(super) fn refusal(&self) -> Failure {
        let id = &self.row.id;
        let cause = self.failure.as_ref().map_or("", |failure| failure.message.as_str());
        let message = match self.why {
            Why::Broken => format!(
                "{id} is broken: {cause}; install the same version again to repair it, or uninstall it"
            ),
            Why::Uninstalling if self.failure.is_some() => {
                format!("{id} is only partly uninstalled: {cause}; uninstall it again")
            }
            Why::Uninstalling => format!("{id} is being uninstalled"),
        };
        Failure::new(Code::Conflict, message)
            .with("state", self.state())
            .with("cause", &self.failure)
    }
}

impl Registry {
    fn broken_table(&self) -> MutexGuard<'_, BTreeMap<PluginId, Broken>> {
        // Nothing that holds it can leave the table half changed.
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that are broken, in the order of their ids.
    pub(crate) fn all_broken(&self) -> Vec<Broken> {
        self.broken_table().values().cloned().collect()
    }

    pub(crate) fn find_broken(&self, id: &PluginId) -> Option<Broken> {
        self.broken_table().get(id).cloned()
    }

    /// Keeps a plugin that cannot be managed in sight.
    pub(crate) fn set_aside(&self, row: PluginRow, failure: Failure) {
        self.events.emit("plugin:error", &row.id, json!({ "error": failure }));
        self.insert_broken(row, Some(failure), Why::Broken);
    }

    /// Keeps a plugin in sight that is being uninstalled and has no task any more.
    pub(crate) fn show_uninstalling(&self, row: PluginRow, failure: Option<Failure>) {
        self.insert_broken(row, failure, Why::Uninstalling);
    }

    fn insert_broken(&self, row: PluginRow, failure: Option<Failure>, why: Why) {
        self.broken_table().insert(row.id.clone(), Broken { row, failure, why });
    }

    pub(super) fn forget_broken(&self, id: &PluginId) {
        self.broken_table().remove(id);
    }

    /// Tries once more to manage a plugin that is broken; one that is not is left alone.
    pub(super) async fn mend(self: &Arc<Self>, id: &PluginId) -> Result<PluginHandle, Failure> {
        let Some(Broken { row, why: Why::Broken, .. }) = self.find_broken(id) else {
            return self.get(id);
        };
        let mended = match self.manifest(&row) {
            Ok(manifest) => self.register(row.clone(), Arc::new(manifest), None).await,
            Err(failure) => Err(failure),
        };
        match mended {
            Ok(handle) => Ok(handle),
            Err(failure) => {
                self.insert_broken(row, Some(failure), Why::Broken);
                self.get(id)
            }
        }
    }
}
