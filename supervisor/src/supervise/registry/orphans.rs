//! What no plugin and no operation knows: left by a death between an import and its first step, or
//! by a removal that failed. Looked for once, before the admin API answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Registry;
use super::trees::NO_OPERATION;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::link::{Lease, Reply, Request};
use crate::supervise::launcher_link::unexpected;

impl Registry {
    /// Removes trees, log directories and empty storage without an owner. Storage that holds files is
    /// left and named: the journal knows of all that we made, so only a store that was lost or put
    /// back from a backup can have forgotten it, and what is a plugin's data then is for a person to
    /// say.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Result<(), Failure> {
        if !self.store.has_journalled().await? {
            // A store that knows of nothing may stand in for one that was lost and comes back.
            return Ok(());
        }
        let mut known: BTreeSet<PluginId> =
            self.store.plugins().await?.into_iter().map(|row| row.id).collect();
        known.extend(self.store.open_operations().await?.into_iter().map(|open| open.plugin));
        for lease in self.leases().await?.into_iter().filter(|it| !known.contains(&it.id)) {
            if !lease.empty {
                tracing::warn!(plugin = %lease.id,
                    "there is data of a plugin that the store does not know; install it, or remove \
                     its directory in `plugins` of the state while the service is stopped");
                continue;
            }
            tracing::warn!(plugin = %lease.id, "releasing storage without a plugin");
            let id = lease.id.clone();
            if let Err(failure) = self.launcher.ask_done(Request::Release { id }).await {
                tracing::error!(plugin = %lease.id, %failure, "storage is left behind");
            }
        }
        self.sweep_logs(&known);
        self.sweep_trees();
        Ok(())
    }

    /// Discards the trees that nobody needs. Whoever imports meanwhile waits for its turn, as a large
    /// tree takes a while; nobody waits for this.
    pub(super) fn sweep_trees(self: &Arc<Self>) {
        let trees = self.trees_in_store();
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            for tree in trees {
                if let Err(failure) = registry.discard_unused(tree, NO_OPERATION).await {
                    tracing::error!(%tree, %failure, "a tree may be left behind in the store");
                }
            }
        });
    }

    /// All storage that the launcher has leased.
    async fn leases(&self) -> Result<Vec<Lease>, Failure> {
        let mut all: Vec<Lease> = Vec::new();
        loop {
            let after = all.last().map(|lease| lease.id.clone());
            let (page, more) = match self.launcher.ask(Request::Leases { after }).await? {
                (Reply::Leases { leases, more }, _) => (leases, more),
                (other, _) => return Err(unexpected(&other)),
            };
            let ended = page.is_empty() || !more;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    }

    fn sweep_logs(&self, known: &BTreeSet<PluginId>) {
        let Ok(entries) = std::fs::read_dir(self.settings.state.join("logs")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<PluginId>().ok()) else {
                continue;
            };
            if known.contains(&id) {
                continue;
            }
            tracing::warn!(plugin = %id, "removing the logs of no plugin");
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::error!(path = %entry.path().display(), %error, "logs are left behind");
            }
        }
    }

    /// The store's directory is the launcher's; its names are for all to see.
    fn trees_in_store(&self) -> Vec<Digest> {
        let Ok(entries) = std::fs::read_dir(&self.settings.store) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}
