//! What strict mode needs, held against what there is, before anything is started.

use super::SpawnError;
use crate::cgroup::{Controller, Tree};
use crate::child::Ids;
use crate::cover;
use crate::layer::Layer;
use crate::policy::Policy;

/// Why there is no cgroup tree to put a compartment in, in words.
pub(super) fn no_tree() -> (String, String) {
    (
        "no cgroup is delegated to this process".to_owned(),
        "start it through `systemd-run --scope -p Delegate=yes` (with --user if not root), or as a service with Delegate=yes".to_owned(),
    )
}

/// The first layer that strict mode needs and that is known to be missing.
pub(super) fn check(
    policy: &Policy,
    ids: Ids,
    tree: Option<&Tree>,
    landlock_abi: u32,
) -> Result<(), SpawnError> {
    let unavailable = |layer, why: String, remedy: String| {
        Err(SpawnError::SandboxUnavailable { layer, why, remedy })
    };
    if !ids.own && ids.uid == 0 {
        return unavailable(
            Layer::Uid,
            "it would run as the superuser's uid, which owns the machine's files".to_owned(),
            "lease it a uid of its own".to_owned(),
        );
    }
    let Some(tree) = tree else {
        let (why, remedy) = no_tree();
        return unavailable(Layer::Cgroup, why, remedy);
    };
    let needed = [
        (Layer::Memory, Controller::Memory, true),
        (Layer::Pids, Controller::Pids, true),
        (Layer::Cpu, Controller::Cpu, true),
        (Layer::Io, Controller::Io, policy.limits.bound_io()),
    ];
    for (layer, controller, needed) in needed {
        if needed && !tree.controllers().contains(&controller) {
            return unavailable(
                layer,
                format!("the cgroup v2 controller `{controller}` is not available in {}", tree.path().display()),
                "boot with systemd.unified_cgroup_hierarchy=1 and have it delegated (Delegate=yes), or choose best-effort".to_owned(),
            );
        }
    }
    for layer in [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes] {
        if policy.involves(layer)
            && let Some((why, remedy)) = cover::uncovered(layer, policy, landlock_abi)
        {
            return unavailable(layer, why, format!("{remedy}, or choose best-effort"));
        }
    }
    Ok(())
}
