//! How much a plugin keeps on disk, held against what its manifest may have.
//!
//! Theory of operation. The limit of a single file is the kernel's (RLIMIT_FSIZE); the sum is
//! sampled: the launcher counts `/data`, the store knows the state. A plugin that is over its limit is
//! stopped, and does not start again before it is not. So between two samples it can be over its
//! limit by what it can write in that time; `inspect` says `storage: sampled`.
//!
//! Where an administrator has given its uid a hard limit on the file system (`bulkhead quota-init`),
//! the launcher tells that with the count. A hard limit that is not above the plugin's own is the one
//! that counts (`hard`): what it writes beyond fails with EDQUOT, which is its own affair, and it is
//! warned of and not stopped. Above one, its own is sampled as ever.

use bulkhead_sandbox::quota::Quota;
use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Reply, Request, StorageUsage};
use crate::refusal::Barrier;
use crate::supervise::launcher_link::{Launcher, unexpected};
use crate::supervise::store::Store;

/// What a write may be refused as a whole, in bytes, so a disk is full for its writer while so much of the limit
/// is left: of the last MiB of a limit, ext4 took a part on kernel 6.12 and nothing on 7.
const LARGE_WRITE: u64 = 1 << 20;

/// A file takes an inode, however short it is: a limit of so many bytes also is one of a file each.
const BYTES_PER_FILE: u64 = 4096;
/// So many files are always allowed.
const MIN_FILES: u64 = 1024;

/// How many files so many bytes can be.
pub(crate) fn files_of(bytes: u64) -> u64 {
    (bytes / BYTES_PER_FILE).max(MIN_FILES)
}

/// How much is left of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    #[default]
    Low,
    /// At least eight tenths are used: whoever was warned at nine is not yet at ease.
    Uneasy,
    /// At least nine tenths are used.
    Near,
    /// The hard limit is reached, as far as can be told: a file system reserves in pieces.
    Full,
}

impl Pressure {
    /// That of so much, of a limit that nothing is refused at yet.
    pub(crate) fn of(used: u64, limit: u64) -> Self {
        let tenths = u128::from(used) * 10;
        if tenths >= u128::from(limit) * 9 {
            Self::Near
        } else if tenths >= u128::from(limit) * 8 {
            Self::Uneasy
        } else {
            Self::Low
        }
    }
}

/// How much of one of its limits a plugin uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) pressure: Pressure,
    /// `storage` or `storage files`.
    pub(crate) resource: &'static str,
    pub(crate) limit: u64,
    pub(crate) used: u64,
}

/// How a limit is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Enforced {
    /// By the file system: what would be more is not written.
    Hard,
    /// By looking, and stopping the plugin. The limit of one file is the kernel's all the same.
    Sampled,
}

/// What a plugin keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// Keys and values of its state.
    pub(crate) state_bytes: u64,
    /// On disk beneath `/data`.
    pub(crate) data_bytes: u64,
    /// Files and directories beneath `/data`, itself included.
    pub(crate) data_files: u64,
    /// What the file system lets it keep in `/data`; null: it sets no limit.
    pub(crate) hard_limit_bytes: Option<u64>,
    /// So many files and directories; null: it sets no limit.
    pub(crate) hard_limit_files: Option<u64>,
    /// Of the hard limits: with what is reserved and not yet on disk.
    #[serde(skip)]
    charged: Charged,
    #[serde(skip)]
    uncounted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Charged {
    bytes: u64,
    files: u64,
}

impl Kept {
    /// Looks how much it is now.
    pub(crate) async fn measure(
        launcher: &Launcher,
        store: &Store,
        id: &PluginId,
    ) -> Result<Self, Failure> {
        let data = match launcher.ask(Request::Measure { id: id.clone() }).await? {
            (Reply::Measured(data), _) => data,
            (other, _) => return Err(unexpected(&other)),
        };
        Ok(Self::new(store.state_size(id.clone()).await?, data))
    }

    fn new(state_bytes: u64, data: StorageUsage) -> Self {
        let StorageUsage { bytes, files, uncounted, quota } = data;
        let Quota { limit_bytes, limit_files, used_bytes, used_files } = quota.unwrap_or_default();
        Self {
            state_bytes,
            data_bytes: bytes,
            data_files: files,
            hard_limit_bytes: limit_bytes,
            hard_limit_files: limit_files,
            charged: Charged { bytes: used_bytes, files: used_files },
            uncounted,
        }
    }

    /// In `/data`, and in its state.
    pub(crate) fn bytes(&self) -> u64 {
        self.state_bytes.saturating_add(self.data_bytes)
    }

    /// RESOURCE_EXHAUSTED: it is more than `limit` bytes, more files than these can be, or cannot
    /// be counted.
    pub(crate) fn check(&self, id: &PluginId, limit: u64) -> Result<(), Failure> {
        let (max_files, bytes) = (files_of(limit), self.bytes());
        // The number of files goes with the bytes. The line that would allow it says twice what is given
        // here, so that is doubled until it is enough.
        let for_files = limit.saturating_mul(self.data_files.div_ceil(max_files.max(1)));
        let needed = bytes.max(for_files);
        let mut half = limit;
        while half > 0 && half.saturating_mul(2) < needed {
            half = half.saturating_mul(2);
        }
        let mut barrier = Barrier::storage(half);
        if self.uncounted {
            barrier.remedy = None;
        }
        let exhausted = |resource: &str, limit: u64, used: u64, what: String| {
            let failure = Failure::new(
                Code::ResourceExhausted,
                format!("{id} {what}; remove what is not needed from its storage, or raise `storage` in [limits]"),
            )
            .with("resource", resource)
            .with("limit", limit)
            .with("used", used);
            Err(barrier.clone().explain(failure))
        };
        if self.uncounted {
            let what =
                "has directories in /data that cannot be counted: nested more than 64 deep, \
                        or closed to their owner"
                    .to_owned();
            return exhausted("storage", limit, bytes, what);
        }
        if bytes > limit {
            let what = format!("keeps {bytes} bytes in /data and in its state, of {limit} allowed");
            return exhausted("storage", limit, bytes, what);
        }
        if self.data_files > max_files {
            let what = format!("keeps {} files in /data, of {max_files} allowed", self.data_files);
            return exhausted("storage files", max_files, self.data_files, what);
        }
        Ok(())
    }

    /// What it may keep, of the `limit` of its manifest and of the hard one, and who sees to that.
    pub(crate) fn bound(&self, limit: u64) -> (Enforced, u64) {
        match self.hard_limit_bytes {
            Some(hard) if hard <= limit => (Enforced::Hard, hard),
            _ => (Enforced::Sampled, limit),
        }
    }

    /// What is nearest to its limit: to the `limit` of its manifest, or to a hard one.
    pub(crate) fn fill(&self, limit: u64) -> Fill {
        let own = Fill {
            pressure: Pressure::of(self.bytes(), limit),
            resource: "storage",
            limit,
            used: self.bytes(),
        };
        let hard = [
            ("storage", self.hard_limit_bytes, self.charged.bytes),
            ("storage files", self.hard_limit_files, self.charged.files),
        ];
        let of_hard = hard.into_iter().filter_map(|(resource, limit, used)| {
            let limit = limit?;
            let unit = if resource == "storage" { LARGE_WRITE.min(limit / 8) } else { 0 };
            let full = limit.saturating_sub(used) <= unit.max(limit / 100);
            let pressure = if full { Pressure::Full } else { Pressure::of(used, limit) };
            Some(Fill { pressure, resource, limit, used })
        });
        // Of equal ones the hard, which is the one that refuses.
        of_hard.fold(own, |worst, next| if next.pressure >= worst.pressure { next } else { worst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(state_bytes: u64, bytes: u64, files: u64, uncounted: bool) -> Kept {
        Kept::new(state_bytes, StorageUsage { bytes, files, uncounted, quota: None })
    }

    #[test]
    fn what_is_over_a_limit_is_named() {
        let id = "guest".parse().unwrap();
        let check = |kept: Kept| kept.check(&id, 100 << 20);
        assert_eq!(check(kept(50 << 20, 50 << 20, 25_600, false)), Ok(()));
        let failure = check(kept((50 << 20) + 1, 50 << 20, 1, false)).unwrap_err();
        assert_eq!(failure.code, Code::ResourceExhausted);
        assert_eq!(failure.details["used"], (100 << 20) + 1);
        assert_eq!(failure.details["layer"], "quota");
        assert_eq!(failure.details["remedy"], "[limits] storage = \"200M\"");
        let remedy = |kept: Kept| check(kept).unwrap_err().details.get("remedy").cloned();
        assert_eq!(remedy(kept(0, 900 << 20, 1, false)).unwrap(), "[limits] storage = \"1600M\"");
        let failure = check(kept(0, 0, 25_601, false)).unwrap_err();
        assert_eq!(failure.details["resource"], "storage files");
        assert_eq!(failure.details["remedy"], "[limits] storage = \"200M\"");
        assert_eq!(remedy(kept(0, 0, 80_000, false)).unwrap(), "[limits] storage = \"400M\"");
        assert!(check(kept(0, 0, 1, true)).unwrap_err().message.contains("deep"));
        assert!(remedy(kept(0, 0, 1, true)).unwrap().is_null(), "no size would help");
        assert_eq!(kept(0, 91 << 20, 1, false).fill(100 << 20).pressure, Pressure::Near);
        assert_eq!(kept(0, 89 << 20, 1, false).fill(100 << 20).pressure, Pressure::Uneasy);
        assert_eq!(kept(0, 79 << 20, 1, false).fill(100 << 20).pressure, Pressure::Low);
    }

    /// With a hard limit of 64 MiB and 1024 files, of which so much is used.
    fn bounded(used_bytes: u64, used_files: u64) -> Kept {
        let quota =
            Quota { limit_bytes: Some(64 << 20), limit_files: Some(1024), used_bytes, used_files };
        let usage =
            StorageUsage { bytes: used_bytes, files: used_files, ..StorageUsage::default() };
        Kept::new(0, StorageUsage { quota: Some(quota), ..usage })
    }

    #[test]
    fn the_lower_limit_is_the_one_that_counts() {
        let kept = bounded(1 << 20, 1);
        assert_eq!(kept.bound(256 << 20), (Enforced::Hard, 64 << 20));
        assert_eq!(kept.bound(64 << 20), (Enforced::Hard, 64 << 20));
        assert_eq!(kept.bound(16 << 20), (Enforced::Sampled, 16 << 20));
        let unbounded = Kept::new(0, StorageUsage::default());
        assert_eq!(unbounded.bound(16 << 20), (Enforced::Sampled, 16 << 20));
        // Its own limit holds whatever the file system allows.
        let id = "guest".parse().unwrap();
        assert!(bounded(17 << 20, 1).check(&id, 16 << 20).is_err());
        assert_eq!(bounded(64 << 20, 1).check(&id, 256 << 20), Ok(()), "a full one is not stopped");
    }

    #[test]
    fn a_hard_limit_that_is_reached_is_told_whichever_it_is() {
        let pressure = |bytes: u64, files| bounded(bytes, files).fill(256 << 20).pressure;
        assert_eq!(pressure(1 << 20, 1), Pressure::Low);
        assert_eq!(pressure(60 << 20, 1), Pressure::Near);
        assert_eq!(pressure(62 << 20, 1), Pressure::Near);
        assert_eq!(pressure(63 << 20, 1), Pressure::Full, "a large write is refused as a whole");
        assert_eq!(pressure(64 << 20, 1), Pressure::Full);
        assert_eq!(pressure(1 << 20, 1000), Pressure::Near);
        assert_eq!(pressure(1 << 20, 1024), Pressure::Full);
        assert_eq!(bounded(15 << 20, 1).fill(16 << 20).pressure, Pressure::Near, "its own");
        let files = bounded(1 << 20, 1000).fill(256 << 20);
        assert_eq!((files.resource, files.limit, files.used), ("storage files", 1024, 1000));
    }

    #[test]
    fn a_small_limit_still_allows_some_files() {
        assert_eq!(kept(0, 4096, 1024, false).check(&"guest".parse().unwrap(), 8192), Ok(()));
    }
}
