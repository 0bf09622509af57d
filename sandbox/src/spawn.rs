//! Starting a compartment.

use std::io;

use crate::cgroup::{CgroupError, Tree};
use crate::floors::FloorViolation;
use crate::launch::Launch;
use crate::layer::Layer;
use crate::process::Child;
use crate::seccomp::CompileError;
use crate::stage::Stage;

/// Why nothing was started. Whatever the variant, nothing is left behind: no process, no cgroup, no
/// descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Under [`crate::Strictness::Strict`]: the machine lacks a layer.
    #[error("this machine cannot enforce `{layer}`: {why}; {remedy}")]
    SandboxUnavailable {
        /// The layer.
        layer: Layer,
        /// Why it is missing.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The policy or the launch says something that cannot be.
    #[error("{field} {value:?}: {why}")]
    Invalid {
        /// The field, for example `filesystem.mounts.target`.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// A path that is not plain and absolute.
    #[error(transparent)]
    Path(#[from] FloorViolation),
    /// The policy names a system call that can never be allowed, or none at all.
    #[error(transparent)]
    Syscall(#[from] CompileError),
    /// The compartment's cgroup could not be made.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A step in our own process failed.
    #[error("{action} failed: {source}")]
    Parent {
        /// What was tried.
        action: String,
        /// The error.
        source: io::Error,
    },
    /// A step in the new process failed.
    #[error("the compartment failed at {stage}{}: {source}{}", subject.as_deref().map(|of| format!(" of {of}")).unwrap_or_default(), hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Stage {
        /// The step.
        stage: Stage,
        /// What it was about, where it was about a path: `/data`.
        subject: Option<String>,
        /// The error.
        source: io::Error,
        /// What to do, where it is known.
        hint: Option<&'static str>,
    },
    /// The new process ended without a word, for example because memory ran out.
    #[error("the compartment ended after {after} without a word ({status})")]
    Vanished {
        /// The last step that it told of.
        after: Stage,
        /// Its wait status, in words.
        status: String,
    },
}

/// Starts a compartment and returns once the program executes, or with the step that failed.
///
/// Blocks for as long as that takes, about a millisecond. May be called from any thread of any
/// process, but the compartment dies with the *thread* that called (PR_SET_PDEATHSIG): call it from
/// one that lives as long as the compartment should.
pub fn spawn(tree: Option<&Tree>, launch: Launch<'_>) -> Result<Child, SpawnError> {
    let _ = (tree, launch);
    Err(SpawnError::SandboxUnavailable {
        layer: Layer::UserNamespace,
        why: "this build cannot start a compartment yet".to_owned(),
        remedy: "use a later one".to_owned(),
    })
}
