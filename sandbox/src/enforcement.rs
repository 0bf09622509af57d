//! What a compartment was measured to be.
//!
//! Asking the kernel for a restriction and having it are two things. An [`Enforcement`] is built
//! once per start from what was read back: the child's own report (Landlock's status, a file that
//! must not open), `/proc/PID/status` and `/proc/PID/ns` after the exec, and the cgroup's files.

use serde::{Deserialize, Serialize};

use crate::layer::Layer;

/// The measured compartment. Built by [`crate::spawn`], never by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// One entry per layer that the policy involves, in the order of [`Layer`].
    pub layers: Vec<Measured>,
}

/// One layer: what was asked for and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub layer: Layer,
    /// What the policy asks for, for a person: `64 MiB`, `profile plugin`.
    pub asked: String,
    /// What was read back.
    pub measured: String,
    /// Whether the one is the other.
    pub enforced: bool,
    /// Where it is not: why, what would change it, and what stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// A layer that this machine does not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub layer: Layer,
    /// Why it is missing.
    pub why: String,
    /// What a person can do about it.
    pub remedy: String,
    /// What covers part of it meanwhile, if anything: `RLIMIT_DATA 64 MiB per process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood_in_by: Option<String>,
}

impl Enforcement {
    /// The layers that are asked for and not in force. Empty: all of the policy is enforced.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.layers.iter().filter_map(|measured| measured.missing.as_ref())
    }

    /// Whether every layer that was asked for is in force.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|measured| measured.enforced)
    }

    /// The entry of a layer; `None` if the policy does not involve it.
    pub fn layer(&self, layer: Layer) -> Option<&Measured> {
        self.layers.iter().find(|measured| measured.layer == layer)
    }
}
