//! What a test may expect of the machine.
//!
//! `BULKHEAD_LANE=vm` promises every layer: there a skip is a failure. Elsewhere a test that needs
//! what is missing says so and passes; `BULKHEAD_SKIP_LOG` names a file that collects the reasons.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::process::bulkhead;
use crate::service::mounts_disks_with_quotas;

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
        log.write_all(format!("{test}\t{reason}\n").as_bytes()).unwrap();
    }
}

/// Whether this machine enforces a layer in full, as `bulkhead doctor` finds it; else a skip.
pub fn require(test: &str, layer: &str) -> bool {
    let state = layer_state(layer);
    if state != "enforced" {
        skip(test, &format!("layer `{layer}` is {state} here"));
    }
    state == "enforced"
}

/// `enforced`, `partial` or `missing`.
pub fn layer_state(layer: &str) -> String {
    static MACHINE: OnceLock<Value> = OnceLock::new();
    let machine = MACHINE.get_or_init(|| {
        serde_json::from_str(&bulkhead(["doctor", "--json"]).run().stdout).unwrap()
    });
    let layers = machine["layers"].as_array().unwrap();
    let found = layers.iter().find(|found| found["layer"] == layer);
    found.unwrap_or_else(|| panic!("doctor knows no layer {layer}"))["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Whether we are root; else a skip.
pub fn root(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}

/// Whether a program is on `PATH`; else a skip.
pub fn program(test: &str, name: &str) -> bool {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).any(|directory| directory.join(name).is_file());
    if !found {
        skip(test, &format!("`{name}` is not installed"));
    }
    found
}

/// Whether root can have a file system here that enforces limits of users; else a skip.
pub fn quotas(test: &str) -> bool {
    if !root(test) || !program(test, "mkfs.ext4") {
        return false;
    }
    let found = mounts_disks_with_quotas();
    if !found {
        skip(test, "this kernel has no quotas on ext4");
    }
    found
}

/// What a budget may be overrun by as a test measures it, the start of the command line included.
/// The lane's machine is emulated, on a host that may be busy: everything takes many times longer.
pub fn slack() -> Duration {
    Duration::from_secs(if promised() { 20 } else { 2 })
}
