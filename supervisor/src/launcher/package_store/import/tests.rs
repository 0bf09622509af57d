use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Directories of the package: more than a step may take, flat and nested.
const FLAT: usize = 3_000;
const NESTED: usize = 100;

/// In memory where that is possible: the test waits for the disk thousands of times.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn sealed(directory: &Path) -> usize {
    let beneath = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let here = fs::metadata(directory).unwrap().permissions().mode() & 0o777 == 0o555;
    usize::from(here)
        + beneath.filter(|path| path.is_dir()).map(|path| sealed(&path)).sum::<usize>()
}

#[test]
fn a_step_takes_few_entries_and_waits_for_the_disk_once() {
    let place = directory();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("plugin.toml"), "id = \"a\"\n").unwrap();
    for number in 0..FLAT {
        fs::create_dir(source.join(number.to_string())).unwrap();
    }
    fs::create_dir_all(source.join(vec!["n"; NESTED].join("/"))).unwrap();
    let directories = 1 + FLAT + NESTED;

    let hidden = place.path().join("hidden");
    let mut import = Import::begin(&source, hidden.clone()).unwrap();
    let mut half_seen = false;
    loop {
        let (entries, unsealed, waiting) =
            (import.entries, import.unsealed.len(), import.unlisted.len());
        let done = import.step().unwrap();
        assert!(import.entries - entries <= ENTRIES, "listed {}", import.entries - entries);
        assert!(unsealed.abs_diff(import.unsealed.len()) <= 1, "of {unsealed}");
        assert!(waiting.saturating_sub(import.unlisted.len()) <= 1, "of {waiting}");
        if !half_seen && import.unlisted.is_empty() && import.unsealed.len() == directories / 2 {
            // The list is the truth: what is not off it is not sealed yet.
            half_seen = sealed(&hidden) == directories - directories / 2;
        }
        if done {
            break;
        }
    }
    assert!(half_seen, "half of the directories were never sealed alone");
    assert_eq!(import.entries, directories, "every directory but the root, and the manifest");
    assert_eq!(sealed(&hidden), directories);
    let copied = import.complete();
    assert_eq!(copied.sums.to_text().lines().count(), 1);
    drop(copied);
    assert!(!hidden.exists());
}

#[test]
fn a_large_file_reaches_the_disk_in_pieces() {
    let place = directory();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("plugin.toml"), "id = \"a\"\n").unwrap();
    let content: Vec<u8> = (0..u32::MAX).flat_map(u32::to_le_bytes).take(3 * PIECE + 7).collect();
    fs::write(source.join("large"), &content).unwrap();
    let mut import = Import::begin(&source, place.path().join("hidden")).unwrap();
    let mut pieces = 0;
    loop {
        let before = import.bytes;
        let done = import.step().unwrap();
        let copied = import.bytes - before;
        assert!(copied <= PIECE as u64, "{copied}");
        pieces += u32::from(copied == PIECE as u64);
        if done {
            break;
        }
    }
    assert_eq!(pieces, 3);
    let copied = import.complete();
    assert_eq!(copied.sums.get("large").unwrap().digest, Digest::of(&content));
}
