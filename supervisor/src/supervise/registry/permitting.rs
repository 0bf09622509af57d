//! What plugins are permitted: shown, changed, and refused.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::operation::Request;
use super::review::PermissionAsk;
use super::{Registry, ask};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::manifest::{Manifest, Permission};
use crate::supervise::plugin::{Command, PluginHandle};

/// What a plugin asks for, and what of that it may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Permissions {
    #[schema(value_type = String)]
    id: PluginId,
    /// What its manifest asks for, in that order.
    asked: Vec<PermissionAsk>,
    /// Those of it that the operator grants.
    #[schema(value_type = Vec<String>)]
    pub(crate) granted: Vec<Permission>,
    /// The others.
    #[schema(value_type = Vec<String>)]
    withheld: Vec<Permission>,
}

impl Registry {
    /// What a plugin is permitted now.
    pub(crate) fn permissions(&self, id: &PluginId) -> Result<Permissions, Failure> {
        Ok(self.permissions_of(&self.get(id)?))
    }

    fn permissions_of(&self, handle: &PluginHandle) -> Permissions {
        let (manifest, granted) = (&handle.manifest, handle.view().granted.permissions);
        let withheld = manifest.permissions.iter().filter(|one| !granted.contains(one));
        let ask = |name: &Permission| PermissionAsk {
            name: name.clone(),
            opens: self.opened(manifest, name),
        };
        Permissions {
            id: manifest.id.clone(),
            asked: manifest.permissions.iter().map(ask).collect(),
            withheld: withheld.cloned().collect(),
            granted,
        }
    }

    /// Replaces what a plugin is permitted; in force with its next call and the next event. Where
    /// `expected` is given, only if that is what it is permitted now.
    pub(crate) async fn permit(
        self: &Arc<Self>,
        id: &PluginId,
        permissions: Vec<Permission>,
        expected: Option<Vec<Permission>>,
    ) -> Result<Permissions, Failure> {
        self.check_open()?;
        // An upgrade under way is waited for: what it puts back would have the grant of before.
        let _share = loop {
            match self.turns.share(id, Request::Permit) {
                Ok(share) if self.is_unfinished(id) => {
                    drop(share);
                    self.settle(id).await?;
                }
                Ok(share) => break share,
                Err(_) => self.turns.operation_ends(id).await,
            }
        };
        let handle = self.get(id)?;
        let (answer, answered) = oneshot::channel();
        ask(&handle, Command::Permit { permissions, expected, answer }, answered).await?;
        Ok(self.permissions_of(&handle))
    }

    /// Whether a plugin may do that now.
    pub(super) fn may(&self, id: &PluginId, permission: &Permission) -> bool {
        self.find(id).is_some_and(|handle| handle.may(permission))
    }
}

/// What would permit what was refused, for a person to read.
pub(super) fn remedy(manifest: &Manifest, permission: &Permission) -> String {
    if manifest.permissions.contains(permission) {
        format!("`bulkhead grant {} {permission}`", manifest.id)
    } else {
        "`permissions` in its plugin.toml, and an upgrade to that".to_owned()
    }
}
