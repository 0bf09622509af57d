//! What plugins can be promised together, so that the sum of their limits is no promise that nobody can keep.
//!
//! Supervisor and launcher both hold it: the one to say so before anything is begun, the other because the
//! one may have been taken over. Memory and processes are what the administrator says, else what the machine
//! and the service's own cgroup have, less a reserve.

use std::path::{Path, PathBuf};

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::Admission;

/// Of what there is, plugins may be promised this share of tenths.
const SHARE: u64 = 9;

/// What one plugin may use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) pids: u64,
}

/// What all plugins may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) pids: u64,
}

/// One resource, and what of it all others have.
pub(crate) struct Share {
    pub(crate) resource: &'static str,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) asked: u64,
    /// Where more of it can be had.
    pub(crate) remedy: &'static str,
}

impl Share {
    /// # Errors
    /// [`Code::ResourceExhausted`] with `resource`, `limit`, `used`, `asked`.
    pub(crate) fn check(&self, id: &PluginId, others: usize) -> Result<(), Failure> {
        let Self { resource, limit, used, asked, remedy } = *self;
        if used.saturating_add(asked) <= limit {
            return Ok(());
        }
        let message = format!(
            "{id} cannot be enabled: the {others} that are may use {used} of {limit} ({resource}) \
             together, and it may use {asked} more; disable another, lower its limits, or raise {remedy}"
        );
        Err(Failure::new(Code::ResourceExhausted, message)
            .with("resource", resource)
            .with("limit", limit)
            .with("used", used)
            .with("asked", asked))
    }
}

impl Capacity {
    /// What the administrator says, else what the machine has.
    pub(crate) fn measure(configured: &Admission) -> Self {
        let cgroup = own_cgroup();
        let held = |file: &str| cgroup.as_deref().and_then(|path| lowest(path, file));
        let share = |total: u64| total / 10 * SHARE;
        let memory = configured.memory.unwrap_or_else(|| {
            share(total_memory().unwrap_or(u64::MAX).min(held("memory.max").unwrap_or(u64::MAX)))
        });
        let pids = configured.pids.unwrap_or_else(|| {
            let all = number(Path::new("/proc/sys/kernel/pid_max")).unwrap_or(u64::MAX);
            share(all.min(held("pids.max").unwrap_or(u64::MAX)))
        });
        Self { memory, pids }
    }

    /// Whether there is room for `asked` beside the others.
    ///
    /// # Errors
    /// Those of [`Share::check`].
    pub(crate) fn check(
        self,
        id: &PluginId,
        others: impl Iterator<Item = Demand>,
        asked: Demand,
    ) -> Result<(), Failure> {
        let (mut count, mut used) = (0, Demand::default());
        for other in others {
            count += 1;
            used.memory = used.memory.saturating_add(other.memory);
            used.pids = used.pids.saturating_add(other.pids);
        }
        let memory = Share {
            resource: "memory",
            limit: self.memory,
            used: used.memory,
            asked: asked.memory,
            remedy: "[admission] memory",
        };
        let pids = Share {
            resource: "pids",
            limit: self.pids,
            used: used.pids,
            asked: asked.pids,
            remedy: "[admission] pids",
        };
        memory.check(id, count).and_then(|()| pids.check(id, count))
    }
}

/// `MemTotal` in bytes.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The directory of our own cgroup, where cgroup v2 is mounted.
fn own_cgroup() -> Option<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    Some(Path::new(root).join(own))
}

/// The lowest of a limit in a cgroup and all above it; none where none is set.
fn lowest(cgroup: &Path, file: &str) -> Option<u64> {
    cgroup.ancestors().filter_map(|directory| number(&directory.join(file))).min()
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
