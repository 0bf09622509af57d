//! How much a plugin keeps on disk, held against what its manifest may have.
//!
//! Theory of operation. The limit of a single file is the kernel's (RLIMIT_FSIZE); the sum is
//! sampled: the launcher counts `/data`, the store knows the state. A plugin that is over its limit is
//! stopped, and does not start again before it is not. So between two samples it can be over its
//! limit by what it can write in that time; `inspect` says `storage: sampled`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Reply, Request, StorageUsage};
use crate::supervise::launcher_link::{Launcher, unexpected};
use crate::supervise::store::Store;

/// A file takes an inode, however short it is: a limit of so many bytes also is one of a file each.
const BYTES_PER_FILE: u64 = 4096;
/// So many files are always allowed.
const MIN_FILES: u64 = 1024;

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
    #[serde(skip)]
    uncounted: bool,
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
        let StorageUsage { bytes, files, uncounted } = data;
        Self { state_bytes, data_bytes: bytes, data_files: files, uncounted }
    }

    fn bytes(&self) -> u64 {
        self.state_bytes.saturating_add(self.data_bytes)
    }

    /// RESOURCE_EXHAUSTED: it is more than `limit` bytes, more files than these can be, or cannot
    /// be counted.
    pub(crate) fn check(&self, id: &PluginId, limit: u64) -> Result<(), Failure> {
        let (max_files, bytes) = ((limit / BYTES_PER_FILE).max(MIN_FILES), self.bytes());
        let exhausted = |resource: &str, limit: u64, used: u64, what: String| {
            Err(Failure::new(
                Code::ResourceExhausted,
                format!("{id} {what}; remove what is not needed from its storage, or raise `storage` in [limits]"),
            )
            .with("resource", resource)
            .with("limit", limit)
            .with("used", used))
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

    /// Whether little is left.
    pub(crate) fn is_near(&self, limit: u64) -> bool {
        self.bytes() > limit - limit / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(state_bytes: u64, bytes: u64, files: u64, uncounted: bool) -> Kept {
        Kept::new(state_bytes, StorageUsage { bytes, files, uncounted })
    }

    #[test]
    fn what_is_over_a_limit_is_named() {
        let id = "guest".parse().unwrap();
        let check = |kept: Kept| kept.check(&id, 100 << 20);
        assert_eq!(check(kept(50 << 20, 50 << 20, 25_600, false)), Ok(()));
        let failure = check(kept((50 << 20) + 1, 50 << 20, 1, false)).unwrap_err();
        assert_eq!(failure.code, Code::ResourceExhausted);
        assert_eq!(failure.details["used"], (100 << 20) + 1);
        let failure = check(kept(0, 0, 25_601, false)).unwrap_err();
        assert_eq!(failure.details["resource"], "storage files");
        assert!(check(kept(0, 0, 1, true)).unwrap_err().message.contains("deep"));
        assert!(kept(0, 91 << 20, 1, false).is_near(100 << 20));
        assert!(!kept(0, 89 << 20, 1, false).is_near(100 << 20));
    }

    #[test]
    fn a_small_limit_still_allows_some_files() {
        assert_eq!(kept(0, 4096, 1024, false).check(&"guest".parse().unwrap(), 8192), Ok(()));
    }
}
