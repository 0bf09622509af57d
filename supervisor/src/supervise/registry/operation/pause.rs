//! Where a test can hold an operation to kill a process there. Debug builds only.
//!
//! `BULKHEAD_PAUSE_AT=<operation>/<step>/<moment>` stops the supervisor (SIGSTOP) the first time that
//! it comes by: `before` the step's work, `after` it and before its completion is recorded, or before
//! its `undo`. Once only: a file in the state directory, `paused`, tells the next supervisor.

use super::super::Registry;
#[cfg(debug_assertions)]
use super::{Kind, Step};

/// The import of a tree, which comes before the steps: nothing is intended for a plugin that is not
/// known yet.
pub(in crate::supervise::registry) const FETCH: &str = "fetch";
/// What a plugin depends on was enabled, within the step that starts it.
pub(super) const DEPENDENCIES: &str = "dependencies";
/// A disabling, which is not journalled.
pub(in crate::supervise) const DISABLE: &str = "disable";
/// That it is wanted to be disabled is stored.
pub(in crate::supervise) const WANT: &str = "want";
/// It is stopped.
pub(in crate::supervise) const STOP: &str = "stop";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervise) enum Moment {
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
pub(in crate::supervise) fn pause(
    registry: &Registry,
    operation: &str,
    step: &str,
    moment: Moment,
) {
    let Ok(wanted) = std::env::var(crate::link::PAUSE_VARIABLE) else { return };
    let here = format!("{operation}/{step}/{}", moment.name());
    let marker = registry.settings.state.join("paused");
    if wanted == here && std::fs::File::create_new(&marker).is_ok() {
        tracing::warn!(here, "paused for a test");
        if let Err(error) = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP) {
            tracing::error!(here, %error, "not paused");
        }
    }
}

#[cfg(not(debug_assertions))]
pub(in crate::supervise) fn pause(_: &Registry, _: &str, _: &str, _: Moment) {}

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
            if (kind, *step) == (Kind::Enable, Step::Start) {
                add(DEPENDENCIES, Moment::After);
            }
            add(step.name(), Moment::After);
        }
        for step in kind.steps().iter().rev().filter(|step| has_undo(kind, **step)) {
            add(step.name(), Moment::Undo);
        }
    }
    for (step, moment) in [(WANT, Moment::Before), (WANT, Moment::After), (STOP, Moment::After)] {
        points.push(format!("{DISABLE}/{step}/{}", moment.name()));
    }
    points
}

/// Whether a failure can lead there: an uninstallation fails before it is past its return only where
/// the kernel does not let go of a process.
#[cfg(debug_assertions)]
fn has_undo(kind: Kind, step: Step) -> bool {
    kind != Kind::Uninstall && !kind.is_past_return(step)
}
