//! Where a test can hold an operation to kill a process there. Debug builds only.
//!
//! `BULKHEAD_PAUSE_AT=<operation>/<step>/<moment>` stops the supervisor (SIGSTOP) the first time that
//! it comes by: `before` the step's work, `after` it and before its completion is recorded, or before
//! its `undo`. Once only: a file in the state directory, `paused`, tells the next supervisor.

use super::super::Registry;
use super::Kind;
#[cfg(debug_assertions)]
use super::Step;

/// The import of a tree, which comes before the steps: nothing is intended for a plugin that is not
/// known yet.
pub(in crate::supervise::registry) const FETCH: &str = "fetch";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise::registry) enum Moment {
    Before,
    After,
    Undo,
}

#[cfg(debug_assertions)]
impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Undo => "undo",
        }
    }
}

#[cfg(debug_assertions)]
pub(in crate::supervise::registry) fn pause(
    registry: &Registry,
    kind: Kind,
    step: &str,
    moment: Moment,
) {
    let Ok(wanted) = std::env::var(crate::link::PAUSE_VARIABLE) else { return };
    let here = format!("{}/{step}/{}", kind.name(), moment.name());
    let marker = registry.settings.state.join("paused");
    if wanted == here && std::fs::File::create_new(&marker).is_ok() {
        tracing::warn!(here, "paused for a test");
        if let Err(error) = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP) {
            tracing::error!(here, %error, "not paused");
        }
    }
}

#[cfg(not(debug_assertions))]
pub(in crate::supervise::registry) fn pause(_: &Registry, _: Kind, _: &str, _: Moment) {}

/// All places, for a test that leaves none out.
#[cfg(debug_assertions)]
pub(crate) fn points() -> Vec<String> {
    let mut points = Vec::new();
    for kind in Kind::ALL {
        let mut add = |step: &str, moment: Moment| {
            points.push(format!("{}/{step}/{}", kind.name(), moment.name()));
        };
        if matches!(kind, Kind::Install | Kind::Upgrade) {
            add(FETCH, Moment::Before);
            add(FETCH, Moment::After);
        }
        for step in kind.steps() {
            add(step.name(), Moment::Before);
            add(step.name(), Moment::After);
        }
        for step in kind.steps().iter().rev().filter(|step| has_undo(kind, **step)) {
            add(step.name(), Moment::Undo);
        }
    }
    points
}

/// Whether a failure can lead there: an uninstallation fails before it is past its return only where
/// the kernel does not let go of a process.
#[cfg(debug_assertions)]
fn has_undo(kind: Kind, step: Step) -> bool {
    kind != Kind::Uninstall && !kind.is_past_return(step)
}
