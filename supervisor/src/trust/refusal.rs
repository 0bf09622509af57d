//! Why a signature is not enough, each reason told apart.

use crate::failure::{Code, Failure};
use crate::id::PluginId;

use super::{KeyId, Scope};

/// Why something may not run by the keys that are trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is not signed")]
    Unsigned,
    #[error("the signature is not one that minisign makes")]
    Malformed,
    #[error("it is signed in minisign's old way, which needs all of it in memory; sign it again")]
    Legacy { key: KeyId },
    #[error(
        "it is signed with key {key}, which is not trusted here; `bulkhead trust add` trusts it"
    )]
    UnknownKey { key: KeyId },
    #[error("it is signed with key {key}, and not with {wanted}")]
    OtherKey { key: KeyId, wanted: KeyId },
    #[error("it is signed with key {key}, which was revoked at {revoked}")]
    RevokedKey { key: KeyId, revoked: String },
    #[error("it is not what key {key} has signed: it was altered, or the signature is another's")]
    Mismatch { key: KeyId },
    #[error("it is signed with key {key}, which may sign {}", join(plugins))]
    OtherPlugin { key: KeyId, plugins: Vec<Scope> },
}

fn join(plugins: &[Scope]) -> String {
    plugins.iter().map(Scope::to_string).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// Stable, in the details.
    fn reason(&self) -> &'static str {
        match self {
            Refusal::Unsigned => "unsigned",
            Refusal::Malformed => "malformed",
            Refusal::Legacy { .. } => "legacy",
            Refusal::UnknownKey { .. } => "unknown-key",
            Refusal::OtherKey { .. } => "other-key",
            Refusal::RevokedKey { .. } => "revoked-key",
            Refusal::Mismatch { .. } => "mismatch",
            Refusal::OtherPlugin { .. } => "other-plugin",
        }
    }

    fn key(&self) -> Option<KeyId> {
        match self {
            Refusal::Unsigned | Refusal::Malformed => None,
            Refusal::Legacy { key }
            | Refusal::UnknownKey { key }
            | Refusal::OtherKey { key, .. }
            | Refusal::RevokedKey { key, .. }
            | Refusal::Mismatch { key }
            | Refusal::OtherPlugin { key, .. } => Some(*key),
        }
    }

    /// Of a package that is not (yet) known to be a certain plugin's.
    pub(crate) fn of_package(&self) -> Failure {
        self.failure(format!("the package is refused: {self}"))
    }

    /// Of a plugin that would be installed or started.
    pub(crate) fn of_plugin(&self, id: &PluginId) -> Failure {
        self.failure(format!("plugin {id} may not run: {self}")).with("id", id)
    }

    fn failure(&self, message: String) -> Failure {
        let failure = Failure::new(Code::SignatureInvalid, message).with("reason", self.reason());
        match self.key() {
            Some(key) => failure.with("key", key),
            None => failure,
        }
    }
}
