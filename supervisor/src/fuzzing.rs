//! The root of the crate that is fuzzed, `supervisor/fuzz`: the modules that read what strangers
//! wrote, and nothing else of the program. No part of the program itself.
#![allow(dead_code, unused_imports, reason = "the program uses the rest")]

mod failure;
mod id;
mod manifest;
mod package;
#[path = "../fuzz/targets.rs"]
mod targets;

/// The manifest's parser.
pub fn manifest(bytes: &[u8]) {
    targets::manifest(bytes);
}

/// The reader of packages.
pub fn package(bytes: &[u8]) {
    targets::package(bytes);
}
