//! `bulkhead doctor`: what this machine enforces, layer by layer.

mod attack;

use std::process::ExitCode;

use bulkhead_sandbox::Layer;
use bulkhead_sandbox::probe::{State, probe};
use serde_json::json;

use super::args::Doctor;
use super::exec::delegation;
use super::problem::Problem;
use super::render::{self, Screen};
use super::{Ended, finish, quota};
use crate::config::Config;
use crate::failure::Failure;

/// 0 if strict runs here with the default policy, 1 if it does not.
pub(super) fn run(screen: &mut Screen, arguments: &Doctor) -> ExitCode {
    let config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(failure) => return finish(Err(Problem::from(failure).into()), screen.json()),
    };
    let machine = probe();
    if machine.layer(Layer::Cgroup).is_some_and(|layer| layer.state == State::Missing) {
        // Answers for the scope in which `exec` would run too; comes back where there is none.
        delegation::run_again_in_a_scope();
    }
    if arguments.attack {
        return attack::run(screen);
    }
    let strict = machine.is_strict_possible();
    let storage = quota::survey(&config);
    let shown = if screen.json() {
        serde_json::to_value(&machine)
            .map_err(|error| Ended::from(Problem::from(Failure::internal(error))))
            .and_then(|mut document| {
                document["strict"] = json!(strict);
                document["storage"] = json!(storage);
                Ok(screen.document(&document)?)
            })
    } else {
        render::machine(screen, &machine).and_then(|()| storage.show(screen)).map_err(Ended::from)
    };
    match shown {
        Ok(()) if strict => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        ended => finish(ended, screen.json()),
    }
}
