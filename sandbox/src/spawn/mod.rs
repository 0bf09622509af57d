//! Starting a compartment.

mod attempt;
mod prepare;
mod refusal;

use std::io;

use attempt::Failure;

use crate::cgroup::{CgroupError, Tree};
use crate::child::Ids;
use crate::enforcement::Missing;
use crate::floors::{self, FloorViolation};
use crate::launch::Launch;
use crate::layer::Layer;
use crate::policy::Strictness;
use crate::process::Child;
use crate::seccomp::CompileError;
use crate::stage::Stage;
use crate::support;

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
    /// The policy or the identity would lower a floor.
    #[error(transparent)]
    Floor(FloorViolation),
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
/// one that lives as long as the compartment should. Without a `tree` there is no cgroup, which
/// strict mode refuses.
pub fn spawn(tree: Option<&Tree>, launch: Launch<'_>) -> Result<Child, SpawnError> {
    prepare::check(&launch)?;
    floors::check_identity(launch.identity)?;
    let strict = launch.policy.strictness == Strictness::Strict;
    let ids = Ids::of(launch.identity);
    if strict {
        refusal::check(launch.policy, ids, tree, support::landlock_abi())?;
    }
    let child = match attempt::attempt(tree, &launch, ids, None) {
        Ok(child) => child,
        Err(Failure::Error(SpawnError::Stage { stage: Stage::Proc, source, hint, .. })) => {
            return Err(SpawnError::SandboxUnavailable {
                layer: Layer::Proc,
                why: format!("mounting a private /proc was refused: {source}"),
                remedy: hint.unwrap_or("do without `filesystem.proc`").to_owned(),
            });
        }
        Err(Failure::Error(error)) => return Err(error),
        Err(Failure::NoNamespaces((why, remedy))) if strict => {
            return Err(SpawnError::SandboxUnavailable {
                layer: Layer::UserNamespace,
                why,
                remedy,
            });
        }
        Err(Failure::NoNamespaces(reason)) => {
            match attempt::attempt(tree, &launch, ids, Some(&reason)) {
                Ok(child) => child,
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::NoNamespaces((why, remedy))) => {
                    return Err(SpawnError::SandboxUnavailable {
                        layer: Layer::UserNamespace,
                        why,
                        remedy,
                    });
                }
            }
        }
    };
    if strict
        && let Some(missing) = child.enforcement().missing().find(|missing| is_needed(missing))
    {
        // Dropping the child kills it and removes what is left.
        return Err(SpawnError::SandboxUnavailable {
            layer: missing.layer,
            why: missing.why.clone(),
            remedy: missing.remedy.clone(),
        });
    }
    Ok(child)
}

/// Strict mode does without what nobody can have without privilege: no supplementary group, and a uid of
/// its own, but that only where something stands in for it, which is of no uid but the invoking user's.
fn is_needed(missing: &Missing) -> bool {
    match missing.layer {
        Layer::Groups => false,
        Layer::Uid => missing.stood_in_by.is_none(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_does_without_a_uid_of_its_own_only_where_something_stands_in() {
        let missing = |layer, stands_in: Option<&str>| Missing {
            layer,
            why: String::new(),
            remedy: String::new(),
            stood_in_by: stands_in.map(str::to_owned),
        };
        assert!(!is_needed(&missing(Layer::Uid, Some("the private root"))));
        assert!(is_needed(&missing(Layer::Uid, None)), "another's uid, or the superuser's");
        assert!(!is_needed(&missing(Layer::Groups, None)));
        assert!(is_needed(&missing(Layer::Memory, Some("RLIMIT_DATA"))));
    }
}
