//! The command line: each verb, what it prints, and its exit code.
//!
//! `serve` and `supervise` are the roles of the service; `exec` and `doctor` use the sandbox
//! directly; all other verbs are clients of the admin API and have no way in of their own.

mod archives;
mod args;
mod audit;
mod client;
mod conformance;
mod consent;
mod dev;
mod doctor;
mod exec;
mod follow;
mod install;
mod keys;
mod learn;
mod manual;
mod new;
mod packages;
mod password;
mod permissions;
mod problem;
mod progress;
mod project;
mod quota;
mod render;
mod roles;
mod run;
mod schedules;
mod top;
mod trust;
mod uninstall;
mod upgrade;
mod verbs;

use std::io;
use std::process::ExitCode;

use self::args::{Arguments, Global, Verb};
use self::client::{Client, socket_path};
use self::problem::Problem;
use self::render::Screen;
use crate::failure::{Code, Failure};

/// How a verb can end early.
#[derive(Debug)]
enum Ended {
    Problem(Problem),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Reads the arguments and does what they say. A mistake in them is exit code 2.
pub(crate) fn main() -> ExitCode {
    let Arguments { global, verb } = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return misread(&error),
    };
    match verb {
        Verb::Exec(arguments) => exec::run(&arguments, &global),
        Verb::Serve(arguments) => roles::serve(&arguments, &global),
        Verb::Supervise => roles::supervise(&global),
        #[cfg(debug_assertions)]
        Verb::PausePoints => finish(manual::pause_points(&mut Screen::stdout(false)), global.json),
        Verb::Unpack => crate::package::unpack::run(),
        Verb::ArchiveData { limit } => crate::plugin_data::save(limit),
        Verb::RestoreData => crate::plugin_data::restore(),
        Verb::Attack => ExitCode::from(bulkhead_sandbox::attack::main()),
        Verb::Run(arguments) => run::run(&arguments, &global),
        Verb::Dev(arguments) => dev::dev(&arguments, &global),
        Verb::Test(arguments) => conformance::test(&arguments, &global),
        Verb::Learn(arguments) => learn::learn(&arguments, &global),
        Verb::Trust(verb) => trust::run(&verb, &global),
        Verb::QuotaInit(arguments) => quota::run(&arguments, &global),
        Verb::Doctor(arguments) => {
            doctor::run(&mut Screen::stdout(global.json), &arguments, &global)
        }
        Verb::New(arguments) => {
            finish(new::new(&mut Screen::stdout(global.json), &arguments), global.json)
        }
        Verb::Pack(arguments) => {
            finish(packages::pack(&mut Screen::stdout(global.json), &arguments), global.json)
        }
        Verb::Keygen(arguments) => {
            finish(keys::keygen(&mut Screen::stdout(global.json), &arguments), global.json)
        }
        Verb::Sign(arguments) => {
            finish(keys::sign(&mut Screen::stdout(global.json), &arguments), global.json)
        }
        Verb::Verify(arguments) => {
            finish(keys::verify(&mut Screen::stdout(global.json), &arguments), global.json)
        }
        Verb::Top(arguments) => finish(top::run(&arguments, &global), global.json),
        Verb::Completion { shell } => {
            finish(manual::completion(&mut Screen::stdout(false), shell), global.json)
        }
        Verb::Man => finish(manual::page(&mut Screen::stdout(false)), global.json),
        verb => finish(ask(verb, &global), global.json),
    }
}

/// Tells a mistake in the arguments as they ask for it, or what `--help` and `--version` ask for.
fn misread(error: &clap::Error) -> ExitCode {
    // They could not be read, so it is looked for; what follows `--` is a command's own.
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if json && error.use_stderr() {
        return Problem::misread(error).report(json);
    }
    // Nobody is left to be told that the output is closed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The verbs that ask the service.
fn ask(verb: Verb, global: &Global) -> Result<(), Ended> {
    let client = Client::new(socket_path(global.socket.as_deref()));
    let mut screen = Screen::stdout(global.json);
    let screen = &mut screen;
    block_on(async {
        match &verb {
            Verb::Install(arguments) => install::install(&client, screen, arguments).await,
            Verb::Upgrade(arguments) => upgrade::upgrade(&client, screen, arguments).await,
            Verb::Rollback(named) => upgrade::rollback(&client, screen, &named.id).await,
            Verb::Archives(arguments) => archives::run(&client, screen, arguments).await,
            Verb::Enable(arguments) => verbs::enable(&client, screen, arguments).await,
            Verb::Disable(arguments) => verbs::disable(&client, screen, arguments).await,
            Verb::Uninstall(arguments) => uninstall::uninstall(&client, screen, arguments).await,
            Verb::Ls => verbs::ls(&client, screen).await,
            Verb::Inspect(named) => verbs::inspect(&client, screen, &named.id).await,
            Verb::Call(arguments) => verbs::call(&client, screen, arguments).await,
            Verb::Metrics => verbs::metrics(&client, screen).await,
            Verb::Schedules(arguments) => schedules::run(&client, screen, arguments).await,
            Verb::Usage(arguments) => verbs::usage(&client, screen, arguments).await,
            Verb::Config(arguments) => verbs::config(&client, screen, arguments).await,
            Verb::Permissions(named) => permissions::show(&client, screen, &named.id).await,
            Verb::Grant(arguments) => permissions::grant(&client, screen, arguments).await,
            Verb::Revoke(arguments) => permissions::revoke(&client, screen, arguments).await,
            Verb::State(named) => verbs::state(&client, screen, &named.id).await,
            Verb::Audit(arguments) => audit::run(&client, screen, arguments).await,
            Verb::Events(arguments) => follow::events(&client, screen, arguments).await,
            Verb::Logs(arguments) => follow::logs(&client, screen, arguments).await,
            other => Err(Problem::from(Failure::internal(format!("{other:?} asks nobody"))).into()),
        }
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Problem::new(Code::Internal, format!("the event loop cannot be started: {error}"))
    })?;
    runtime.block_on(work)
}

/// The exit code of a verb. Whoever stops reading our output (`head`) has what he wanted.
fn finish(ended: Result<(), Ended>, json: bool) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Ended::Output(error)) => {
            Problem::new(Code::Internal, format!("standard output cannot be written: {error}"))
                .report(json)
        }
        Err(Ended::Problem(problem)) => problem.report(json),
    }
}
