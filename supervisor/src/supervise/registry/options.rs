//! What a request to install or to upgrade says besides where the package is.

use semver::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::review::Consent;
use super::source::Expected;
use crate::exposure::Score;
use crate::id::PluginId;
use crate::manifest::Permission;
use crate::supervise::archives::ArchiveName;

/// Each may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct InstallOptions {
    /// The id that the manifest must have.
    #[schema(value_type = Option<String>)]
    pub(crate) id: Option<PluginId>,
    /// The version that the manifest must have.
    #[schema(value_type = Option<String>)]
    pub(crate) version: Option<Version>,
    /// Of the permissions that the manifest asks for, those to grant.
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) permissions: Option<Vec<Permission>>,
    /// The operator's word on all that is asked for: `all`, or the digest of the tree that it was
    /// given for.
    #[schema(value_type = Option<String>)]
    pub(crate) consent: Option<Consent>,
    /// Only look, and answer with the review: nothing is installed.
    pub(crate) dry_run: bool,
    /// An older version than the installed one will do, or the same one with another content.
    pub(crate) allow_downgrade: bool,
    /// The highest exposure that it may have here; the service's own bound holds as well.
    #[schema(value_type = Option<f64>)]
    pub(crate) max_exposure: Option<Score>,
    /// The name of an archive whose state, configuration and data it takes up again.
    #[schema(value_type = Option<String>)]
    pub(crate) restore: Option<ArchiveName>,
}

impl InstallOptions {
    /// What the client takes the package to be.
    pub(super) fn expected(&self) -> Expected {
        Expected { id: self.id.clone(), version: self.version.clone() }
    }
}
