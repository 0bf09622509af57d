//! One trusted key, as a file that a person can read and write.
//!
//! ```toml
//! key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
//! plugins = ["appointments", "clinic-*"]
//! comment = "the clinic's own developers"
//! added = "2026-05-04T10:20:30.000Z"
//! ```
//! A key that is revoked stays, with `revoked = "<time>"`, so that what it has signed is refused for
//! that reason, and so that nobody trusts it again by mistake.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{KeyId, PublicKey, Refusal, Scope};
use crate::config::located;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// A key and what root says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustedKey {
    pub(crate) key: PublicKey,
    /// The plugins that it may sign.
    pub(crate) plugins: Vec<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// RFC 3339.
    pub(crate) added: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<String>,
}

impl TrustedKey {
    pub(crate) fn id(&self) -> KeyId {
        self.key.id()
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| located(&error, text, path))
    }

    pub(super) fn to_text(&self) -> Result<String, Failure> {
        toml::to_string(self).map_err(|error| {
            Failure::new(Code::Internal, format!("a key cannot be written as TOML: {error}"))
        })
    }

    /// Whether what it has signed counts at all.
    pub(super) fn check_valid(&self) -> Result<(), Refusal> {
        match &self.revoked {
            None => Ok(()),
            Some(at) => Err(Refusal::RevokedKey { key: self.id(), revoked: at.clone() }),
        }
    }

    /// Whether it may sign that plugin.
    pub(super) fn check_scope(&self, id: &PluginId) -> Result<(), Refusal> {
        if self.plugins.iter().any(|scope| scope.has(id)) {
            return Ok(());
        }
        Err(Refusal::OtherPlugin { key: self.id(), plugins: self.plugins.clone() })
    }
}
