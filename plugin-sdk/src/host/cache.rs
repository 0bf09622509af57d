//! What a plugin may forget: a cache with bounds, emptied when the plugin stops.
//!
//! Two orders are kept beside the entries: that of their last use, whose first is evicted when a bound is met, and
//! that of their making, whose first expires next, as all live equally long. Nothing runs in the background: what has
//! expired goes at the next touch, and the bounds hold at any time.

mod meter;
mod store;

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::Metrics;
use crate::error::{Error, Result, code};
use meter::{Meter, Totals};
use store::{Store, weigh};

/// What a [`Cache`] holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes of all keys and values, as JSON.
    pub bytes: usize,
    /// How long an entry lives, whether it is used or not.
    pub age: Duration,
}

impl Default for CacheLimits {
    /// 1000 entries, 1 MiB, five minutes.
    fn default() -> Self {
        Self { entries: 1000, bytes: 1 << 20, age: Duration::from_secs(300) }
    }
}

/// How a [`Cache`] fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found an entry.
    pub hits: u64,
    /// Look-ups that found none, or one that was too old.
    pub misses: u64,
    /// Entries that made room for others: raise the limits if there are many.
    pub evictions: u64,
    /// Entries that had lived their time.
    pub expired: u64,
    /// Values that were too large to be taken.
    pub refused: u64,
    /// Entries now.
    pub entries: usize,
    /// Bytes now, as [`CacheLimits::bytes`] counts them.
    pub bytes: usize,
}

/// A cache in the plugin's own memory; see [`Host::cache`](super::Host::cache). Clones share what is in it.
///
/// It never holds more than its [`CacheLimits`]: what was not used for longest makes room. It is emptied when the plugin
/// stops, after `save` and before `shutdown`, and takes nothing from then on.
///
/// How all caches of the plugin fare together is shown to Prometheus without more ado, as
/// `bulkhead_plugin_sdk_cache_hits_total` and so on, one for each field of [`CacheStats`].
///
/// ```
/// # use bulkhead_plugin_sdk::{Cache, CacheLimits, Host, Result};
/// # use std::time::Duration;
/// struct Clinic {
///     names: Cache<String, String>,
/// }
///
/// impl Clinic {
///     fn new(host: &Host) -> Self {
///         let limits = CacheLimits { entries: 500, age: Duration::from_secs(60), ..CacheLimits::default() };
///         Self { names: host.cache_with(limits) }
///     }
///
///     async fn name(&self, patient: &str) -> Result<String> {
///         self.names.get_or(patient.to_owned(), async || self.look_up(patient).await).await
///     }
///     # async fn look_up(&self, patient: &str) -> Result<String> { Ok(patient.to_owned()) }
/// }
/// ```
pub struct Cache<K, V>(Arc<Mutex<Store<K, V>>>);

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    /// Without what is in it, which need not be for the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let store = lock(&self.0);
        f.debug_struct("Cache").field("limits", &store.limits).finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Clone + Eq + Hash + Serialize,
    V: Clone + Serialize,
{
    /// Keeps a value, in place of the one that the key had.
    ///
    /// # Errors
    /// [`code::RESOURCE_EXHAUSTED`] when it is larger than the cache; the key has no value then. [`code::STOPPING`]
    /// when the plugin stops. [`code::INTERNAL`] when key or value cannot be JSON.
    pub fn insert(&self, key: K, value: V) -> Result<()> {
        let weight = weigh(&(&key, &value))?;
        let mut store = lock(&self.0);
        if store.closed {
            return Err(Error::new(code::STOPPING, "the plugin is stopping and caches no more"));
        }
        store.remove(&key);
        if weight > store.limits.bytes || store.limits.entries == 0 {
            store.counts.refused += 1;
            store.tell();
            let limit = store.limits.bytes;
            let message = format!(
                "the value has {weight} bytes and is not cached: the cache has {limit}; raise CacheLimits::bytes, or \
                 cache less of it"
            );
            let details = json!({ "resource": "cache", "limit": limit, "used": weight });
            return Err(Error::new(code::RESOURCE_EXHAUSTED, message).with_details(&details));
        }
        store.insert(key, value, weight);
        store.tell();
        Ok(())
    }

    /// A copy of the value, which counts as a use. Values that are large are best kept in an [`Arc`].
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut store = lock(&self.0);
        let value = store.get(key);
        store.tell();
        value
    }

    /// A copy of the value, or else what `make` gives, which is then kept.
    ///
    /// What is made while something is removed or the cache is cleared is not kept: it may be of before. Nor is what
    /// is too large ([`CacheStats::refused`] counts it) or comes while the plugin stops; it is returned all the same.
    ///
    /// # Errors
    /// What `make` fails with; nothing is kept then.
    pub async fn get_or(&self, key: K, make: impl AsyncFnOnce() -> Result<V>) -> Result<V> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let before = lock(&self.0).removals;
        let value = make().await?;
        if lock(&self.0).removals == before {
            // The value is what was asked for; that it cannot be kept is counted.
            let _ = self.insert(key, value.clone());
        }
        Ok(value)
    }

    /// Forgets a value. Returns whether there was one.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut store = lock(&self.0);
        store.removals += 1;
        let was_there = store.remove(key);
        store.tell();
        was_there
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let mut store = lock(&self.0);
        store.removals += 1;
        store.clear();
        store.tell();
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.stats().entries
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it fares.
    pub fn stats(&self) -> CacheStats {
        lock(&self.0).tell()
    }
}

/// The caches of a plugin, to be emptied when it stops.
#[derive(Default)]
pub(crate) struct Caches(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    closed: bool,
    totals: Option<Arc<Totals>>,
    caches: Vec<Weak<dyn Close>>,
}

trait Close: Send + Sync {
    fn close(&self);
}

impl<K: Clone + Eq + Hash + Send, V: Send> Close for Mutex<Store<K, V>> {
    fn close(&self) {
        let mut store = lock(self);
        store.closed = true;
        store.clear();
        store.tell();
    }
}

impl Caches {
    /// A cache that is measured by `own`, the metrics of the SDK.
    pub(super) fn make<K, V>(&self, limits: CacheLimits, own: &Metrics) -> Cache<K, V>
    where
        K: Clone + Eq + Hash + Send + 'static,
        V: Send + 'static,
    {
        let mut registered = lock(&self.0);
        let totals = registered.totals.get_or_insert_with(|| Arc::new(Totals::new(own)));
        let mut store = Store::new(limits, Meter::new(Arc::clone(totals)));
        store.closed = registered.closed;
        let store = Arc::new(Mutex::new(store));
        // One that nobody has any more needs no end.
        registered.caches.retain(|cache| cache.strong_count() > 0);
        let cache: Weak<Mutex<Store<K, V>>> = Arc::downgrade(&store);
        registered.caches.push(cache);
        Cache(store)
    }

    /// Empties all of them, for good.
    pub(crate) fn close(&self) {
        let mut registered = lock(&self.0);
        registered.closed = true;
        for cache in registered.caches.drain(..).filter_map(|cache| cache.upgrade()) {
            cache.close();
        }
    }
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caches")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only a type's own `Hash`, `Eq` or `Clone` can panic meanwhile; at worst an entry is lost then, which is what a
    // cache may do.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
