//! Typed markers for calls.

use bulkhead_ipc_protocol::Encoding;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A method that a plugin provides: its name and types, for the side that answers and the side that calls.
///
/// ```
/// use bulkhead_plugin_sdk::Method;
///
/// struct Double;
///
/// impl Method for Double {
///     const NAME: &'static str = "double";
///     const IDEMPOTENT: bool = true;
///     type Request = u32;
///     type Reply = u64;
/// }
/// ```
pub trait Method: 'static {
    /// Its name, without the service: `book`. A plugin that provides two services with a method of the same name
    /// writes `service/method`.
    const NAME: &'static str;

    /// Whether calling it twice does what calling it once does. Such a call is repeated when the supervisor
    /// restarts before the reply is here; any other then fails with `SESSION_LOST`.
    const IDEMPOTENT: bool = false;

    /// How a caller encodes the request. The answering side reads any, and replies in the same encoding.
    ///
    /// JSON by default: with it any serde type works. [`Encoding::Bincode`] is smaller and faster, but not for
    /// types that use `skip_serializing_if`, `flatten`, `untagged` or `serde_json::Value`, which need a format
    /// that describes itself.
    const ENCODING: Encoding = Encoding::Json;

    /// What it takes.
    type Request: Serialize + DeserializeOwned;

    /// What it gives.
    type Reply: Serialize + DeserializeOwned;
}
