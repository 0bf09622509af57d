//! Installing and uninstalling: steps, each with its undo.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_ipc_protocol::PROTOCOL_VERSION;
use serde_json::json;
use tokio::sync::oneshot;

use super::{DisableRequest, Registry, ask};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Reply, Request};
use crate::manifest::Manifest;
use crate::supervise::launcher_link::unexpected;
use crate::supervise::plugin::{Command, PluginHandle};
use crate::supervise::store::PluginRow;
use crate::supervise::timestamp;

impl Registry {
    /// Installs a plugin from a directory. The same tree again is already satisfied.
    pub(crate) async fn install(
        self: &Arc<Self>,
        source: PathBuf,
    ) -> Result<PluginHandle, Failure> {
        self.check_open()?;
        let _turn = self.installing.lock().await;
        let (digest, root) = match self.launcher.ask(Request::Import { source }).await? {
            (Reply::Imported { digest, root }, _) => (digest, root),
            (other, _) => return Err(unexpected(&other)),
        };
        match self.install_tree(digest, &root).await {
            Ok(handle) => Ok(handle),
            Err(failure) => {
                self.discard_unused(digest).await;
                Err(failure)
            }
        }
    }

    async fn install_tree(
        self: &Arc<Self>,
        digest: Digest,
        root: &std::path::Path,
    ) -> Result<PluginHandle, Failure> {
        let manifest = Manifest::load(root)?;
        check_protocol(&manifest)?;
        let (id, version) = (manifest.id.clone(), manifest.version.clone());
        if let Some(known) = self.find(&id) {
            if known.view().digest == digest {
                return Ok(known);
            }
            let found = &known.manifest.version;
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
        let body = json!({ "version": version.to_string(), "digest": digest });
        self.events.emit("plugin:installing", &id, body.clone());
        match self.add(digest, manifest).await {
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
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    Code::StorageFailed,
                    format!("the logs in {} cannot be removed: {error}", logs.display()),
                )
                .with("path", logs));
            }
            _ => {}
        }
        self.store.remove_plugin(id.clone()).await
    }

    /// Removes a tree that no installed plugin uses.
    async fn discard_unused(&self, digest: Digest) {
        if self.all().iter().all(|handle| handle.view().digest != digest)
            && let Err(failure) = self.launcher.ask_done(Request::Discard { digest }).await
        {
            tracing::error!(%digest, %failure, "a tree is left behind in the store");
        }
    }
}

fn check_protocol(manifest: &Manifest) -> Result<(), Failure> {
    if manifest.api.matches(&PROTOCOL_VERSION) {
        return Ok(());
    }
    Err(Failure::new(
        Code::VersionIncompatible,
        format!(
            "{} {} asks for protocol {}, this bulkhead speaks {PROTOCOL_VERSION}",
            manifest.id, manifest.version, manifest.api
        ),
    )
    .with("what", "api")
    .with("required", manifest.api.to_string())
    .with("found", PROTOCOL_VERSION.to_string()))
}

/// Says what could not be undone.
fn undone(what: &str, result: Result<(), Failure>) {
    if let Err(failure) = result {
        tracing::error!(what, %failure, "a failed installation left something behind");
    }
}
