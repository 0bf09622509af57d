//! Bulkhead runs third-party native plugins, each in a watertight compartment of its own.

#[cfg(test)]
#[path = "../../tests/src/archive.rs"]
#[allow(dead_code, unreachable_pub, reason = "the integration tests use the rest")]
mod archive;
mod audit_chain;
mod capacity;
mod cli;
mod clock;
mod config;
mod exposure;
mod failure;
mod file_system;
#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod fuzz_targets;
#[cfg(test)]
mod fuzzing_tests;
mod id;
mod inotify;
mod journal;
mod launcher;
mod link;
mod logging;
mod manifest;
mod nesting;
mod package;
mod plugin_data;
mod refusal;
mod signing;
mod supervise;
mod trust;
mod words;

fn main() -> std::process::ExitCode {
    cli::main()
}
