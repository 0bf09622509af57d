//! The fuzz targets over the corpus, and what a few changes make of it.

use std::path::Path;

use crate::fuzz_targets as targets;

#[path = "../../ipc-protocol/fuzz/havoc.rs"]
mod havoc;

/// Every seed of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{} has no seeds", path.display());
    seeds
}

/// Cut short, or one byte changed; no more than about `count`, spread over the seed.
fn variants(seed: &[u8], count: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let step = seed.len() / count + 1;
    let places = move || (0..seed.len()).step_by(step);
    places().map(|length| seed[..length].to_vec()).chain(places().flat_map(move |at| {
        [0, b'\'', 0x80, 0xff].into_iter().map(move |byte| {
            let mut changed = seed.to_vec();
            changed[at] = byte;
            changed
        })
    }))
}

#[test]
fn the_manifest_target_holds() {
    for seed in seeds("manifest") {
        targets::manifest(&seed);
        for bytes in variants(&seed, 100) {
            targets::manifest(&bytes);
        }
    }
}

#[test]
fn the_package_target_holds() {
    for seed in seeds("package") {
        targets::package(&seed);
        for bytes in variants(&seed, 300) {
            targets::package(&bytes);
        }
    }
}

#[test]
fn the_message_target_holds() {
    for seed in seeds("message") {
        targets::message(&seed);
        for bytes in variants(&seed, 20) {
            targets::message(&bytes);
        }
    }
}

#[test]
fn the_admin_target_holds() {
    for seed in seeds("admin") {
        targets::admin(&seed);
        for bytes in variants(&seed, 5) {
            targets::admin(&bytes);
        }
    }
}

#[test]
fn the_manifest_target_holds_for_a_while() {
    assert!(havoc::run(&seeds("manifest"), targets::manifest) > 10);
}

#[test]
fn the_package_target_holds_for_a_while() {
    assert!(havoc::run(&seeds("package"), targets::package) > 10);
}

#[test]
fn the_message_target_holds_for_a_while() {
    assert!(havoc::run(&seeds("message"), targets::message) > 100);
}

#[test]
fn the_admin_target_holds_for_a_while() {
    assert!(havoc::run(&seeds("admin"), targets::admin) > 10);
}
