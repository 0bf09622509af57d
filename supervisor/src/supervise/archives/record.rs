//! What an archive says of itself.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::id::{Digest, PluginId};

/// The version of the format; a later one is a higher number.
pub(super) const FORMAT: u32 = 1;

/// `archive.json`, the first member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Of the archive: 1.
    pub(crate) format: u32,
    #[schema(value_type = String)]
    pub(crate) id: PluginId,
    #[schema(value_type = String)]
    pub(crate) version: Version,
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
    /// RFC 3339, UTC.
    pub(crate) archived_at: String,
    pub(crate) installed_at: String,
    /// What the operator gave, without what the manifest says is secret.
    #[schema(value_type = Object)]
    pub(crate) config: Value,
    /// What was granted.
    #[schema(value_type = Object)]
    pub(crate) granted: Value,
    /// How it last ended.
    #[schema(value_type = Option<Object>)]
    pub(crate) last_exit: Option<Value>,
    /// What it had used then.
    #[schema(value_type = Option<Object>)]
    pub(crate) last_usage: Option<Value>,
    /// Whether there is a `data.tar`.
    pub(crate) data: bool,
}
