//! The methods that a plugin calls on its host. Payloads are [`crate::Encoding::Bincode`].
//!
//! A call to any other `service/method` is routed to the plugin that provides the service.

use serde::{Deserialize, Serialize};

use crate::frame::MAX_BODY;
use crate::octets;

/// [`StateGet`] → `Option<`[`StateEntry`]`>`.
pub const STATE_GET: &str = "bulkhead.host/state.get";

/// [`StateSet`] → `u64`, the new version. Another version than expected gives [`STATE_CONFLICT`].
pub const STATE_SET: &str = "bulkhead.host/state.set";

/// [`StateDelete`] → `bool`, whether it was there. Another version than expected gives
/// [`STATE_CONFLICT`].
pub const STATE_DELETE: &str = "bulkhead.host/state.delete";

/// [`StateList`] → `Vec<(String, u64)>`: keys and versions, in order of the keys. More than
/// [`MAX_STATE_KEYS`] gives `RESOURCE_EXHAUSTED`; those are asked for with [`STATE_PAGE`].
pub const STATE_LIST: &str = "bulkhead.host/state.list";

/// [`StatePage`] → [`StateKeys`]: a part of the keys and versions, in order of the keys.
pub const STATE_PAGE: &str = "bulkhead.host/state.page";

/// How many bytes the keys of one answer take together at the most, each with [`STATE_KEY_MORE`], so that the
/// answer has room in a reply.
pub const MAX_STATE_KEYS: usize = MAX_BODY - 64;

/// What a key takes besides its text: its length and its version, below 2³².
pub const STATE_KEY_MORE: usize = 8;

/// [`Connect`] → [`Connected`]. The connection itself comes over the bootstrap socket, in a packet of its
/// own: the byte [`CONNECTION_PACKET`] and the token, `u64` little-endian, with the socket by SCM_RIGHTS.
pub const CONNECT: &str = "bulkhead.host/network.connect";

/// The first byte of a bootstrap packet that carries a connection; those with a session begin otherwise.
pub const CONNECTION_PACKET: u8 = 2;

/// [`MetricsPush`](crate::metrics::MetricsPush) → `()`: all that the plugin measures of itself, now and
/// then while that changes, and on each new session.
pub const METRICS_PUSH: &str = "bulkhead.host/metrics.push";

/// The error code for a version that is not the one expected; details: `{expected, found}`.
pub const STATE_CONFLICT: &str = "STATE_CONFLICT";

/// Asks for one entry of the plugin's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateGet {
    /// The key.
    pub key: String,
}

/// One entry of the plugin's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// Grows by one with every change, from 1.
    pub version: u64,
    /// JSON text.
    #[serde(with = "octets")]
    pub value: Vec<u8>,
}

/// Writes one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSet {
    /// The key.
    pub key: String,
    /// JSON text.
    #[serde(with = "octets")]
    pub value: Vec<u8>,
    /// The version that the entry must have; 0: it must not exist; `None`: whatever it is.
    pub expected: Option<u64>,
}

/// Removes one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDelete {
    /// The key.
    pub key: String,
    /// The version that the entry must have; `None`: whatever it is.
    pub expected: Option<u64>,
}

/// Lists the entries whose key starts with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateList {
    /// The prefix; empty for all.
    pub prefix: String,
}

/// Lists a part of the entries whose key starts with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePage {
    /// The prefix; empty for all.
    pub prefix: String,
    /// The last key that the plugin has; empty for the first part.
    pub after: String,
}

/// A part of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateKeys {
    /// Keys and versions, in order of the keys.
    pub keys: Vec<(String, u64)>,
    /// Whether there are keys after these.
    pub more: bool,
}

/// Asks for a TCP connection to a pair that the plugin was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// A DNS name or an address, as the manifest has it.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A connection is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// Which packet of the bootstrap socket has it.
    pub token: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_value_is_a_length_and_its_bytes() {
        let entry = StateEntry { version: 3, value: b"{}".to_vec() };
        let bytes = codec::encode(&entry);
        assert_eq!(bytes, [3, 2, b'{', b'}']);
        assert_eq!(codec::decode::<StateEntry>(&bytes), Ok(entry));
    }
}
