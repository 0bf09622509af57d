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
    // Without namespaces nothing starts under strict either.
    let facts = policy.facts(true, ids.own, landlock_abi);
    for layer in [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes] {
        if policy.involves(layer)
            && let Some((why, remedy)) = cover::uncovered(layer, policy, &facts)
        {
            return unavailable(layer, why, format!("{remedy}, or choose best-effort"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{DiskMax, IoMax};

    #[test]
    fn a_bound_on_disks_needs_the_controller_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let tree = |controllers: &str| {
            for part in ["", "plugins"] {
                let place = directory.path().join(part);
                std::fs::create_dir_all(&place).unwrap();
                for name in ["cgroup.controllers", "cgroup.subtree_control"] {
                    std::fs::write(place.join(name), controllers).unwrap();
                }
            }
            Tree::at(directory.path()).unwrap()
        };
        let ids = Ids { uid: 7, gid: 7, change: true, own: true };
        let (mut plain, mut disks, mut device) =
            (Policy::default(), Policy::default(), Policy::default());
        disks.limits.disks = Some(DiskMax { rbps: Some(1 << 20), ..DiskMax::default() });
        let io =
            IoMax { device: "8:0".into(), rbps: Some(1), wbps: None, riops: None, wiops: None };
        device.limits.io = vec![io];
        plain.limits.io.clear();
        let without = tree("memory pids cpu");
        let refused = |policy| check(policy, ids, Some(&without), 6).err();
        assert!(refused(&plain).is_none());
        for policy in [&disks, &device] {
            assert!(policy.involves(Layer::Io));
            let Some(SpawnError::SandboxUnavailable { layer: Layer::Io, why, .. }) =
                refused(policy)
            else {
                panic!("{:?}", refused(policy));
            };
            assert!(why.contains("`io`"), "{why}");
        }
        let with = tree("memory pids cpu io");
        for policy in [&plain, &disks, &device] {
            check(policy, ids, Some(&with), 6).unwrap();
        }
    }
}
