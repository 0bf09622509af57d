//! The root of the crate that is fuzzed, `supervisor/fuzz`: the modules that read what strangers
//! wrote, and those that they use. No part of the program itself.
#![allow(dead_code, unused_imports, reason = "the program uses the rest")]

mod audit_chain;
mod capacity;
mod clock;
mod config;
mod exposure;
mod failure;
mod file_system;
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
mod supervise;
#[path = "../fuzz/targets.rs"]
mod targets;
mod trust;
mod words;

/// What plugins say to the supervisor.
pub fn message(bytes: &[u8]) {
    targets::message(bytes);
}

/// Requests to the admin API.
pub fn admin(bytes: &[u8]) {
    targets::admin(bytes);
}

/// The manifest's parser.
pub fn manifest(bytes: &[u8]) {
    targets::manifest(bytes);
}

/// The reader of packages.
pub fn package(bytes: &[u8]) {
    targets::package(bytes);
}
