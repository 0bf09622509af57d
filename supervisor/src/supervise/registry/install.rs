//! Installing and uninstalling: steps, each with its undo.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::oneshot;

use super::review::Examined;
use super::source::{Imported, Source};
use super::{DisableRequest, Grant, InstallOptions, Registry, Review, ask};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Request, Signer};
use crate::manifest::Manifest;
use crate::supervise::plugin::{Command, PluginHandle};
use crate::supervise::store::PluginRow;
use crate::supervise::timestamp;

/// What came of a request to install.
pub(crate) struct Installed {
    pub(crate) review: Review,
    /// None after a dry run.
    pub(crate) plugin: Option<PluginHandle>,
}

impl Registry {
    /// Installs a plugin. The same tree again is already satisfied.
    pub(crate) async fn install(
        self: &Arc<Self>,
        source: Source,
        options: InstallOptions,
    ) -> Result<Installed, Failure> {
        self.check_open()?;
        let _turn = self.installing.lock().await;
        let imported = self.fetch(source).await?;
        let digest = imported.digest;
        let installed = self.install_tree(imported, &options).await;
        if installed.as_ref().map_or(true, |installed| installed.plugin.is_none()) {
            self.discard_unused(digest).await;
        }
        installed
    }

    async fn install_tree(
        self: &Arc<Self>,
        imported: Imported,
        options: &InstallOptions,
    ) -> Result<Installed, Failure> {
        let Imported { digest, root, manifest, signer } = imported;
        let known = self.find(&manifest.id);
        let Examined { review, grant } =
            self.examine(digest, &root, &manifest, options, known.as_ref()).await?;
        let Some(grant) = grant else { return Ok(Installed { review, plugin: None }) };
        let plugin = self.take_in(digest, manifest, signer, grant).await?;
        Ok(Installed { review, plugin: Some(plugin) })
    }

    async fn take_in(
        self: &Arc<Self>,
        digest: Digest,
        manifest: Manifest,
        signer: Option<Signer>,
        grant: Grant,
    ) -> Result<PluginHandle, Failure> {
        let (id, version) = (manifest.id.clone(), manifest.version.clone());
        if self.find_broken(&id).is_some_and(|broken| broken.row.digest == digest) {
            // The import has put right what was wrong with the tree.
            let mended = self.mend(&id).await?;
            if mended.view().enabled
                && let Err(failure) = self.enable(&id, None).await
            {
                tracing::error!(plugin = %id, %failure, "mended, but not started");
            }
            return Ok(mended);
        }
        let known = self.find(&id);
        if let Some(known) = &known
            && known.view().digest == digest
        {
            return Ok(known.clone());
        }
        let found = known.map(|known| known.manifest.version.clone());
        if let Some(found) = found.or(self.find_broken(&id).map(|broken| broken.row.version)) {
            return Err(Failure::new(
                Code::AlreadyExists,
                format!(
                    "{id} {found} is installed already, of another content; uninstall it before you \
                     install {version}"
                ),
            )
            .with("what", "plugin")
            .with("name", &id)
            .with("found", found.to_string()));
        }
        let signed_by = signer.map(|signer| signer.key);
        let body =
            json!({ "version": version.to_string(), "digest": digest, "signedBy": signed_by });
        self.events.emit("plugin:installing", &id, body.clone());
        match self.add(digest, manifest, grant).await {
            Ok(handle) => {
                self.events.emit("plugin:installed", &id, body);
                Ok(handle)
            }
            Err(failure) => {
                self.events.emit("plugin:error", &id, json!({ "error": failure }));
                Err(failure)
            }
        }
    }

    /// Storage, then the row, then the task; what was done is undone at a failure.
    async fn add(
        self: &Arc<Self>,
        digest: Digest,
        manifest: Manifest,
        grant: Grant,
    ) -> Result<PluginHandle, Failure> {
        let id = manifest.id.clone();
        self.launcher.ask(Request::Allot { id: id.clone() }).await?;
        let row = PluginRow {
            id: id.clone(),
            version: manifest.version.clone(),
            digest,
            config: json!({}),
            enabled: false,
            installed_at: timestamp(),
            last_exit: None,
            granted: Some(grant),
            last_usage: None,
            uninstalling: false,
        };
        let added = match self.store.put_plugin(row.clone()).await {
            Ok(()) => match self.register(row, Arc::new(manifest), None).await {
                Ok(handle) => Ok(handle),
                Err(failure) => {
                    undone("row", self.store.remove_plugin(id.clone()).await);
                    Err(failure)
                }
            },
            Err(failure) => Err(failure),
        };
        if added.is_err() {
            undone("storage", self.launcher.ask_done(Request::Release { id }).await);
        }
        added
    }

    /// Uninstalls a plugin and all that it had. `force` goes on past dependents and past a plugin
    /// that does not stop.
    pub(crate) async fn uninstall(&self, id: &PluginId, force: bool) -> Result<(), Failure> {
        self.check_open()?;
        let _turn = self.installing.lock().await;
        if let Some(broken) = self.find_broken(id) {
            return self.uninstall_broken(broken.row, force).await;
        }
        let handle = self.get(id)?;
        let request = || DisableRequest { save_state: true, timeout: None, reason: "uninstall" };
        let body = json!({ "version": handle.manifest.version.to_string(), "force": force });
        self.events.emit("plugin:uninstalling", id, body.clone());
        let stopped = match self.disable(id, request()).await {
            Err(failure) if failure.code == Code::DependentsEnabled && force => {
                self.disable_one(&handle, request(), true).await
            }
            other => other,
        };
        if let Err(failure) = stopped
            && !force
        {
            self.events.emit("plugin:error", id, json!({ "error": failure }));
            return Err(failure);
        }
        // From here on it is finished, by the next supervisor if need be: the row goes last.
        self.store.mark_uninstalling(id.clone()).await?;
        let (answer, answered) = oneshot::channel();
        ask(&handle, Command::Retire { answer }, answered).await?;
        self.table().remove(id);
        self.remove_all(id, handle.view().digest).await?;
        self.events.emit("plugin:uninstalled", id, body);
        Ok(())
    }

    /// A plugin that is broken does not run: there is only something to remove.
    async fn uninstall_broken(&self, row: PluginRow, force: bool) -> Result<(), Failure> {
        let body = json!({ "version": row.version.to_string(), "force": force });
        self.events.emit("plugin:uninstalling", &row.id, body.clone());
        self.store.mark_uninstalling(row.id.clone()).await?;
        self.forget_broken(&row.id);
        if let Err(failure) = self.remove_all(&row.id, row.digest).await {
            self.set_aside(row, failure.clone());
            return Err(failure);
        }
        self.events.emit("plugin:uninstalled", &row.id, body);
        Ok(())
    }

    /// Finishes what a supervisor had begun that is gone.
    pub(crate) async fn finish_uninstall(&self, row: PluginRow) {
        let _turn = self.installing.lock().await;
        match self.remove_all(&row.id, row.digest).await {
            Ok(()) => {
                let body = json!({ "version": row.version.to_string(), "force": false });
                self.events.emit("plugin:uninstalled", &row.id, body);
            }
            Err(failure) => {
                self.events.emit("plugin:error", &row.id, json!({ "error": failure }));
            }
        }
    }

    /// Removes all that a plugin has which runs no more. Each step can be repeated.
    async fn remove_all(&self, id: &PluginId, digest: Digest) -> Result<(), Failure> {
        match self.launcher.ask_done(Request::Release { id: id.clone() }).await {
            Err(failure) if failure.code != Code::NotFound => return Err(failure),
            _ => {}
        }
        self.discard_unused(digest).await;
        let logs = self.log_directory(id);
        remove_logs(&logs).map_err(|error| {
            Failure::new(
                Code::StorageFailed,
                format!("the logs in {} cannot be removed: {error}", logs.display()),
            )
            .with("path", &logs)
        })?;
        self.store.remove_plugin(id.clone()).await
    }

    /// Removes a tree that no installed plugin uses.
    pub(super) async fn discard_unused(&self, digest: Digest) {
        if self.all().iter().all(|handle| handle.view().digest != digest)
            && self.all_broken().iter().all(|broken| broken.row.digest != digest)
            && let Err(failure) = self.launcher.ask_done(Request::Discard { digest }).await
        {
            tracing::error!(%digest, %failure, "a tree is left behind in the store");
        }
    }
}

/// Whatever lies there, so that what broke a plugin does not keep it from being uninstalled.
fn remove_logs(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    }
}

/// Says what could not be undone.
fn undone(what: &str, result: Result<(), Failure>) {
    if let Err(failure) = result {
        tracing::error!(what, %failure, "a failed installation left something behind");
    }
}
