//! `bulkhead doctor`: what this machine enforces, layer by layer, and the compartment of the service's own
//! supervisor where a service runs.

mod attack;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_sandbox::probe::{State, probe};
use bulkhead_sandbox::{Enforcement, Layer};
use serde_json::json;

use super::args::{Doctor, Global};
use super::client::{Ask, Client, socket_path};
use super::exec::delegation;
use super::problem::Problem;
use super::render::{self, Screen};
use super::{Ended, block_on, finish, quota};
use crate::config::Config;
use crate::failure::Failure;

/// How long a service may take to answer; one that hangs is nothing that doctor waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// 0 if strict runs here with the default policy, 1 if it does not.
pub(super) fn run(screen: &mut Screen, arguments: &Doctor, global: &Global) -> ExitCode {
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
    let supervisor = supervisor(global);
    let shown = if screen.json() {
        serde_json::to_value(&machine)
            .map_err(|error| Ended::from(Problem::from(Failure::internal(error))))
            .and_then(|mut document| {
                document["strict"] = json!(strict);
                document["storage"] = json!(storage);
                document["supervisor"] = json!(supervisor);
                Ok(screen.document(&document)?)
            })
    } else {
        render::machine(screen, &machine)
            .and_then(|()| storage.show(screen))
            .and_then(|()| show_supervisor(screen, supervisor.as_ref()))
            .map_err(Ended::from)
    };
    match shown {
        Ok(()) if strict => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        ended => finish(ended, screen.json()),
    }
}

/// The compartment of the supervisor as it measured it. `None`: no service runs that we may ask.
fn supervisor(global: &Global) -> Option<Enforcement> {
    let client = Client::new(socket_path(global.socket.as_deref()));
    let asked = async {
        let asked = client.json(Ask::get("/v1/machine"));
        Ok(tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok))
    };
    let machine: serde_json::Value = block_on(asked).ok().flatten()?;
    serde_json::from_value(machine["supervisor"].clone()).ok()
}

fn show_supervisor(screen: &mut Screen, found: Option<&Enforcement>) -> io::Result<()> {
    let Some(found) = found else { return Ok(()) };
    screen.line("\nthe supervisor of the service that runs, in a compartment of its own\n")?;
    render::enforcement(screen, found)
}
