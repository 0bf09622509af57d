//! The plugin's saved state: JSON values under keys, kept by the host across restarts.

use bulkhead_ipc_protocol::Payload;
use bulkhead_ipc_protocol::host::{
    STATE_DELETE, STATE_GET, STATE_LIST, STATE_PAGE, STATE_SET, StateDelete, StateEntry, StateGet,
    StateKeys, StateList, StatePage, StateSet,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CallOptions, Host};
use crate::body;
use crate::concurrent::each;
use crate::error::{Error, Result, code};

/// Calls to the host that one bulk operation has on its way at a time.
const LANES: usize = 32;

/// Key-value state with optimistic versions.
///
/// A value is anything that serde turns into JSON, at most 1 MiB. Its version is 1 when it is first written and
/// grows by one with each write. Other plugins do not see it; the operator can.
#[derive(Clone, Debug)]
pub struct State {
    host: Host,
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Grows by one with every write, from 1.
    pub version: u64,
    /// The value.
    pub value: T,
}

impl State {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }

    /// The value under `key`, if there is one.
    ///
    /// # Errors
    /// [`code::REPLY_INVALID`] when it is not a `T`; what [`Host::call`] fails with.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.entry(key).await?.map(|entry| entry.value))
    }

    /// The value under `key` with its version, for [`State::set_if`].
    ///
    /// # Errors
    /// As [`State::get`].
    pub async fn entry<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Entry<T>>> {
        let request = StateGet { key: key.to_owned() };
        let found: Option<StateEntry> = self.ask(STATE_GET, &request, true).await?;
        let Some(StateEntry { version, value }) = found else { return Ok(None) };
        let value = body::from_json(code::REPLY_INVALID, &value).map_err(|err| {
            err.context(format_args!("the state under `{key}` is not of the type asked for"))
        })?;
        Ok(Some(Entry { version, value }))
    }

    /// Writes a value, whatever is there, and returns its new version.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` past the storage limit; what [`Host::call`] fails with.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<u64> {
        self.write(key.to_owned(), serde_json::to_vec(value)?, None).await
    }

    /// Writes a value if the one there has the version `expected` (0: if there is none), and returns its new
    /// version.
    ///
    /// # Errors
    /// [`code::STATE_CONFLICT`] with details `{expected, found}`; as [`State::set`].
    pub async fn set_if<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        expected: u64,
    ) -> Result<u64> {
        self.write(key.to_owned(), serde_json::to_vec(value)?, Some(expected)).await
    }

    /// Removes a value. Returns whether there was one.
    ///
    /// # Errors
    /// What [`Host::call`] fails with.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let request = StateDelete { key: key.to_owned(), expected: None };
        self.ask(STATE_DELETE, &request, true).await
    }

    /// Removes a value if it has the version `expected`.
    ///
    /// # Errors
    /// [`code::STATE_CONFLICT`] with details `{expected, found}`; what [`Host::call`] fails with.
    pub async fn delete_if(&self, key: &str, expected: u64) -> Result<bool> {
        let request = StateDelete { key: key.to_owned(), expected: Some(expected) };
        self.ask(STATE_DELETE, &request, false).await
    }

    /// The keys that begin with `prefix`, sorted, each with its version.
    ///
    /// # Errors
    /// What [`Host::call`] fails with.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let request = StateList { prefix: prefix.to_owned() };
        match self.ask(STATE_LIST, &request, true).await {
            Err(error) if error.code() == code::RESOURCE_EXHAUSTED => {
                self.list_in_parts(prefix).await
            }
            listed => listed,
        }
    }

    /// What is too much for one answer. A key that is written or removed meanwhile may be there or not.
    async fn list_in_parts(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let mut listed: Vec<(String, u64)> = Vec::new();
        loop {
            let after = listed.last().map(|(key, _)| key.clone()).unwrap_or_default();
            let request = StatePage { prefix: prefix.to_owned(), after };
            let StateKeys { keys, more }: StateKeys = self.ask(STATE_PAGE, &request, true).await?;
            let progress = !keys.is_empty();
            listed.extend(keys);
            if !more || !progress {
                return Ok(listed);
            }
        }
    }

    /// Every key that begins with `prefix`, with its value: what a plugin wants at its start. Several requests are
    /// on their way at a time.
    ///
    /// # Errors
    /// As [`State::get`].
    pub async fn load<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, Entry<T>)>> {
        let keys = self.list(prefix).await?;
        let found = each(keys, LANES, |(key, _)| async move {
            let entry = self.entry(&key).await?;
            Ok::<_, Error>(entry.map(|entry| (key, entry)))
        });
        // A key may have been removed since it was listed.
        Ok(found.await?.into_iter().flatten().collect())
    }

    /// Writes many values, whatever is there. Several requests are on their way at a time.
    ///
    /// This is no transaction: after an error some are written and some are not. Writing them all again is safe.
    ///
    /// # Errors
    /// As [`State::set`], for the first that fails.
    pub async fn store<K, T>(&self, entries: impl IntoIterator<Item = (K, T)>) -> Result<()>
    where
        K: Into<String>,
        T: Serialize,
    {
        let written = each(entries, LANES, |(key, value)| {
            let json = serde_json::to_vec(&value);
            let key = key.into();
            async move { self.write(key, json?, None).await }
        });
        written.await.map(|_| ())
    }

    /// A write without a condition may be repeated; with one it may not, as the first may have counted.
    async fn write(&self, key: String, value: Vec<u8>, expected: Option<u64>) -> Result<u64> {
        let repeat = expected.is_none();
        self.ask(STATE_SET, &StateSet { key, value, expected }, repeat).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &str,
        request: &Q,
        repeat: bool,
    ) -> Result<A> {
        let payload = Payload::bincode(request).map_err(Error::internal)?;
        let reply =
            self.host.send(method.to_owned(), payload, repeat, CallOptions::default()).await?;
        reply.decode_bincode().map_err(|err| Error::new(code::REPLY_INVALID, err.to_string()))
    }
}
