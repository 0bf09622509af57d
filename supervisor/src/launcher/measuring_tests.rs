use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

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

/// Makes an overlay `at` whose files have another device than its directories, with a megabyte of its own and
/// eight that are mounted into it.
const OVERLAY: &str = "cd \"$0\" && mkdir lower tmp at && mount -t tmpfs tmpfs tmp && \
    mkdir tmp/upper tmp/work tmp/theirs && \
    mount -t overlay overlay -o lowerdir=lower,upperdir=tmp/upper,workdir=tmp/work,xino=off at && \
    head -c 1048576 /dev/zero > at/full && head -c 4194304 /dev/zero > tmp/theirs/big && \
    mkdir at/directory && mount --bind tmp/theirs at/directory && \
    touch at/file && mount --bind tmp/theirs/big at/file && exec \"$@\"";

#[test]
fn what_is_on_an_overlay_is_counted_and_what_is_mounted_into_it_is_not() {
    const TEST: &str = "launcher::measuring::tests::what_is_on_an_overlay_is_counted_and_what_is_mounted_into_it_is_not";
    const MARK: &str = "BULKHEAD_TEST_OVERLAY";
    if let Some(root) = std::env::var_os(MARK) {
        let root = PathBuf::from(root);
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(&root), device(&root.join("full")), "else it shows nothing");
        assert_eq!(fs::metadata(root.join("file")).unwrap().len(), 4 << 20, "it is mounted");
        let found = measure(&root).0;
        assert_eq!(found.files, 2, "itself and `full`");
        assert!((1 << 20..2 << 20).contains(&found.bytes), "{found:?}");
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--"]);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        println!("SKIP {TEST}: no user namespaces");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = unshare()
        .args(["sh", "-c", OVERLAY])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(MARK, directory.path().join("at"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}
