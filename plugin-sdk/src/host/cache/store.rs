//! The entries of a cache, and the orders in which they go.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io::{self, Write};

use serde::Serialize;
use tokio::time::Instant;

use super::{CacheLimits, CacheStats, Meter};
use crate::error::{Error, Result};

pub(super) struct Store<K, V> {
    pub(super) limits: CacheLimits,
    pub(super) counts: CacheStats,
    pub(super) closed: bool,
    /// How often something was removed on purpose.
    pub(super) removals: u64,
    meter: Meter,
    slots: HashMap<K, Slot<V>>,
    /// By the number of the last use.
    by_use: BTreeMap<u64, K>,
    /// By the number of the making.
    by_age: BTreeMap<u64, K>,
    /// The last number that was given.
    number: u64,
    bytes: usize,
}

struct Slot<V> {
    value: V,
    weight: usize,
    made: u64,
    used: u64,
    since: Instant,
}

impl<K: Clone + Eq + Hash, V> Store<K, V> {
    pub(super) fn new(limits: CacheLimits, meter: Meter) -> Self {
        Self {
            limits,
            counts: CacheStats::default(),
            closed: false,
            removals: 0,
            meter,
            slots: HashMap::new(),
            by_use: BTreeMap::new(),
            by_age: BTreeMap::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// Puts in what fits by itself, and evicts what does not fit beside it. The key has no value.
    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.expire();
        while self.slots.len() >= self.limits.entries || self.bytes + weight > self.limits.bytes {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            let oldest = oldest.clone();
            self.remove(&oldest);
            self.counts.evictions += 1;
        }
        let number = self.next();
        self.by_use.insert(number, key.clone());
        self.by_age.insert(number, key.clone());
        self.bytes += weight;
        let slot = Slot { value, weight, made: number, used: number, since: Instant::now() };
        self.slots.insert(key, slot);
    }

    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
        V: Clone,
    {
        self.expire();
        let number = self.next();
        let Some(slot) = self.slots.get_mut(key) else {
            self.counts.misses += 1;
            return None;
        };
        if let Some(key) = self.by_use.remove(&slot.used) {
            self.by_use.insert(number, key);
        }
        slot.used = number;
        self.counts.hits += 1;
        Some(slot.value.clone())
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(slot) = self.slots.remove(key) else { return false };
        self.by_use.remove(&slot.used);
        self.by_age.remove(&slot.made);
        self.bytes -= slot.weight;
        true
    }

    pub(super) fn clear(&mut self) {
        // Their memory as well, not only the entries.
        self.slots = HashMap::new();
        self.by_use.clear();
        self.by_age.clear();
        self.bytes = 0;
    }

    /// How it fares, which the metrics get as well.
    pub(super) fn tell(&mut self) -> CacheStats {
        self.expire();
        let stats = CacheStats { entries: self.slots.len(), bytes: self.bytes, ..self.counts };
        self.meter.tell(stats);
        stats
    }

    /// Removes what has lived its time.
    fn expire(&mut self) {
        while let Some((_, oldest)) = self.by_age.first_key_value() {
            let oldest = oldest.clone();
            let since = self.slots.get(&oldest).map(|slot| slot.since);
            if since.is_some_and(|since| since.elapsed() < self.limits.age) {
                return;
            }
            self.remove(&oldest);
            self.counts.expired += 1;
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// The bytes of a value as JSON, without making it.
pub(super) fn weigh(value: &impl Serialize) -> Result<usize> {
    struct Count(usize);

    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .map_err(|error| Error::internal(error).context("what cannot be JSON cannot be cached"))?;
    Ok(count.0)
}
