//! The command line: each verb, what it prints, and its exit code.
//!
//! `serve` and `supervise` are the roles of the service; `exec` and `doctor` use the sandbox
//! directly; all other verbs are clients of the admin API and have no way in of their own.

mod args;
mod exec;
mod problem;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Arguments, Verb};

/// Reads the arguments and does what they say. A mistake in them ends the process with 2.
pub(crate) fn main() -> ExitCode {
    let Arguments { global, verb } = Arguments::parse();
    match verb {
        Verb::Exec(arguments) => exec::run(&arguments, &global),
        _ => problem::Problem::usage("not yet").report(global.json),
    }
}
