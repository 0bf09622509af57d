//! Hearing of a refusal when it happens.
//!
//! Theory of operation. The kernel tells by inotify(7) when `memory.events` or `pids.events` of a cgroup
//! changes (Documentation/admin-guide/cgroup-v2.rst), so one descriptor hears of all plugins. A watch is
//! for one change and is set again with each sample: a plugin that is refused something thousands of times
//! wakes us once in an interval. Where nothing can be watched, the samples find the same, later.

use std::collections::HashMap;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, WatchDescriptor};

use crate::id::PluginId;
use crate::inotify::Notices;

/// The files that tell of refusals.
const FILES: [&str; 2] = ["memory.events", "pids.events"];

pub(super) struct Watches {
    /// None: this machine gives no watches.
    notices: Option<Notices>,
    armed: HashMap<WatchDescriptor, (PluginId, u64)>,
}

impl Watches {
    pub(super) fn new() -> Self {
        let notices = Notices::new()
            .inspect_err(|error| {
                tracing::warn!(%error, "what plugins are refused is told with the samples only");
            })
            .ok();
        Self { notices, armed: HashMap::new() }
    }

    /// Watches the cgroup of a start.
    pub(super) fn arm(&mut self, plugin: &PluginId, generation: u64, cgroup: &Path) {
        let Some(notices) = &self.notices else { return };
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT;
        for file in FILES {
            match notices.watch(&cgroup.join(file), flags) {
                Ok(watch) => {
                    self.armed.insert(watch, (plugin.clone(), generation));
                }
                // There is no such controller, or it has ended.
                Err(error) => tracing::debug!(%plugin, file, %error, "not watched"),
            }
        }
    }

    /// The starts of whose cgroup something has changed. Dropped meanwhile, it forgets nothing.
    pub(super) async fn changed(&mut self) -> Vec<(PluginId, u64)> {
        loop {
            let Some(notices) = &self.notices else { std::future::pending().await };
            match notices.next().await {
                Ok(events) => {
                    // A watch that was for one change, or whose file is gone, is no more.
                    let mut changed: Vec<_> =
                        events.iter().filter_map(|event| self.armed.remove(&event.wd)).collect();
                    changed.dedup();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "what plugins are refused is told with the samples only");
                    self.notices = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once_until_it_is_watched_again() {
        let cgroup = tempfile::tempdir().unwrap();
        let file = cgroup.path().join("pids.events");
        std::fs::write(&file, "max 0\n").unwrap();
        let plugin: PluginId = "a".parse().unwrap();
        let mut watches = Watches::new();
        let deadline = Duration::from_secs(60);
        for round in 1..=2_u64 {
            watches.arm(&plugin, round, cgroup.path());
            for line in ["max 1\n", "max 2\n"] {
                std::fs::write(&file, line).unwrap();
            }
            let changed = tokio::time::timeout(deadline, watches.changed()).await.unwrap();
            assert_eq!(changed, [(plugin.clone(), round)]);
            assert!(watches.armed.is_empty());
        }
        // Nothing is there that could be told.
        let more = tokio::time::timeout(Duration::ZERO, watches.changed()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
