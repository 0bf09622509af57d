//! What became of the trusted keys from one look to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{KeyId, PublicKey, Scope, TrustStore, TrustedKey};
use crate::failure::Failure;

/// What counts of a key: not its comment, nor when its file was touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// `None`: its file is not what it must be, so that it is not trusted.
    pub(crate) key: Option<PublicKey>,
    pub(crate) plugins: Vec<Scope>,
    pub(crate) revoked: Option<String>,
}

impl Standing {
    const BROKEN: Self = Self { key: None, plugins: Vec::new(), revoked: None };

    fn of(key: TrustedKey) -> Self {
        Self { key: Some(key.key), plugins: key.plugins, revoked: key.revoked }
    }
}

/// All keys of a store at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Snapshot(BTreeMap<KeyId, Standing>);

/// Something that was done to one key. Who did it nobody can know: whoever it was could write the
/// store, and has left a file with an owner and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) id: KeyId,
    pub(crate) kind: ChangeKind,
    pub(crate) before: Option<Standing>,
    pub(crate) after: Option<Standing>,
    /// The uid that owns the key's file, if there is one.
    pub(crate) owner: Option<u32>,
    /// When that was last written, since the epoch.
    pub(crate) modified: Option<Duration>,
}

/// What was done. Others rely on the names: one is never renamed, only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChangeKind {
    Added,
    /// Its file is gone.
    Removed,
    Revoked,
    /// It was revoked, and is not any more.
    Reinstated,
    /// Another key has its name now.
    Replaced,
    /// It may sign other plugins.
    Rescoped,
    /// Its file is not what it must be.
    Broken,
}

impl Snapshot {
    /// As the store is now.
    pub(crate) fn of(store: &TrustStore) -> Result<Self, Failure> {
        let mut keys = BTreeMap::new();
        for (path, key) in store.list()? {
            // A file that is named for no key is never looked for.
            let Some(id) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) else {
                continue;
            };
            match key {
                Ok(key) => {
                    keys.insert(id, Standing::of(key));
                }
                Err(_) => {
                    keys.entry(id).or_insert(Standing::BROKEN);
                }
            }
        }
        Ok(Self(keys))
    }

    /// What was done to a store that was like `before`.
    pub(crate) fn since(&self, before: &Self, store: &TrustStore) -> Vec<Change> {
        let ids: BTreeSet<&KeyId> = before.0.keys().chain(self.0.keys()).collect();
        ids.into_iter()
            .filter_map(|id| {
                let (before, after) = (before.0.get(id), self.0.get(id));
                let kind = kind(before, after)?;
                let file = fs::metadata(store.file(*id)).ok();
                Some(Change {
                    id: *id,
                    kind,
                    before: before.cloned(),
                    after: after.cloned(),
                    owner: file.as_ref().map(fs::Metadata::uid),
                    modified: file.and_then(|file| since_epoch(file.modified().ok()?)),
                })
            })
            .collect()
    }

    /// As it is after a change.
    pub(crate) fn apply(&mut self, change: &Change) {
        match &change.after {
            Some(standing) => {
                self.0.insert(change.id, standing.clone());
            }
            None => {
                self.0.remove(&change.id);
            }
        }
    }
}

fn since_epoch(time: SystemTime) -> Option<Duration> {
    time.duration_since(UNIX_EPOCH).ok()
}

/// What was done, if anything: the gravest of it.
fn kind(before: Option<&Standing>, after: Option<&Standing>) -> Option<ChangeKind> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => return Some(ChangeKind::Added),
        (Some(_), None) => return Some(ChangeKind::Removed),
        (Some(before), Some(after)) => (before, after),
    };
    if before == after {
        return None;
    }
    Some(match (&before.key, &after.key) {
        (_, None) => ChangeKind::Broken,
        (before, after) if before != after => ChangeKind::Replaced,
        _ => match (&before.revoked, &after.revoked) {
            (None, Some(_)) => ChangeKind::Revoked,
            (Some(_), None) => ChangeKind::Reinstated,
            _ => ChangeKind::Rescoped,
        },
    })
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
