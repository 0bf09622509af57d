//! Whether the machine has room for one more plugin: what all that are up may use at most, together.
//!
//! Theory of operation. Each plugin has limits, and the kernel holds them; this keeps their sum from
//! becoming a promise that nobody can keep. Memory and processes are summed against what the machine
//! and the service's own cgroup have, less a reserve, and descriptors against what the supervisor may
//! open, as it holds a few for each plugin. A plugin counts from the moment it is let in, before it
//! runs, so that two that are enabled at the same time do not share the last place. A uid of its own
//! each has had since it was installed, so there is nothing to count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use nix::sys::resource::{Resource, getrlimit};

use super::Registry;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::Admission;
use crate::manifest::Limits;
use crate::supervise::plugin::PluginHandle;

/// Of what there is, plugins may be promised this share of tenths.
const SHARE: u64 = 9;
/// What the supervisor holds for a plugin: session, output, spools, its log, a cgroup being read.
const DESCRIPTORS_EACH: u64 = 8;
/// What it needs for itself and for the clients of its API.
const DESCRIPTORS_OWN: u64 = 64;

/// What one plugin may use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    memory: u64,
    pids: u64,
}

impl Demand {
    fn of(limits: &Limits) -> Self {
        Self { memory: limits.memory.bytes(), pids: limits.pids.into() }
    }
}

/// What all plugins may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capacity {
    memory: u64,
    pids: u64,
    descriptors: u64,
}

/// Whether there is room for `asked` beside the others.
fn admit(
    id: &PluginId,
    capacity: Capacity,
    others: &BTreeMap<PluginId, Demand>,
    asked: Demand,
) -> Result<(), Failure> {
    let sum = |of: fn(&Demand) -> u64| others.values().map(of).fold(0, u64::saturating_add);
    let count = others.len() as u64;
    for (resource, limit, used, asked, remedy) in [
        ("memory", capacity.memory, sum(|it| it.memory), asked.memory, "[admission] memory"),
        ("pids", capacity.pids, sum(|it| it.pids), asked.pids, "[admission] pids"),
        (
            "descriptors",
            capacity.descriptors,
            count * DESCRIPTORS_EACH,
            DESCRIPTORS_EACH,
            "LimitNOFILE= of the service",
        ),
    ] {
        if used.saturating_add(asked) > limit {
            return Err(Failure::new(
                Code::ResourceExhausted,
                format!(
                    "{id} cannot be enabled: the {count} that are may use {used} of {limit} \
                     ({resource}) together, and it may use {asked} more; disable another, lower its \
                     limits, or raise {remedy}"
                ),
            )
            .with("resource", resource)
            .with("limit", limit)
            .with("used", used)
            .with("asked", asked));
        }
    }
    Ok(())
}

/// A plugin that was let in and does not run yet; dropped, it counts no more for that.
pub(super) struct Place<'a> {
    registry: &'a Registry,
    id: PluginId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.admitted().remove(&self.id);
    }
}

impl Registry {
    fn admitted(&self) -> std::sync::MutexGuard<'_, BTreeMap<PluginId, Demand>> {
        // Nothing that holds it can leave the table half changed.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a plugin in, until it runs or the place is dropped. One that is up already has its place.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`] with `resource`, `limit`, `used`, `asked`.
    pub(super) fn admit(&self, handle: &PluginHandle) -> Result<Place<'_>, Failure> {
        let id = &handle.manifest.id;
        let asked = Demand::of(&handle.manifest.limits);
        let mut admitted = self.admitted();
        let mut others = admitted.clone();
        for other in self.all().into_iter().filter(|other| other.view().state != "disabled") {
            others.insert(other.manifest.id.clone(), Demand::of(&other.manifest.limits));
        }
        if others.remove(id).is_none() {
            admit(id, Capacity::measure(&self.settings.admission), &others, asked)?;
        }
        admitted.insert(id.clone(), asked);
        Ok(Place { registry: self, id: id.clone() })
    }
}

impl Capacity {
    /// What the administrator says, else what the machine has.
    fn measure(configured: &Admission) -> Self {
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
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        Self { memory, pids, descriptors: descriptors.saturating_sub(DESCRIPTORS_OWN) }
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
#[path = "admission_tests.rs"]
mod tests;
