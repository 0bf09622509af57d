//! The storage of each plugin, and the uid that owns it.
//!
//! ```text
//! plugins/                 0700
//! plugins/<id>/            0700
//! plugins/<id>/data/       0700, owned by the plugin's uid: /data in its compartment
//! ```
//! The owner of `data` *is* the lease of the uid: there is no second record that could disagree with
//! it, and a launcher that starts finds the leases by looking. A uid is free again only when the last
//! file of its plugin is gone: what is being removed has a hidden name, and its owner is the uid that is
//! not free yet. Without privilege all storage belongs to the one uid there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bulkhead_sandbox::Identity;
use nix::unistd::{Gid, Uid, chown};

use super::clearing::Leftover;
use super::removal::{HIDDEN, Removal, hidden_name, remove_at_once};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::Lease;

/// The uids that may be leased: `first` and `count - 1` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UidRange {
    pub(super) first: u32,
    pub(super) count: u32,
}

impl UidRange {
    fn contains(self, uid: u32) -> bool {
        uid.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }
}

/// As whom plugins run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// Each plugin as a uid of its own.
    Leased(UidRange),
    /// All as the invoking user: without privilege there is no other.
    Invoker(u32),
}

impl Ownership {
    /// The uid, where it is one plugin's only.
    pub(super) fn leased(self, uid: u32) -> Option<u32> {
        matches!(self, Ownership::Leased(_)).then_some(uid)
    }

    /// Of a compartment that runs as `uid`, which is one of ours to give.
    pub(super) fn identity(self, uid: u32) -> Identity {
        match self {
            Ownership::Leased(_) => Identity::Leased { uid, gid: uid },
            Ownership::Invoker(_) => Identity::Invoker,
        }
    }
}

/// A plugin's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allotment {
    pub(super) uid: u32,
    pub(super) data: PathBuf,
}

pub(super) struct Storage {
    path: PathBuf,
    ownership: Ownership,
    leases: BTreeMap<PluginId, u32>,
    /// Of these, whose name in the directory may be lost to a power cut.
    unsynced: BTreeSet<PluginId>,
    /// Of storage that is still being removed.
    releasing: Vec<u32>,
    /// Of compartments that have no storage: see [`Storage::borrow_uid`].
    borrowed: Vec<u32>,
    /// What a dead launcher has not removed.
    left: Vec<Leftover>,
    /// Where the search for a free uid goes on, so that one just given back rests longest.
    next: u32,
}

/// A release under way.
pub(super) struct Release {
    uid: u32,
    removal: Removal,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} belongs to uid {uid}, outside the range {first}+{count} of this configuration; \
         restore `[uids]` or move the directory away"
    )]
    ForeignUid { path: PathBuf, uid: u32, first: u32, count: u32 },
    #[error("{first} and {second} both belong to uid {uid}; move one of them away")]
    SharedUid { first: PathBuf, second: PathBuf, uid: u32 },
}

impl Storage {
    /// Opens or creates the storage, and finds the leases and the removals that a dead launcher had begun.
    pub(super) fn open(path: PathBuf, ownership: Ownership) -> Result<Self, StorageError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StorageError::Io { path, source }
        };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(&path)(error)),
            _ => {}
        }
        let mut storage = Self {
            ownership,
            leases: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            releasing: Vec::new(),
            borrowed: Vec::new(),
            left: Vec::new(),
            next: match ownership {
                Ownership::Leased(range) => range.first,
                Ownership::Invoker(uid) => uid,
            },
            path,
        };
        let entries = fs::read_dir(&storage.path).map_err(io(&storage.path))?;
        for entry in entries {
            let entry = entry.map_err(io(&storage.path))?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<PluginId>().ok()) else {
                if name.as_encoded_bytes().starts_with(HIDDEN.as_bytes()) {
                    storage.leave(entry.path());
                } else {
                    tracing::warn!(path = %entry.path().display(), "this is no plugin's storage");
                }
                continue;
            };
            storage.adopt(id)?;
        }
        Ok(storage)
    }

    fn adopt(&mut self, id: PluginId) -> Result<(), StorageError> {
        let data = self.data(&id);
        let uid = match fs::symlink_metadata(&data) {
            Ok(metadata) if metadata.is_dir() => metadata.uid(),
            Ok(_) => {
                let source = std::io::Error::from(ErrorKind::NotADirectory);
                return Err(StorageError::Io { path: data, source });
            }
            // Allotment makes the two directories one after the other: this one was interrupted.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let home = self.home(&id);
                match Removal::begin(&home, &self.path) {
                    Ok(removal) => self.left.extend(removal.map(|it| Leftover::of(it, None))),
                    Err(error) => {
                        tracing::warn!(path = %home.display(), %error, "this is no plugin's storage, and cannot be removed");
                    }
                }
                return Ok(());
            }
            Err(source) => return Err(StorageError::Io { path: data, source }),
        };
        if let Ownership::Leased(range) = self.ownership {
            if !range.contains(uid) {
                let UidRange { first, count } = range;
                return Err(StorageError::ForeignUid { path: data, uid, first, count });
            }
            if let Some((other, _)) = self.leases.iter().find(|(_, leased)| **leased == uid) {
                return Err(StorageError::SharedUid { first: self.data(other), second: data, uid });
            }
            self.next = self.next.max(uid.saturating_add(1));
        }
        self.leases.insert(id, uid);
        Ok(())
    }

    /// Keeps what a dead launcher was removing for later, and its uid leased until then.
    pub(super) fn leave(&mut self, path: PathBuf) {
        let owner = |path: &Path| fs::symlink_metadata(path).ok().map(|found| found.uid());
        let uid = match self.ownership {
            // Of storage, and of a package that was being unpacked.
            Ownership::Leased(range) => [&path, &path.join("data"), &path.join("tree")]
                .into_iter()
                .filter_map(|path| owner(path))
                .find(|uid| range.contains(*uid)),
            Ownership::Invoker(_) => None,
        };
        self.releasing.extend(uid);
        self.left.push(Leftover::new(path, uid));
    }

    /// What a dead launcher has not removed, once.
    pub(super) fn take_left(&mut self) -> Vec<Leftover> {
        std::mem::take(&mut self.left)
    }

    /// Processes of a dead launcher that cannot be ended run as these: they are nobody else's.
    pub(super) fn hold(&mut self, uids: impl IntoIterator<Item = u32>) {
        self.borrowed.extend(uids);
    }

    fn home(&self, id: &PluginId) -> PathBuf {
        self.path.join(id.as_str())
    }

    fn data(&self, id: &PluginId) -> PathBuf {
        self.home(id).join("data")
    }

    /// What the plugin has.
    pub(super) fn get(&self, id: &PluginId) -> Option<Allotment> {
        self.leases.get(id).map(|uid| Allotment { uid: *uid, data: self.data(id) })
    }

    /// The leases after that one, in the order of their ids, at most `limit`; whether there are more.
    pub(super) fn leases_after(
        &self,
        after: Option<&PluginId>,
        limit: usize,
    ) -> (Vec<Lease>, bool) {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.leases.range::<PluginId, _>((begin, Bound::Unbounded));
        let leases = rest
            .by_ref()
            .take(limit)
            .map(|(id, _)| {
                // What cannot be looked into is not claimed to be empty.
                let empty = fs::read_dir(self.data(id)).is_ok_and(|mut it| it.next().is_none());
                Lease { id: id.clone(), empty }
            })
            .collect();
        (leases, rest.next().is_some())
    }

    /// What the plugin has, or a new uid and empty storage.
    ///
    /// New storage can be lost to a power cut until its directory is synced: [`Storage::is_synced`].
    ///
    /// RESOURCE_EXHAUSTED: every uid of the range is leased. STORAGE_FAILED: nothing was made.
    pub(super) fn allot(&mut self, id: &PluginId) -> Result<Allotment, Failure> {
        if let Some(allotment) = self.get(id) {
            return Ok(allotment);
        }
        let uid = self.free_uid()?;
        let (home, data) = (self.home(id), self.data(id));
        let make = || -> std::io::Result<()> {
            // Made complete under a hidden name: a lease is never without its owner.
            let hidden = hidden_name(&self.path)?;
            self.fill(&hidden, uid).and_then(|()| fs::rename(&hidden, &home)).inspect_err(|_| {
                // If not now, then at the next start.
                let _ = remove_at_once(&hidden);
            })
        };
        make().map_err(|error| {
            Failure::new(
                Code::StorageFailed,
                format!("cannot make the storage {}: {error}", data.display()),
            )
            .with("path", &data)
        })?;
        self.leases.insert(id.clone(), uid);
        self.unsynced.insert(id.clone());
        self.rest(uid);
        Ok(Allotment { uid, data })
    }

    /// The directory in which all storage has its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a power cut leaves the plugin's storage where it is.
    pub(super) fn is_synced(&self, id: &PluginId) -> bool {
        !self.unsynced.contains(id)
    }

    /// The directory was synced after that storage was made.
    pub(super) fn synced(&mut self, id: &PluginId) {
        self.unsynced.remove(id);
    }

    fn fill(&self, home: &Path, uid: u32) -> std::io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).create(home)?;
        builder.create(home.join("data"))?;
        if matches!(self.ownership, Ownership::Leased(_)) {
            let gid = Gid::from_raw(uid);
            chown(&home.join("data"), Some(Uid::from_raw(uid)), Some(gid))?;
        }
        Ok(())
    }

    /// The search for the next uid begins after this one.
    fn rest(&mut self, uid: u32) {
        if let Ownership::Leased(range) = self.ownership {
            self.next = if range.contains(uid + 1) { uid + 1 } else { range.first };
        }
    }

    fn free_uid(&self) -> Result<u32, Failure> {
        let range = match self.ownership {
            Ownership::Invoker(uid) => return Ok(uid),
            Ownership::Leased(range) => range,
        };
        let start = self.next.saturating_sub(range.first) % range.count.max(1);
        (0..range.count)
            .map(|step| range.first + (start + step) % range.count)
            .find(|uid| !self.taken().any(|taken| taken == uid))
            .ok_or_else(|| {
                Failure::new(
                    Code::ResourceExhausted,
                    format!(
                        "all {} uids from {} are leased; uninstall a plugin or widen `[uids]`",
                        range.count, range.first
                    ),
                )
                .with("resource", "uids")
                .with("limit", range.count)
                .with("used", self.taken().count())
            })
    }

    fn taken(&self) -> impl Iterator<Item = &u32> {
        self.leases.values().chain(&self.releasing).chain(&self.borrowed)
    }

    /// A uid for something that has no storage and does not outlive this launcher. It is nobody
    /// else's until [`Storage::return_uid`].
    pub(super) fn borrow_uid(&mut self) -> Result<u32, Failure> {
        let uid = self.free_uid()?;
        self.borrowed.push(uid);
        self.rest(uid);
        Ok(uid)
    }

    /// Nothing runs as that uid any more, and no file belongs to it.
    pub(super) fn return_uid(&mut self, uid: u32) {
        if let Some(index) = self.borrowed.iter().position(|borrowed| *borrowed == uid) {
            self.borrowed.swap_remove(index);
        }
    }

    /// Takes the storage out of sight; its removal is done in pieces, and the uid is free only at
    /// the end of them. `None`: there is none.
    pub(super) fn release(&mut self, id: &PluginId) -> Result<Option<Release>, Failure> {
        let Some(uid) = self.leases.get(id).copied() else { return Ok(None) };
        let home = self.home(id);
        let removal = Removal::begin(&home, &self.path).map_err(|error| {
            Failure::new(Code::StorageFailed, format!("cannot remove {}: {error}", home.display()))
                .with("path", &home)
        })?;
        self.leases.remove(id);
        self.unsynced.remove(id);
        Ok(removal.map(|removal| {
            if let Some(uid) = self.ownership.leased(uid) {
                // For the next launcher; if it fails, the owner of what is in it tells as much.
                let _ = removal.name_owner(uid);
            }
            self.releasing.push(uid);
            Release { uid, removal }
        }))
    }

    /// `true` when nothing is left. A failure leaves the rest hidden, and its uid leased, until the
    /// next start tries again.
    pub(super) fn step_release(&mut self, release: &mut Release) -> Result<bool, Failure> {
        let done = release.removal.step().map_err(|error| {
            Failure::new(
                Code::StorageFailed,
                format!("cannot remove what is left of a plugin's storage: {error}"),
            )
            .with("path", &self.path)
        })?;
        if done {
            self.is_released(release.uid);
        }
        Ok(done)
    }

    /// Nothing of that uid is left.
    pub(super) fn is_released(&mut self, uid: u32) {
        if let Some(index) = self.releasing.iter().position(|releasing| *releasing == uid) {
            self.releasing.swap_remove(index);
        }
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
