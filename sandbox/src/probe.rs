//! What this machine can enforce, layer by layer, tried rather than assumed.

mod kernel;

use nix::sys::utsname::uname;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupError, Controller, Tree};
use crate::cover;
use crate::enforcement::Missing;
use crate::layer::Layer;
use crate::policy::Policy;
use crate::support;

/// What a machine can enforce. `bulkhead doctor` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Our effective uid: what can be enforced depends on it.
    pub uid: u32,
    /// The kernel's Landlock ABI, 0 where it has none or does not enable it.
    pub landlock_abi: u32,
    /// One entry per layer, in the order of [`Layer`].
    pub layers: Vec<Capability>,
}

/// One layer of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Which.
    pub layer: Layer,
    /// Whether it can be enforced.
    pub state: State,
    /// What was found, for a person: `ABI 6: files, TCP ports, scopes`.
    pub detail: String,
    /// What would change it, where something would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What covers part of it meanwhile, if anything: `RLIMIT_DATA, per process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_in_by: Option<String>,
}

/// Whether a machine can enforce a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In full.
    Enforced,
    /// Not all of it, or something lesser stands in.
    Partial,
    /// Not at all.
    Missing,
}

impl Machine {
    /// Whether [`crate::Strictness::Strict`] with the default policy would start here.
    pub fn is_strict_possible(&self) -> bool {
        self.lacking().next().is_none()
    }

    /// Says that the kernel's audit is there after all: the service manager opened it for us.
    pub fn is_given_audit(&mut self) {
        if let Some(found) = self.layers.iter_mut().find(|found| found.layer == Layer::Audit) {
            let detail = "given by the service manager: a call that seccomp refuses can be named";
            *found = Capability::new(Layer::Audit, State::Enforced, detail);
        }
    }

    /// The layers that strict needs and that are not there.
    pub fn lacking(&self) -> impl Iterator<Item = &Capability> {
        self.layers
            .iter()
            .filter(|found| found.layer.is_required() && found.state == State::Missing)
    }

    /// What a compartment under `policy` would lack here, as [`crate::Enforcement::missing`] tells it of one
    /// that was started.
    pub fn missing<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = Missing> + 'a {
        let own_uid = self.layer(Layer::Uid).is_some_and(|found| found.state == State::Enforced);
        let facts = policy.facts(namespaced(&self.layers), own_uid, self.landlock_abi);
        let involved = self.layers.iter().filter(|found| policy.involves(found.layer));
        involved.filter_map(move |found| {
            let (why, remedy) = match found.layer {
                // What covers the lack of a right is the policy's.
                Layer::LandlockFiles | Layer::LandlockNetwork | Layer::LandlockScopes => {
                    cover::uncovered(found.layer, policy, &facts)?
                }
                _ if found.state == State::Enforced => return None,
                _ => (found.detail.clone(), found.remedy.clone().unwrap_or_default()),
            };
            let stood_in_by = found.stood_in_by.clone();
            Some(Missing { layer: found.layer, why, remedy, stood_in_by })
        })
    }

    /// The entry of a layer.
    pub fn layer(&self, layer: Layer) -> Option<&Capability> {
        self.layers.iter().find(|found| found.layer == layer)
    }
}

impl Capability {
    fn new(layer: Layer, state: State, detail: impl Into<String>) -> Capability {
        Capability { layer, state, detail: detail.into(), remedy: None, stood_in_by: None }
    }

    fn or(mut self, remedy: impl Into<String>) -> Capability {
        if self.state != State::Enforced {
            self.remedy = Some(remedy.into());
        }
        self
    }

    fn instead(mut self, stands_in: Option<&str>) -> Capability {
        if self.state != State::Enforced {
            self.stood_in_by = stands_in.map(str::to_owned);
        }
        self
    }
}

/// Tries every layer, most of them in a process that is forked for it.
///
/// The cgroup is tried as [`Tree::discover`] does it, which moves this process into a leaf of the
/// cgroup that is delegated to it. A caller that has a tree already gives it to [`probe_with`].
pub fn probe() -> Machine {
    probe_with(Tree::discover().as_ref())
}

/// As [`probe`], with the cgroup tree that was found, or why none was.
pub fn probe_with(tree: Result<&Tree, &CgroupError>) -> Machine {
    let mut layers = kernel::namespaces();
    let namespaced = namespaced(&layers);
    layers.extend(kernel::identity(namespaced));
    layers.extend(cgroup(tree, kernel::counts_processes(namespaced)));
    layers.extend(
        [
            (Layer::OpenFiles, "RLIMIT_NOFILE"),
            (Layer::FileSize, "RLIMIT_FSIZE"),
            (Layer::OomScore, "oom_score_adj"),
            (Layer::Capabilities, "all are given up"),
            (Layer::NoNewPrivs, "PR_SET_NO_NEW_PRIVS"),
        ]
        .map(|(layer, detail)| Capability::new(layer, State::Enforced, detail)),
    );
    layers.extend(kernel::landlock(namespaced));
    layers.push(kernel::seccomp());
    layers.push(kernel::audit());
    layers.sort_by_key(|found| found.layer);
    let system = uname();
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    Machine {
        kernel: system.as_ref().map_or(String::new(), |system| text(system.release())),
        architecture: system.as_ref().map_or(String::new(), |system| text(system.machine())),
        uid: geteuid().as_raw(),
        landlock_abi: support::landlock_abi(),
        layers,
    }
}

/// Whether a compartment has namespaces: all of them, and a root of its own, or none.
fn namespaced(layers: &[Capability]) -> bool {
    let is_needed = |layer| layer == Layer::PrivateRoot || Layer::NAMESPACES.contains(&layer);
    !layers.iter().any(|found| is_needed(found.layer) && found.state != State::Enforced)
}

/// `counted`: a limit of processes for a uid counts those of the compartment and no others.
fn cgroup(tree: Result<&Tree, &CgroupError>, counted: bool) -> Vec<Capability> {
    let controllers = [
        (Layer::Memory, Controller::Memory, Some("RLIMIT_DATA, per process")),
        (Layer::Pids, Controller::Pids, counted.then_some("RLIMIT_NPROC, for its uid")),
        (Layer::Cpu, Controller::Cpu, None),
        (Layer::Io, Controller::Io, None),
    ];
    let tree = match tree {
        Ok(tree) => tree,
        Err(error) => {
            let missing =
                |layer, detail| Capability::new(layer, State::Missing, detail).or(error.remedy());
            let mut layers = vec![missing(Layer::Cgroup, error.to_string())];
            layers.extend(controllers.map(|(layer, _, stands_in)| {
                missing(layer, "no cgroup".to_owned()).instead(stands_in)
            }));
            return layers;
        }
    };
    let mut layers = vec![Capability::new(
        Layer::Cgroup,
        State::Enforced,
        format!("{}: seen, frozen and killed as a whole", tree.path().display()),
    )];
    layers.extend(controllers.map(|(layer, controller, stands_in)| {
        if tree.controllers().contains(&controller) {
            return Capability::new(layer, State::Enforced, format!("cgroup v2 controller `{controller}`"));
        }
        let detail = format!("no cgroup v2 controller `{controller}` here");
        let remedy = format!(
            "boot with systemd.unified_cgroup_hierarchy=1, so that `{controller}` is not bound to a v1 hierarchy, and have it delegated (Delegate=yes)"
        );
        Capability::new(layer, State::Missing, detail).or(remedy).instead(stands_in)
    }));
    layers
}

#[cfg(test)]
mod tests;
