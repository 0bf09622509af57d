use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};

use super::*;

fn measure(root: &Path) -> (StorageUsage, usize) {
    let mut measure = Measure::begin(root, None).unwrap();
    let mut steps = 1;
    loop {
        if let Some(found) = measure.step().unwrap() {
            return (found, steps);
        }
        steps += 1;
    }
}

#[test]
fn what_is_written_is_counted_and_what_only_seems_long_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let empty = measure(directory.path()).0;
    assert_eq!(empty.files, 1);
    let inner = directory.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("full"), vec![7; 1 << 20]).unwrap();
    File::create(inner.join("sparse")).unwrap().write_at(b"x", 1 << 30).unwrap();
    let (found, _) = measure(directory.path());
    assert_eq!(found.files, 5);
    assert!(!found.uncounted);
    let more = found.bytes - empty.bytes;
    assert!((1 << 20..2 << 20).contains(&more), "{more} more bytes");
}

#[test]
fn no_link_is_followed() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(elsewhere.path().join("big"), vec![7; 1 << 20]).unwrap();
    symlink(elsewhere.path(), directory.path().join("directory")).unwrap();
    symlink(elsewhere.path().join("big"), directory.path().join("file")).unwrap();
    symlink(".", directory.path().join("itself")).unwrap();
    let (found, _) = measure(directory.path());
    assert_eq!(found.files, 4);
    assert!(found.bytes < 1 << 20, "{found:?}");
    // The very file is seen where it lies.
    assert!(measure(elsewhere.path()).0.bytes >= 1 << 20);
}

#[test]
fn many_files_are_counted_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    for index in 0..3 * PIECE {
        File::create(directory.path().join(index.to_string())).unwrap();
    }
    let (found, steps) = measure(directory.path());
    assert_eq!(found.files, 3 * PIECE as u64 + 1);
    assert!(steps > 3, "{steps} steps");
}

#[test]
fn a_tree_without_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let nest = |depth: usize| {
        let root = directory.path().join(depth.to_string());
        fs::create_dir_all((0..depth).fold(root.clone(), |path, _| path.join("d"))).unwrap();
        measure(&root).0
    };
    assert!(!nest(MAX_DEPTH - 1).uncounted);
    assert!(nest(MAX_DEPTH).uncounted);
}

#[test]
fn what_changes_meanwhile_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    for index in 0..2 * PIECE {
        fs::create_dir(directory.path().join(index.to_string())).unwrap();
    }
    let mut measure = Measure::begin(directory.path(), None).unwrap();
    assert!(measure.step().unwrap().is_none());
    fs::remove_dir_all(directory.path()).unwrap();
    while measure.step().unwrap().is_none() {}
}
