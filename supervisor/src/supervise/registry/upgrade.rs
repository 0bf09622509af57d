//! Another version of a plugin that is installed, and the way back.

use std::cmp::Ordering;
use std::sync::Arc;

use super::operation::{Kind, Plan, Turn};
use super::review::Examined;
use super::source::{Imported, Source};
use super::{Grant, InstallOptions, Installed, Registry, not_installed};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::{Manifest, Permission};
use crate::supervise::plugin::{PluginHandle, check_config, granted};
use crate::supervise::principal::Principal;
use crate::supervise::store::{PluginRow, Previous};
use crate::supervise::timestamp;

impl Registry {
    /// Replaces a plugin by another version of it. The same tree is already satisfied.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        id: &PluginId,
        source: Source,
        options: &InstallOptions,
        principal: &Principal,
    ) -> Result<Installed, Failure> {
        self.check_open()?;
        if self.find(id).is_none() && self.find_broken(id).is_none() {
            // Before anything is copied.
            return Err(not_installed(id));
        }
        let imported = self.fetch(source, Kind::Upgrade).await?;
        let upgraded = self.upgrade_tree(id, &imported, options, principal).await;
        self.let_go(imported.digest).await;
        upgraded
    }

    async fn upgrade_tree(
        self: &Arc<Self>,
        id: &PluginId,
        imported: &Imported,
        options: &InstallOptions,
        principal: &Principal,
    ) -> Result<Installed, Failure> {
        let Imported { digest, root, manifest, signer } = imported;
        if manifest.id != *id {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("this is a version of {}, not of {id}", manifest.id),
            )
            .with("expected", id)
            .with("found", &manifest.id));
        }
        // What it is held against must not change under it.
        let turn = self.turns.take(id, Kind::Upgrade).await;
        let from = self.installed(&turn, id).await?;
        let known = self.find(id);
        let Examined { review, grant } =
            self.examine(*digest, root, manifest, options, known.as_ref()).await?;
        if from.digest == *digest && !options.dry_run {
            drop(turn);
            return Ok(Installed { review, plugin: Some(self.have(&from).await?) });
        }
        if !options.allow_downgrade && from.digest != *digest {
            check_newer(&from, manifest)?;
        }
        let to = PluginRow {
            version: manifest.version.clone(),
            digest: *digest,
            installed_at: timestamp(),
            granted: grant.clone(),
            previous: Some(Previous::of(&from)),
            config: self.handed_config(&from, manifest),
            ..from.clone()
        };
        self.check_exchange(&to, manifest)?;
        if grant.is_none() {
            return Ok(Installed { review, plugin: None });
        }
        let signed_by = signer.as_ref().map(|signer| signer.key);
        let plan = Plan { from: Some(from), to: Some(to), signed_by, ..Plan::of(Kind::Upgrade) };
        self.carry_out(&turn, plan, principal).await?;
        Ok(Installed { review, plugin: Some(self.get(id)?) })
    }

    /// Returns to the version before. Its own version before is then the one that was left, so that
    /// a second rollback undoes the first. The state is not touched.
    pub(crate) async fn rollback(
        self: &Arc<Self>,
        id: &PluginId,
        principal: &Principal,
    ) -> Result<PluginHandle, Failure> {
        self.check_open()?;
        let turn = self.turns.take(id, Kind::Rollback).await;
        let from = self.installed(&turn, id).await?;
        let Some(previous) = from.previous.clone() else {
            return Err(Failure::new(
                Code::NotFound,
                format!("there is no version of {id} before {} to return to", from.version),
            )
            .with("what", "previous version")
            .with("name", id));
        };
        let mut to = PluginRow {
            version: previous.version,
            digest: previous.digest,
            installed_at: previous.installed_at,
            granted: previous.granted,
            previous: Some(Previous::of(&from)),
            ..from.clone()
        };
        let manifest = self.manifest(&to)?;
        to.config = self.handed_config(&from, &manifest);
        to.granted = Some(self.handed_grant(&from, granted(&to, &manifest), &manifest));
        self.check_exchange(&to, &manifest)?;
        let plan = Plan { from: Some(from), to: Some(to), ..Plan::of(Kind::Rollback) };
        self.carry_out(&turn, plan, principal).await?;
        self.get(id)
    }

    /// The configuration as the other version gets it. What is a secret for the one that is installed
    /// must not be shown because the other does not say so; the operator gives it again.
    fn handed_config(&self, from: &PluginRow, to: &Manifest) -> serde_json::Value {
        match self.manifest(from) {
            Ok(manifest) => manifest.config.handed_to(&to.config, &from.config),
            // Nobody knows what is secret in it, as the version that is being replaced is broken: all of it
            // may be.
            Err(_) => to.config.hidden_of(&from.config),
        }
    }

    /// What the version that is returned to was granted, but for what is withheld by now: what was revoked
    /// since stays so.
    fn handed_grant(&self, from: &PluginRow, mut then: Grant, to: &Manifest) -> Grant {
        if let (Some(now), Ok(manifest)) = (&from.granted, self.manifest(from)) {
            let withheld = |one: &Permission| {
                manifest.permissions.contains(one) && !now.permissions.contains(one)
            };
            then.permissions.retain(|one| !withheld(one));
            let since = now.withheld_places.iter();
            let since = since.filter(|one| !then.withheld_places.contains(one)).cloned();
            then.withheld_places.extend(since.collect::<Vec<_>>());
            then.withhold_above(&to.sandbox.places());
        }
        then
    }

    /// What is installed, once an earlier operation on it is over.
    async fn installed(self: &Arc<Self>, turn: &Turn, id: &PluginId) -> Result<PluginRow, Failure> {
        self.end_unfinished(turn).await?;
        match self.store.plugin(id.clone()).await? {
            Some(row) => Ok(row),
            None => Err(not_installed(id)),
        }
    }

    /// What would keep the other version from its start is known before the one that runs is stopped.
    fn check_exchange(&self, to: &PluginRow, manifest: &Manifest) -> Result<(), Failure> {
        self.check_fits_dependents(&to.id, manifest)?;
        if to.enabled {
            self.check_dependencies(manifest)?;
            check_config(manifest, &to.config)?;
        }
        Ok(())
    }
}

impl Previous {
    fn of(row: &PluginRow) -> Self {
        Self {
            version: row.version.clone(),
            digest: row.digest,
            installed_at: row.installed_at.clone(),
            granted: row.granted.clone(),
        }
    }
}

/// An upgrade goes forward, unless somebody says that he means it.
fn check_newer(from: &PluginRow, manifest: &Manifest) -> Result<(), Failure> {
    let (id, found, to) = (&from.id, &from.version, &manifest.version);
    match to.cmp_precedence(found) {
        Ordering::Greater => Ok(()),
        Ordering::Equal => Err(Failure::new(
            Code::AlreadyExists,
            format!(
                "{id} {found} is installed already, and this is {to} of another content; a version \
                 stands for one content, so give it a new number, or allow the downgrade"
            ),
        )
        .with("what", "version")
        .with("name", to.to_string())
        .with("found", from.digest)),
        Ordering::Less => Err(Failure::new(
            Code::VersionIncompatible,
            format!(
                "{id} {found} is installed, which is newer than {to}; to go back all the same, \
                 allow the downgrade, or use `bulkhead rollback {id}`"
            ),
        )
        .with("what", "downgrade")
        .with("required", format!(">{found}"))
        .with("found", to.to_string())),
    }
}
