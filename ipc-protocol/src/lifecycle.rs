//! The methods that a host calls on a plugin. Payloads are [`crate::Encoding::Bincode`].

use serde::{Deserialize, Serialize};

/// [`InitRequest`] → [`InitReply`]: hands the plugin its configuration. Idempotent: a plugin that
/// has its instance already, because the supervisor restarted, answers at once.
pub const INIT: &str = "bulkhead.plugin/init";

/// `()` → `()`: an error, or no reply in time, means unhealthy.
pub const HEALTH: &str = "bulkhead.plugin/health";

/// [`ConfigureRequest`] → [`ConfigureReply`]: hands a plugin that runs another configuration. An error
/// refuses it, and the one before stays in force. A plugin that knows no such method takes a new
/// configuration at its next start only.
pub const CONFIGURE: &str = "bulkhead.plugin/configure";

/// [`PermissionsChanged`] → `()`: tells a plugin that runs what it is granted from now on, so that it can
/// leave alone what it would be refused. The host checks every call whether it was told or not. A plugin
/// that knows no such method learns it at its next start.
pub const PERMISSIONS: &str = "bulkhead.plugin/permissions";

/// What a plugin is told at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRequest {
    /// The plugin's id.
    pub plugin_id: String,
    /// The plugin's version, as its manifest has it.
    pub version: String,
    /// Its configuration: JSON text, checked against the manifest's schema.
    pub config: String,
    /// The permissions that were granted, such as `read:appointments`.
    pub permissions: Vec<String>,
}

/// A configuration that replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigureRequest {
    /// JSON text, checked against the manifest's schema.
    pub config: String,
}

/// The permissions that replace those before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionsChanged {
    /// All that are granted, such as `read:appointments`.
    pub permissions: Vec<String>,
}

/// What a plugin answers to [`CONFIGURE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigureReply {
    /// Whether it is in force now; else it will be after a restart.
    pub applied: bool,
}

/// What a plugin answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitReply {
    /// Whether it had been initialized before, in an earlier session.
    pub resumed: bool,
}
