//! What a test may expect of the machine.
//!
//! `BULKHEAD_LANE=vm` promises every layer: there a skip is a failure. Elsewhere a test that needs a
//! layer which is missing says so and passes; `BULKHEAD_SKIP_LOG` names a file that collects the
//! reasons.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::Write;

use bulkhead_sandbox::cgroup::{Controller, Tree};
use bulkhead_sandbox::{Identity, Layer};

/// Whether this lane promises every layer.
pub fn promised() -> bool {
    std::env::var("BULKHEAD_LANE").is_ok_and(|lane| lane == "vm")
}

/// Whether this kernel, or this user, is known to lack that: the runner says so (`ALLOWED_SKIPS`, with `|` between).
fn is_allowed(reason: &str) -> bool {
    let Ok(words) = std::env::var("ALLOWED_SKIPS") else { return false };
    let reason = reason.to_lowercase();
    words.split('|').any(|word| !word.is_empty() && reason.contains(word))
}

/// Reports a skip, or fails where the lane promises what is missing.
pub fn skip(test: &str, reason: &str) {
    assert!(!promised() || is_allowed(reason), "{test} must not be skipped in this lane: {reason}");
    println!("SKIP {test}: {reason}");
    if let Some(log) = std::env::var_os("BULKHEAD_SKIP_LOG") {
        let mut log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}\t{reason}").unwrap();
    }
}

/// The cgroup tree of this test process: beneath `BULKHEAD_CGROUP`, a delegated directory without
/// processes, if that is set; else whatever is delegated to us.
pub fn tree() -> Option<Tree> {
    match std::env::var_os("BULKHEAD_CGROUP") {
        Some(directory) => {
            let own = std::path::Path::new(&directory).join(format!("test-{}", std::process::id()));
            Some(Tree::at(own).unwrap())
        }
        None => match Tree::discover() {
            Ok(tree) => Some(tree),
            Err(error) => {
                assert!(!promised(), "this lane promises a cgroup tree: {error}");
                None
            }
        },
    }
}

/// A tree with `controller`, or a skip.
pub fn tree_with(test: &str, controller: Controller) -> Option<Tree> {
    let tree = tree();
    match tree {
        Some(tree) if tree.controllers().contains(&controller) => Some(tree),
        _ => {
            skip(test, &format!("no cgroup v2 controller `{controller}`"));
            None
        }
    }
}

/// Whether this machine enforces a layer, or a skip.
pub fn require(test: &str, layer: Layer) -> bool {
    let machine = bulkhead_sandbox::probe::probe();
    let found = machine.layer(layer);
    let there = found.is_some_and(|found| found.state != bulkhead_sandbox::probe::State::Missing);
    if !there {
        skip(test, &format!("layer `{layer}`: {}", found.map_or("unknown", |found| &found.detail)));
    }
    there
}

/// Whether we are root, or a skip.
pub fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}

/// Whether we are root, or in a run of the test that root started; or a skip.
pub fn root_or_inside(test: &str, mark: &str) -> bool {
    std::env::var_os(mark).is_some() || root(test)
}

/// A uid that nobody has, as root; else our own.
pub fn identity() -> Identity {
    if nix::unistd::geteuid().is_root() {
        // One per test process, so that tests side by side are strangers to each other.
        let id = 1_900_000_000 + 100 + std::process::id() % 9000;
        Identity::Leased { uid: id, gid: id }
    } else {
        Identity::Invoker
    }
}
