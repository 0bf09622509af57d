//! Processes that nobody manages and that are on their way out.

use std::sync::Arc;
use std::time::Duration;

use super::{DisableRequest, Registry};
use crate::id::PluginId;
use crate::supervise::plugin::AFTER_KILL;

/// How long a process that was taken over may take to hear what is asked of it.
const TAKE_OVER: Duration = Duration::from_secs(5);

impl Registry {
    /// A process of the plugin was killed, and its end will be told.
    pub(crate) fn expect_end(&self, id: &PluginId) {
        self.leaving.send_modify(|leaving| {
            leaving.insert(id.clone());
        });
    }

    /// It was told. While it ran its tree could not be discarded.
    pub(crate) fn note_end(self: &Arc<Self>, id: &PluginId) {
        if self.leaving.send_if_modified(|leaving| leaving.remove(id)) {
            self.sweep_trees();
        }
    }

    /// Waits for it, though not for ever: the launcher refuses a start that comes too early.
    pub(crate) async fn wait_for_end(&self, id: &PluginId) {
        let mut leaving = self.leaving.subscribe();
        let gone = leaving.wait_for(|leaving| !leaving.contains(id));
        if tokio::time::timeout(AFTER_KILL, gone).await.is_err() {
            tracing::error!(plugin = %id, "a process is not gone after SIGKILL");
        }
    }

    /// Stops a plugin that was taken over while its stop was under way, so that it can be started
    /// again. It is heard first: it may have state to save.
    pub(crate) async fn bring_down(&self, id: &PluginId) {
        let Some(handle) = self.find(id) else { return };
        // In whatever state it is then, it can be stopped.
        let _ = handle.up(TAKE_OVER).await;
        let request = DisableRequest::orderly("restart");
        if let Err(failure) = self.disable_one(&handle, &request, false).await {
            tracing::error!(plugin = %id, %failure, "not stopped");
        }
    }
}
