//! What a handler or a call to the host may fail with: a stable code, a text, typed details.

use std::borrow::Cow;
use std::fmt;

use bulkhead_ipc_protocol::{CallError, CallFailure};
use serde::Serialize;
use serde_json::Value;

/// What a fallible function of a plugin returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The codes that the SDK itself uses. Those of a plugin are its own.
pub mod code {
    /// The plugin's configuration does not fit [`Plugin::Config`](crate::Plugin::Config); details: `{path}`.
    pub const CONFIG_INVALID: &str = "CONFIG_INVALID";
    /// A request does not fit the method's type; details: `{path}`.
    pub const REQUEST_INVALID: &str = "REQUEST_INVALID";
    /// The reply of another plugin does not fit the method's type.
    pub const REPLY_INVALID: &str = "REPLY_INVALID";
    /// The plugin has no such method; details: `{methods}`.
    pub const METHOD_UNKNOWN: &str = "METHOD_UNKNOWN";
    /// A topic has a handler, but the manifest does not subscribe to it; details: `{topics, subscribed}`.
    pub const NOT_SUBSCRIBED: &str = "NOT_SUBSCRIBED";
    /// The plugin has not been initialized.
    pub const NOT_READY: &str = "NOT_READY";
    /// The plugin is stopping and takes no new calls.
    pub const STOPPING: &str = "STOPPING";
    /// A handler panicked. The plugin lives on.
    pub const PANIC: &str = "PANIC";
    /// The session with the host ended while a call that must not be repeated was on its way.
    pub const SESSION_LOST: &str = "SESSION_LOST";
    /// The other end of a stream gave up before all was sent.
    pub const STREAM_BROKEN: &str = "STREAM_BROKEN";
    /// No reply within the deadline.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// A bound was met: too many calls, too many bytes.
    pub const RESOURCE_EXHAUSTED: &str = "RESOURCE_EXHAUSTED";
    /// An entry of the state has another version than expected; details: `{expected, found}`.
    pub const STATE_CONFLICT: &str = bulkhead_ipc_protocol::host::STATE_CONFLICT;
    /// Anything else that went wrong inside the plugin.
    pub const INTERNAL: &str = "INTERNAL";
}

/// An error as it crosses the wire.
///
/// ```
/// use bulkhead_plugin_sdk::Error;
///
/// let error = Error::new("SLOT_TAKEN", "10:00 is taken; the next free slot is at 11:00")
///     .with_details(&[("next", "11:00")]);
/// assert_eq!(error.code(), "SLOT_TAKEN");
/// assert_eq!(error.to_string(), "SLOT_TAKEN: 10:00 is taken; the next free slot is at 11:00");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Cow<'static, str>,
    message: String,
    details: Option<Value>,
}

impl Error {
    /// An error with a stable code in capitals, and a text that says what happened and what to do.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }

    /// An error that no caller can do anything about: [`code::INTERNAL`].
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(code::INTERNAL, cause.to_string())
    }

    /// The same error with details, which become JSON. Details that cannot are left out.
    pub fn with_details(mut self, details: &(impl Serialize + ?Sized)) -> Self {
        self.details = serde_json::to_value(details).ok();
        self
    }

    /// The same error, its text preceded by what was being done: `while loading patients: …`.
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The text, without the code.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details.
    pub fn details(&self) -> Option<&Value> {
        self.details.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let details =
            error.details.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        Self { code: error.code.into(), message: error.message, details }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let plain = Self::new(error.code, error.message);
        match error.details {
            Some(details) => plain.with_details(details.to_string()),
            None => plain,
        }
    }
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Self {
        let code = match &failure {
            CallFailure::Remote(error) => return error.clone().into(),
            CallFailure::Timeout { .. } => code::TIMEOUT,
            CallFailure::Exhausted { .. } | CallFailure::TooLong { .. } => code::RESOURCE_EXHAUSTED,
            CallFailure::Draining => code::STOPPING,
            CallFailure::Ended(_) => code::SESSION_LOST,
        };
        Self::new(code, failure.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}

impl From<fmt::Error> for Error {
    fn from(error: fmt::Error) -> Self {
        Self::internal(error)
    }
}
