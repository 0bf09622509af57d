//! The fuzz targets over the corpus, the golden files, and what a few changes make of them.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../fuzz/havoc.rs"]
mod havoc;

use std::path::Path;

/// Every seed: the files of a directory beneath the crate.
fn seeds(directory: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let seeds: Vec<_> = std::fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{} has no seeds", path.display());
    seeds
}

fn all(directory: &str) -> Vec<Vec<u8>> {
    [seeds("tests/golden/v1"), seeds(directory)].concat()
}

/// Cut short, one byte changed, one doubled.
fn variants(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..=seed.len()).map(|length| seed[..length].to_vec()).chain((0..seed.len()).flat_map(
        move |at| {
            [0, 0x80, 0xff].into_iter().map(move |byte| {
                let mut changed = seed.to_vec();
                changed[at] = byte;
                changed
            })
        },
    ))
}

#[test]
fn the_frame_target_holds() {
    for seed in all("fuzz/corpus/frame") {
        for bytes in variants(&seed) {
            targets::frame(&bytes);
            targets::frame(bytes.get(6..).unwrap_or_default());
        }
    }
}

#[test]
fn the_session_target_holds() {
    for seed in all("fuzz/corpus/session") {
        // Byte by byte, in pieces, and whole, after a hello and without.
        for first in [0, 1, 6, 255] {
            targets::session(&[&[first][..], &seed, &seed].concat());
        }
        for bytes in variants(&seed) {
            targets::session(&[&[30][..], &bytes, &seed].concat());
        }
    }
}

#[test]
fn the_frame_target_holds_for_a_while() {
    assert!(havoc::run(&all("fuzz/corpus/frame"), targets::frame) > 100);
}

#[test]
fn the_session_target_holds_for_a_while() {
    assert!(havoc::run(&all("fuzz/corpus/session"), targets::session) > 100);
}
