//! `bulkhead doctor`: what this machine enforces, layer by layer.

use std::process::ExitCode;

use bulkhead_sandbox::Layer;
use bulkhead_sandbox::probe::{State, probe};
use serde_json::json;

use super::exec::delegation;
use super::problem::Problem;
use super::render::{self, Screen};
use super::{Ended, finish};
use crate::failure::Failure;

/// 0 if strict runs here with the default policy, 1 if it does not.
pub(super) fn run(screen: &mut Screen) -> ExitCode {
    let machine = probe();
    if machine.layer(Layer::Cgroup).is_some_and(|layer| layer.state == State::Missing) {
        // Answers for the scope in which `exec` would run too; comes back where there is none.
        delegation::run_again_in_a_scope();
    }
    let strict = machine.is_strict_possible();
    let shown = if screen.json() {
        serde_json::to_value(&machine)
            .map_err(|error| Ended::from(Problem::from(Failure::internal(error))))
            .and_then(|mut document| {
                document["strict"] = json!(strict);
                Ok(screen.document(&document)?)
            })
    } else {
        render::machine(screen, &machine).map_err(Ended::from)
    };
    match shown {
        Ok(()) if strict => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        ended => finish(ended, screen.json()),
    }
}
