//! Whether the machine has room for one more plugin: what all that are up may use at most, together.
//!
//! Theory of operation. Each plugin has limits, and the kernel holds them; this keeps their sum within
//! what there is ([`Capacity`]). Descriptors are summed against what the supervisor may open, as it holds
//! a few for each plugin. A plugin counts from the moment it is let in, before it
//! runs, so that two that are enabled at the same time do not share the last place. A uid of its own
//! each has had since it was installed, so there is nothing to count.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use nix::sys::resource::{Resource, getrlimit};

use super::Registry;
use crate::capacity::{Capacity, Demand, Share};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::manifest::Limits;
use crate::supervise::plugin::PluginHandle;

/// What the supervisor holds for a plugin: session, output, spools, its log, a cgroup being read.
const DESCRIPTORS_EACH: u64 = 8;
/// What it needs for itself and for the clients of its API.
const DESCRIPTORS_OWN: u64 = 64;

fn demand(limits: &Limits) -> Demand {
    Demand { memory: limits.memory.bytes(), pids: limits.pids.into() }
}

/// Whether the supervisor, which may open so many `descriptors`, can serve one more beside the others.
fn check_descriptors(id: &PluginId, descriptors: u64, others: usize) -> Result<(), Failure> {
    let share = Share {
        resource: "descriptors",
        limit: descriptors.saturating_sub(DESCRIPTORS_OWN),
        used: others as u64 * DESCRIPTORS_EACH,
        asked: DESCRIPTORS_EACH,
        remedy: "LimitNOFILE= of the service",
    };
    share.check(id, others)
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
    /// [`Code::ResourceExhausted`](crate::failure::Code::ResourceExhausted) with `resource`, `limit`,
    /// `used`, `asked`.
    pub(super) fn admit(&self, handle: &PluginHandle) -> Result<Place<'_>, Failure> {
        let id = &handle.manifest.id;
        let asked = demand(&handle.manifest.limits);
        let mut admitted = self.admitted();
        let mut others = admitted.clone();
        for other in self.all().into_iter().filter(|other| other.view().state != "disabled") {
            others.insert(other.manifest.id.clone(), demand(&other.manifest.limits));
        }
        if others.remove(id).is_none() {
            let capacity = Capacity::measure(&self.settings.admission);
            capacity.check(id, others.values().copied(), asked)?;
            let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
            check_descriptors(id, descriptors, others.len())?;
        }
        admitted.insert(id.clone(), asked);
        Ok(Place { registry: self, id: id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisors_descriptors_are_counted() {
        let id = "c".parse().unwrap();
        check_descriptors(&id, DESCRIPTORS_OWN + 24, 2).unwrap();
        let failure = check_descriptors(&id, DESCRIPTORS_OWN + 24, 3).unwrap_err();
        assert_eq!(failure.details["resource"], "descriptors");
    }
}
