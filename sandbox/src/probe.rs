//! What this machine can enforce, layer by layer, tried rather than assumed.

mod kernel;

use nix::sys::utsname::uname;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupError, Controller, Tree};
use crate::layer::Layer;

/// What a machine can enforce. `bulkhead doctor` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Our effective uid: what can be enforced depends on it.
    pub uid: u32,
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

    /// The entry of a layer.
    pub fn layer(&self, layer: Layer) -> Option<&Capability> {
        self.layers.iter().find(|found| found.layer == layer)
    }
}

impl Capability {
    fn new(layer: Layer, state: State, detail: impl Into<String>) -> Capability {
        Capability { layer, state, detail: detail.into(), remedy: None }
    }

    fn or(mut self, remedy: impl Into<String>) -> Capability {
        if self.state != State::Enforced {
            self.remedy = Some(remedy.into());
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
    let mut layers = kernel::identity();
    layers.extend(kernel::namespaces());
    layers.extend(cgroup(tree));
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
    layers.extend(kernel::landlock());
    layers.push(kernel::seccomp());
    layers.push(kernel::audit());
    layers.sort_by_key(|found| found.layer);
    let system = uname();
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    Machine {
        kernel: system.as_ref().map_or(String::new(), |system| text(system.release())),
        architecture: system.as_ref().map_or(String::new(), |system| text(system.machine())),
        uid: geteuid().as_raw(),
        layers,
    }
}

fn cgroup(tree: Result<&Tree, &CgroupError>) -> Vec<Capability> {
    let controllers = [
        (Layer::Memory, Controller::Memory, "RLIMIT_DATA stands in, per process"),
        (Layer::Pids, Controller::Pids, "RLIMIT_NPROC stands in, per uid"),
        (Layer::Cpu, Controller::Cpu, "nothing stands in"),
        (Layer::Io, Controller::Io, "nothing stands in"),
    ];
    let tree = match tree {
        Ok(tree) => tree,
        Err(error) => {
            let why = error.to_string();
            let mut layers =
                vec![Capability::new(Layer::Cgroup, State::Missing, &why).or(error.remedy())];
            layers.extend(controllers.map(|(layer, _, stands_in)| {
                let detail = format!("no cgroup; {stands_in}");
                Capability::new(layer, State::Missing, detail).or(error.remedy())
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
            Capability::new(layer, State::Enforced, format!("cgroup v2 controller `{controller}`"))
        } else {
            let detail = format!("no cgroup v2 controller `{controller}` here; {stands_in}");
            Capability::new(layer, State::Missing, detail).or(format!(
                "boot with systemd.unified_cgroup_hierarchy=1, so that `{controller}` is not bound to a v1 hierarchy, and have it delegated (Delegate=yes)"
            ))
        }
    }));
    layers
}

#[cfg(test)]
mod tests;
