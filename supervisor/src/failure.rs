//! What can go wrong, as a person and a program meet it: a stable code, a sentence, typed details.

mod spawn;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The stable codes. Others rely on them: a code is never renamed, only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Code {
    /// The request itself is malformed: a bad id, a bad JSON body, an unknown parameter.
    InvalidRequest,
    /// No such plugin, package, method or file. Details: `what`, `name`.
    NotFound,
    /// There is one already, of another content. Details: `what`, `name`.
    AlreadyExists,
    /// The plugin is not in a state in which this can be done. Details: `state`.
    Conflict,
    /// The manifest is wrong. Details: `path`, and `line`, `column` where known.
    ManifestInvalid,
    /// The configuration does not fit the manifest. Details: `path`.
    ConfigInvalid,
    /// The tree or the binary is not what was installed. Details: `path`, `expected`, `found`.
    IntegrityFailed,
    /// The file is not a package: cut off, not a tar.zst, or with a member that may not be in one.
    /// Details: `reason`, and `member` where it is about one.
    PackageInvalid,
    /// A signature is missing, wrong, or of a key that may not sign this. Details: `reason` (stable:
    /// `unsigned`, `malformed`, `legacy`, `unknown-key`, `revoked-key`, `mismatch`, `other-plugin`),
    /// `key` where one is named, `id` where the plugin is known.
    SignatureInvalid,
    /// A version requirement does not hold. Details: `what`, `required`, `found`.
    VersionIncompatible,
    /// Details: `dependency`, `required`, `found`.
    DependencyMissing,
    /// Details: `cycle`.
    DependencyCycle,
    /// A crate that the plugin is built with has a known fault, and the configuration refuses those.
    /// Details: `dependency`, `required`, `found`, `advisories`.
    VulnerableDependency,
    /// The machine would be more exposed to the plugin than is allowed. Details: `score`, `maximum`,
    /// `measured`, `reasons`.
    ExposureTooHigh,
    /// Other plugins that are enabled need this one. Details: `dependents`.
    DependentsEnabled,
    /// Details: `resource`, `limit`, `used`.
    ResourceExhausted,
    /// A plugin asks for more than it has by itself, and the request has no word on that. Details:
    /// `digest`, `permissions`, `network`, `sandbox`, `added`, `removed`.
    ConsentRequired,
    /// Peer, plugin or caller may not do this. Details: `permission` or `role`.
    PermissionDenied,
    /// The entry does not exist, has no run bit, or cannot be executed. Details: `path`, `stage`.
    EntryInvalid,
    /// A layer of the compartment is missing under `strict`. Details: `layer`.
    SandboxUnavailable,
    /// The compartment could not be made. Details: `stage`, `errno`.
    SandboxFailed,
    /// The plugin did not come up: it said so, or it died. Details: `stage`, and `exit` if it died.
    InitializationFailed,
    /// Details: `stage`, `budgetMs`.
    Timeout,
    /// The plugin broke the protocol. Details: `violation`.
    ProtocolViolation,
    /// The plugin died while it was needed. Details: `exit`.
    PluginDied,
    /// The plugin's own handler returned an error. Details: the plugin's `code` and `details`.
    CallFailed,
    /// A connection that a plugin may have could not be made. Details: `host`, `port`.
    ConnectFailed,
    /// A conditional write of state met another version. Details: `key`, `expected`, `found`.
    StateConflict,
    /// The audit is not what was written: a row was changed, removed, added or moved. Details:
    /// `sequence`, `reason`.
    AuditBroken,
    /// The store could not be read or written. What was there is kept.
    StorageFailed,
    /// No supervisor answers on the socket. Details: `socket`.
    Unreachable,
    /// The service is going down and takes no new work.
    ShuttingDown,
    /// A defect of Bulkhead itself. Please report it.
    Internal,
}

impl Code {
    /// The exit code of the command line: 1 refused or failed, 2 usage, 3 not found, 4 denied,
    /// 5 timed out.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Code::InvalidRequest => 2,
            Code::NotFound => 3,
            Code::PermissionDenied => 4,
            Code::Timeout => 5,
            _ => 1,
        }
    }

    /// The HTTP status of the problem document.
    pub(crate) fn http_status(self) -> u16 {
        match self {
            Code::InvalidRequest | Code::ManifestInvalid | Code::ConfigInvalid => 400,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists
            | Code::Conflict
            | Code::StateConflict
            | Code::DependentsEnabled
            | Code::DependencyMissing
            | Code::DependencyCycle
            | Code::VulnerableDependency
            | Code::ConsentRequired
            | Code::ExposureTooHigh
            | Code::VersionIncompatible => 409,
            Code::IntegrityFailed
            | Code::PackageInvalid
            | Code::SignatureInvalid
            | Code::EntryInvalid => 422,
            Code::ResourceExhausted => 429,
            Code::InitializationFailed
            | Code::ProtocolViolation
            | Code::PluginDied
            | Code::CallFailed
            | Code::ConnectFailed => 502,
            Code::SandboxUnavailable | Code::Unreachable | Code::ShuttingDown => 503,
            Code::Timeout => 504,
            Code::SandboxFailed | Code::StorageFailed | Code::AuditBroken | Code::Internal => 500,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(Value::String(text)) => f.write_str(&text),
            _ => write!(f, "{self:?}"),
        }
    }
}

/// A failure as it crosses every border: link, HTTP problem, event, command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What happened, why, and what to do: one lower-case sentence or a few.
    pub(crate) message: String,
    /// An object; its keys depend on the code.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) details: Value,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: json!({}) }
    }

    /// Adds one detail. `value` must be representable as JSON, as every type used here is.
    pub(crate) fn with(mut self, key: &str, value: impl Serialize) -> Self {
        if let Value::Object(details) = &mut self.details {
            details.insert(key.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
        }
        self
    }

    /// What cannot be done to `id` while these plugins, which depend on it, are not at rest.
    pub(crate) fn dependents_enabled(
        id: impl fmt::Display,
        dependents: &[impl AsRef<str>],
    ) -> Self {
        let names: Vec<&str> = dependents.iter().map(AsRef::as_ref).collect();
        let (depend, them) = if names.len() == 1 { ("depends", "it") } else { ("depend", "them") };
        let message = format!("{} {depend} on {id}; disable {them} first", names.join(", "));
        Self::new(Code::DependentsEnabled, message).with("dependents", names)
    }

    pub(crate) fn internal(what: impl fmt::Display) -> Self {
        Self::new(Code::Internal, format!("{what}; this is a defect of bulkhead, please report it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_the_design_names_it() {
        assert_eq!(Code::InitializationFailed.to_string(), "INITIALIZATION_FAILED");
        assert_eq!(serde_json::to_string(&Code::NotFound).unwrap(), "\"NOT_FOUND\"");
    }

    #[test]
    fn one_depends_and_two_depend() {
        let one = Failure::dependents_enabled("a", &["b"]);
        assert_eq!(one.to_string(), "DEPENDENTS_ENABLED: b depends on a; disable it first");
        let two = Failure::dependents_enabled("a", &["b", "c"]);
        assert_eq!(two.message, "b, c depend on a; disable them first");
        assert_eq!(two.details, json!({"dependents": ["b", "c"]}));
    }

    #[test]
    fn details_are_typed() {
        let failure = Failure::new(Code::ResourceExhausted, "no memory left")
            .with("resource", "memory")
            .with("limit", 64);
        assert_eq!(failure.details, json!({"resource": "memory", "limit": 64}));
        assert_eq!(failure.to_string(), "RESOURCE_EXHAUSTED: no memory left");
    }
}
