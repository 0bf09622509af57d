//! Installing and uninstalling.

use std::sync::Arc;

use super::operation::{Kind, Plan};
use super::review::Examined;
use super::source::{Imported, Source};
use super::{Grant, InstallOptions, Registry, Review};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::archives::ArchiveName;
use crate::supervise::plugin::PluginHandle;
use crate::supervise::principal::Principal;
use crate::supervise::store::PluginRow;
use crate::supervise::timestamp;

/// What came of a request to install or to upgrade.
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
        options: &InstallOptions,
        principal: &Principal,
    ) -> Result<Installed, Failure> {
        self.check_open()?;
        let imported = self.fetch(source, Kind::Install).await?;
        let installed = self.install_tree(&imported, options, principal).await;
        self.let_go(imported.digest).await;
        installed
    }

    async fn install_tree(
        self: &Arc<Self>,
        imported: &Imported,
        options: &InstallOptions,
        principal: &Principal,
    ) -> Result<Installed, Failure> {
        let Imported { digest, root, manifest, .. } = imported;
        let known = self.find(&manifest.id);
        let Examined { review, grant } =
            self.examine(*digest, root, manifest, options, known.as_ref()).await?;
        let plugin = match grant {
            Some(grant) => {
                let restore = options.restore.as_ref();
                Some(self.take_in(imported, grant, restore, principal).await?)
            }
            None => None,
        };
        Ok(Installed { review, plugin })
    }

    async fn take_in(
        self: &Arc<Self>,
        imported: &Imported,
        grant: Grant,
        restore: Option<&ArchiveName>,
        principal: &Principal,
    ) -> Result<PluginHandle, Failure> {
        let Imported { digest, manifest, signer, .. } = imported;
        let id = &manifest.id;
        let turn = self.turns.take(id, Kind::Install).await;
        self.end_unfinished(&turn).await?;
        if let Some(row) = self.store.plugin(id.clone()).await? {
            if row.digest == *digest {
                drop(turn);
                return self.have(&row).await;
            }
            let found = &row.version;
            return Err(Failure::new(
                Code::AlreadyExists,
                format!(
                    "{id} {found} is installed already, of another content; `bulkhead upgrade` \
                     replaces it with {}",
                    manifest.version
                ),
            )
            .with("what", "plugin")
            .with("name", id)
            .with("found", found.to_string()));
        }
        let row = PluginRow {
            id: id.clone(),
            version: manifest.version.clone(),
            digest: *digest,
            config: self.first_config(id, restore).await?,
            enabled: false,
            installed_at: timestamp(),
            last_exit: None,
            granted: Some(grant),
            last_usage: None,
            previous: None,
        };
        let signed_by = signer.as_ref().map(|signer| signer.key);
        let archive = restore.cloned();
        let plan = Plan { to: Some(row), signed_by, archive, ..Plan::of(Kind::Install) };
        self.carry_out(&turn, plan, principal).await?;
        self.get(id)
    }

    /// The plugin of a row that is satisfied already. One that was broken may be whole again: the
    /// import has put right what was wrong with its tree.
    pub(super) async fn have(self: &Arc<Self>, row: &PluginRow) -> Result<PluginHandle, Failure> {
        let was_broken = self.find_broken(&row.id).is_some();
        let handle = self.mend(&row.id).await?;
        if was_broken
            && row.enabled
            && let Err(failure) = self.enable(&row.id, None, &Principal::service()).await
        {
            tracing::error!(plugin = %row.id, %failure, "mended, but not started");
        }
        Ok(handle)
    }

    /// Uninstalls a plugin and all that it had. `force` goes on past dependents and past a plugin
    /// that does not stop. `preserve`: what it leaves behind goes to an archive, whose name is returned.
    pub(crate) async fn uninstall(
        self: &Arc<Self>,
        id: &PluginId,
        preserve: bool,
        force: bool,
        principal: &Principal,
    ) -> Result<Option<ArchiveName>, Failure> {
        self.check_open()?;
        let turn = self.turns.take(id, Kind::Uninstall).await;
        let was_there = self.find(id).is_some() || self.find_broken(id).is_some();
        self.end_left(&turn).await?;
        let Some(row) = self.store.plugin(id.clone()).await? else {
            // What was left of an uninstallation is done now.
            self.forget_broken(id);
            return if was_there { Ok(None) } else { self.get(id).map(|_| None) };
        };
        if !force {
            self.check_dependents(id)?;
        }
        let archive = preserve.then(|| ArchiveName::new(id, &row.version, &timestamp()));
        let plan =
            Plan { from: Some(row), force, archive: archive.clone(), ..Plan::of(Kind::Uninstall) };
        self.carry_out(&turn, plan, principal).await?;
        Ok(archive)
    }
}
