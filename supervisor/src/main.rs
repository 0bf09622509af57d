//! Bulkhead runs third-party native plugins, each in a watertight compartment of its own.

mod cli;
mod clock;
mod config;
mod failure;
mod id;
mod launcher;
mod link;
mod logging;
mod manifest;
mod package;
mod signing;
mod supervise;
mod trust;

fn main() -> std::process::ExitCode {
    cli::main()
}
