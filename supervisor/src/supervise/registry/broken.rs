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

/// The state's name, as the API and the command line show it.
const STATE: &str = "broken";

/// A plugin without a task.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) row: PluginRow,
    pub(crate) failure: Failure,
}

impl Broken {
    pub(crate) fn state(&self) -> &'static str {
        STATE
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
        self.broken_table().insert(row.id.clone(), Broken { row, failure });
    }

    pub(super) fn forget_broken(&self, id: &PluginId) {
        self.broken_table().remove(id);
    }

    /// Tries once more to manage a plugin that is broken; one that is not is left alone.
    pub(super) async fn mend(self: &Arc<Self>, id: &PluginId) -> Result<PluginHandle, Failure> {
        let Some(Broken { row, .. }) = self.find_broken(id) else { return self.get(id) };
        let mended = match self.manifest(&row) {
            Ok(manifest) => self.register(row.clone(), Arc::new(manifest), None).await,
            Err(failure) => Err(failure),
        };
        match mended {
            Ok(handle) => {
                self.forget_broken(id);
                Ok(handle)
            }
            Err(failure) => {
                self.broken_table().insert(id.clone(), Broken { row, failure: failure.clone() });
                Err(refusal(id, &failure))
            }
        }
    }
}

/// Why nothing can be asked of a plugin that is broken.
pub(super) fn refusal(id: &PluginId, failure: &Failure) -> Failure {
    Failure::new(
        Code::Conflict,
        format!(
            "{id} is broken: {}; install the same version again to repair it, or uninstall it",
            failure.message
        ),
    )
    .with("state", STATE)
    .with("cause", failure)
}
