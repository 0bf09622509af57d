//! A plugin's key-value state, with optimistic versions.

use bulkhead_ipc_protocol::host::STATE_KEY_MORE;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Store;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// One value of a plugin's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// 1 at the first write of the key, one more at each.
    pub(crate) version: u64,
    pub(crate) value: Vec<u8>,
}

/// Which keys of a plugin's state, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What they begin with.
    pub(crate) prefix: String,
    /// The key before them; empty for the first.
    pub(crate) after: String,
    /// How many at the most.
    pub(crate) limit: usize,
    /// How many bytes they, and what is read with them, take together at the most. One is always read.
    pub(crate) bytes: usize,
}

/// What there is of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Whether there are keys after these.
    pub(crate) more: bool,
}

/// The bounds of one plugin's state.
pub(crate) const MAX_KEY: usize = 512;
pub(crate) const MAX_VALUE: usize = 1 << 20;

/// Why a write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StateError {
    #[error("key {key:?} has {length} bytes; 1 to {MAX_KEY} are allowed")]
    BadKey { key: String, length: usize },
    #[error("the value of key {key:?} has {length} bytes; at most {MAX_VALUE} are allowed")]
    ValueTooLong { key: String, length: usize },
    #[error("key {key:?} is at version {found}, not at {expected}; read it again and retry")]
    Conflict { key: String, expected: u64, found: u64 },
    #[error("the plugin's state would take {used} bytes; limits.storage allows {quota}")]
    OverQuota { quota: u64, used: u64 },
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        let message = error.to_string();
        match error {
            StateError::BadKey { key, .. } => {
                Failure::new(Code::InvalidRequest, message).with("key", key)
            }
            StateError::ValueTooLong { key, length } => {
                Failure::new(Code::ResourceExhausted, message)
                    .with("resource", "state value")
                    .with("key", key)
                    .with("limit", MAX_VALUE)
                    .with("used", length)
            }
            StateError::OverQuota { quota, used } => Failure::new(Code::ResourceExhausted, message)
                .with("resource", "state")
                .with("limit", quota)
                .with("used", used),
            StateError::Conflict { key, expected, found } => {
                Failure::new(Code::StateConflict, message)
                    .with("key", key)
                    .with("expected", expected)
                    .with("found", found)
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), StateError> {
    if key.is_empty() || key.len() > MAX_KEY {
        let shown = key.chars().take(64).collect();
        return Err(StateError::BadKey { key: shown, length: key.len() });
    }
    Ok(())
}

/// The version of a key; 0 where there is none.
fn version(connection: &Connection, plugin: &PluginId, key: &str) -> rusqlite::Result<u64> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT version FROM state WHERE plugin = ?1 AND key = ?2")?
        .query_row(params![plugin.as_str(), key], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0) as u64)
}

/// What a plugin's keys and values take together.
fn state_bytes(connection: &Connection, plugin: &PluginId) -> rusqlite::Result<u64> {
    let bytes: Option<i64> = connection
        .prepare_cached("SELECT state_bytes FROM plugin WHERE id = ?1")?
        .query_row([plugin.as_str()], |row| row.get(0))
        .optional()?;
    Ok(bytes.unwrap_or(0) as u64)
}

impl Store {
    pub(crate) async fn state(
        &self,
        plugin: PluginId,
        key: String,
    ) -> Result<Option<Entry>, Failure> {
        check_key(&key)?;
        self.run(move |connection| {
            connection
                .prepare_cached("SELECT version, value FROM state WHERE plugin = ?1 AND key = ?2")?
                .query_row(params![plugin.as_str(), key], |row| {
                    Ok(Entry { version: row.get::<_, i64>(0)? as u64, value: row.get(1)? })
                })
                .optional()
        })
        .await
    }

    /// Writes a key and returns its new version. `expected` is the version that it must have; 0
    /// for "must not exist". Keys and values of the plugin may take `quota` bytes together; a write
    /// that makes less of them is always allowed.
    pub(crate) async fn set_state(
        &self,
        plugin: PluginId,
        key: String,
        value: Vec<u8>,
        expected: Option<u64>,
        quota: u64,
    ) -> Result<u64, Failure> {
        check_key(&key)?;
        if value.len() > MAX_VALUE {
            return Err(StateError::ValueTooLong { key, length: value.len() }.into());
        }
        self.reserve.refill();
        if self.reserve.is_released() {
            let message = "the disk is full, and what room is left is kept for removing something; \
                           free space there";
            return Err(Failure::new(Code::StorageFailed, message).with("reason", super::DISK_FULL));
        }
        let path = self.path.clone();
        self.run_checked(move |connection| {
            let failed = |error| super::failed(&path, &error);
            let found = version(connection, &plugin, &key).map_err(failed)?;
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(StateError::Conflict { key, expected, found }.into());
            }
            let before = state_bytes(connection, &plugin).map_err(failed)?;
            connection
                .prepare_cached(
                    "INSERT INTO state (plugin, key, value, version) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (plugin, key) DO UPDATE SET value = ?3, version = ?4",
                )
                .and_then(|mut statement| {
                    statement.execute(params![plugin.as_str(), key, value, found as i64 + 1])
                })
                .map_err(failed)?;
            let after = state_bytes(connection, &plugin).map_err(failed)?;
            if after > quota && after > before {
                // The job's savepoint takes the write back.
                return Err(StateError::OverQuota { quota, used: after }.into());
            }
            Ok(found + 1)
        })
        .await
    }

    /// How many bytes the keys and values of a plugin take together.
    pub(crate) async fn state_size(&self, plugin: PluginId) -> Result<u64, Failure> {
        self.run(move |connection| state_bytes(connection, &plugin)).await
    }

    /// Removes a key; whether it was there.
    pub(crate) async fn delete_state(
        &self,
        plugin: PluginId,
        key: String,
        expected: Option<u64>,
    ) -> Result<bool, Failure> {
        check_key(&key)?;
        let path = self.path.clone();
        self.run_checked(move |connection| {
            let failed = |error| super::failed(&path, &error);
            let found = version(connection, &plugin, &key).map_err(failed)?;
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(StateError::Conflict { key, expected, found }.into());
            }
            let removed = connection
                .prepare_cached("DELETE FROM state WHERE plugin = ?1 AND key = ?2")
                .and_then(|mut statement| statement.execute(params![plugin.as_str(), key]))
                .map_err(failed)?;
            Ok(removed > 0)
        })
        .await
    }

    /// The keys of a part, with their versions.
    pub(crate) async fn list_state(
        &self,
        plugin: PluginId,
        part: Part,
    ) -> Result<Page<(String, u64)>, Failure> {
        self.run(move |connection| {
            let sql = "SELECT key, version FROM state WHERE plugin = ?1 AND key >= ?2 ORDER BY key";
            read_part(connection, sql, &plugin, &part, |key, row| {
                Ok((key.len() + STATE_KEY_MORE, (key, row.get::<_, i64>(1)? as u64)))
            })
        })
        .await
    }

    /// The keys of a part, with what is kept there.
    pub(crate) async fn state_part(
        &self,
        plugin: PluginId,
        part: Part,
    ) -> Result<Page<(String, Entry)>, Failure> {
        self.run(move |connection| {
            let sql = "SELECT key, version, value FROM state
                       WHERE plugin = ?1 AND key >= ?2 ORDER BY key";
            read_part(connection, sql, &plugin, &part, |key, row| {
                let entry = Entry { version: row.get::<_, i64>(1)? as u64, value: row.get(2)? };
                Ok((key.len() + entry.value.len(), (key, entry)))
            })
        })
        .await
    }
}

/// Reads rows in the order of their keys, which are the first column, until that is a part; `read`
/// gives what a row is and how many bytes that takes.
fn read_part<T>(
    connection: &Connection,
    sql: &str,
    plugin: &PluginId,
    part: &Part,
    read: impl Fn(String, &Row<'_>) -> rusqlite::Result<(usize, T)>,
) -> rusqlite::Result<Page<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![plugin.as_str(), (&part.prefix).max(&part.after)])?;
    let (mut page, mut bytes) = (Page { items: Vec::new(), more: false }, 0);
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(&part.prefix) {
            break;
        }
        if key == part.after {
            continue;
        }
        if page.items.len() == part.limit {
            page.more = true;
            break;
        }
        let (length, item) = read(key, row)?;
        bytes += length;
        if bytes > part.bytes && !page.items.is_empty() {
            page.more = true;
            break;
        }
        page.items.push(item);
    }
    Ok(page)
}
