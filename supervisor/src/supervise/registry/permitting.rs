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
use crate::manifest::{HostPath, Manifest, Permission};
use crate::supervise::plugin::{Command, PluginHandle, Wanted};

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
    /// Places of the machine that its manifest asks for. A change of these is in force with its next
    /// start.
    pub(crate) places: Vec<Place>,
}

/// A place of the machine that a plugin asks for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Place {
    #[schema(value_type = String, example = "/srv/scans")]
    pub(crate) path: HostPath,
    /// Whether it asks to write there too.
    writable: bool,
    pub(crate) granted: bool,
}

impl Registry {
    /// What a plugin is permitted now.
    pub(crate) fn permissions(&self, id: &PluginId) -> Result<Permissions, Failure> {
        Ok(self.permissions_of(&self.get(id)?))
    }

    fn permissions_of(&self, handle: &PluginHandle) -> Permissions {
        let (manifest, grant) = (&handle.manifest, handle.view().granted);
        let granted = grant.permissions;
        let withheld = manifest.permissions.iter().filter(|one| !granted.contains(one));
        let ask = |name: &Permission| PermissionAsk {
            name: name.clone(),
            opens: self.opened(manifest, name),
        };
        Permissions {
            id: manifest.id.clone(),
            asked: manifest.permissions.iter().map(ask).collect(),
            withheld: withheld.cloned().collect(),
            places: (manifest.sandbox.places().into_iter())
                .map(|path| Place {
                    writable: manifest.sandbox.write.contains(&path),
                    granted: !grant.withheld_places.contains(&path),
                    path,
                })
                .collect(),
            granted,
        }
    }

    /// Replaces what a plugin is permitted, in force with its next call and the next event, and the
    /// places that it has, in force with its next start. Where something is expected, only if that
    /// is what it is granted now.
    pub(crate) async fn permit(
        self: &Arc<Self>,
        id: &PluginId,
        permissions: Option<Wanted<Permission>>,
        places: Option<Wanted<HostPath>>,
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
        ask(&handle, Command::Permit { permissions, places, answer }, answered).await?;
        Ok(self.permissions_of(&handle))
    }

    /// Whether a plugin may do that now.
    pub(super) fn may(&self, id: &PluginId, permission: &Permission) -> bool {
        self.find(id).is_some_and(|handle| handle.may(permission))
    }
}

/// What would permit what was refused: a command, or a line of the manifest.
pub(super) fn remedy(manifest: &Manifest, permission: &Permission) -> String {
    if manifest.permissions.contains(permission) {
        format!("`bulkhead grant {} {permission}`", manifest.id)
    } else {
        format!("permissions = [\"{permission}\"]")
    }
}
