//! What the reader refuses, each with the same package without the trick, which it takes.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::fault::Reason;
use super::limits;
use super::member::{Kind, Member, Members};
use super::unpack::unpack;
use crate::archive::{self, Archive, Attack, Header, attacks};
use crate::failure::{Code, Failure};

const BINARY: &[u8] = b"\x7fELF and so on";

/// Mode and content by path.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

fn open(package: &[u8]) -> (Result<(), Failure>, Files) {
    let directory = tempfile::tempdir().unwrap();
    let result = unpack(package, directory.path()).map(|_| ());
    (result, tree(directory.path()))
}

/// Every file; nothing but files and directories may be there.
fn tree(root: &Path) -> Files {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                pending.push(path);
            } else {
                assert!(metadata.is_file(), "{}", path.display());
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let content = std::fs::read(&path).unwrap();
                found.insert(name, (metadata.permissions().mode() & 0o7777, content));
            }
        }
    }
    found
}

#[test]
fn a_package_becomes_the_tree_that_it_holds() {
    let mut archive = Archive::plugin(BINARY);
    archive.member(&Header::kind("share/", b'5'), b"");
    archive.member(&Header::kind("share/empty/", b'5'), b"");
    archive.file("share/text", &vec![7; 100_000]);
    let directory = tempfile::tempdir().unwrap();
    let contents = unpack(&archive.package()[..], directory.path()).unwrap();
    assert_eq!(contents.files, 3);
    let tree = tree(directory.path());
    assert_eq!(tree.len(), 3);
    assert_eq!(tree["bin/probe"], (0o755, BINARY.to_vec()));
    assert_eq!(tree["share/text"], (0o644, vec![7; 100_000]));
    assert!(tree["plugin.toml"].1.starts_with(b"id = "));
    assert!(directory.path().join("share/empty").is_dir());
}

#[test]
fn every_attack_is_refused_with_its_reason_and_member() {
    let attacks = attacks(BINARY);
    let mut names = HashSet::new();
    let mut controlled = HashSet::new();
    for Attack { name, reason, member, package, control } in attacks {
        assert!(names.insert(name), "two attacks are called {name}");
        // Many share one control.
        if controlled.insert(control.clone()) {
            let (result, _) = open(&control);
            result.unwrap_or_else(|failure| panic!("without the trick of {name}: {failure}"));
        }
        let Err(failure) = open(&package).0 else { panic!("{name} was let in") };
        assert_eq!(failure.code, Code::PackageInvalid, "{name}: {failure}");
        assert_eq!(failure.details["reason"], reason, "{name}: {failure}");
        assert_eq!(failure.details["member"], json!(member), "{name}: {failure}");
        assert!(serde_json::to_string(&failure).unwrap().len() < 4096, "{name}");
        assert!(!failure.message.contains(['\n', '\u{1b}']), "{name}: {failure}");
    }
}

#[test]
fn a_package_that_is_cut_off_anywhere_is_refused() {
    let package = Archive::plugin(BINARY).package();
    for length in 0..package.len() {
        let failure = open(&package[..length]).0.unwrap_err();
        assert_eq!(failure.details["reason"], "truncated", "at {length}: {failure}");
    }
}

#[test]
fn nothing_is_written_outside_or_over() {
    let below = tempfile::tempdir().unwrap();
    let inside = below.path().join("tree");
    std::fs::create_dir(&inside).unwrap();
    for attack in attacks(BINARY) {
        std::fs::remove_dir_all(&inside).unwrap();
        std::fs::create_dir(&inside).unwrap();
        unpack(&attack.package[..], &inside).unwrap_err();
        let around: Vec<_> = std::fs::read_dir(below.path()).unwrap().collect();
        assert_eq!(around.len(), 1, "{} wrote outside: {around:?}", attack.name);
    }
    // A directory that has something already, even a link of the member's name.
    std::fs::remove_dir_all(&inside).unwrap();
    std::fs::create_dir(&inside).unwrap();
    let victim = below.path().join("victim");
    std::fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, inside.join("plugin.toml")).unwrap();
    let package = Archive::plugin(BINARY).package();
    let failure = unpack(&package[..], &inside).unwrap_err();
    assert!(failure.message.contains("not empty"), "{failure}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
}

#[test]
fn no_link_is_followed_even_if_one_appears() {
    use super::sink::{Sink as _, Tree};
    let below = tempfile::tempdir().unwrap();
    let (inside, outside) = (below.path().join("tree"), below.path().join("outside"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::create_dir(&outside).unwrap();
    let mut tree = Tree::new(std::fs::File::open(&inside).unwrap().into());
    tree.directory("a").unwrap();
    tree.file("a/control", false).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), inside.join("dangling")).unwrap();
    tree.file("link/file", false).unwrap_err();
    tree.directory("link/directory").unwrap_err();
    tree.file("dangling", false).unwrap_err();
    tree.file("a/control", false).unwrap_err();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn the_sum_of_the_files_is_bounded_by_what_their_headers_claim() {
    use super::reader::{Contents, check_size};
    let member = |size| Member {
        path: "share/data".to_owned(),
        kind: Kind::File { size, executable: false },
    };
    let check = |size, before| {
        let so_far = Contents { files: 1, bytes: before };
        match check_size(&member(size), size, &so_far) {
            Ok(()) => None,
            Err(fault) => Some(fault.reason),
        }
    };
    let (file, tree) = (limits::FILE_BYTES, limits::TREE_BYTES);
    assert_eq!(check(file, tree - file), None);
    assert_eq!(check(file, tree - file + 1), Some(Reason::TreeTooLarge { limit: tree }));
    assert_eq!(check(file + 1, 0), Some(Reason::FileTooLarge { size: file + 1, limit: file }));
}

#[test]
fn a_directory_may_be_listed_after_what_it_holds_but_once() {
    let mut members = Members::default();
    let file = |path: &str| Member {
        path: path.to_owned(),
        kind: Kind::File { size: 0, executable: false },
    };
    let directory = |path: &str| Member { path: path.to_owned(), kind: Kind::Directory };
    assert_eq!(members.add(&file("a/b/c")).unwrap(), ["a", "a/b"]);
    assert_eq!(members.add(&directory("a/b")).unwrap(), [""; 0]);
    assert_eq!(members.add(&directory("a/d")).unwrap(), ["a/d"]);
    assert_eq!(members.add(&file("a/d/e")).unwrap(), [""; 0]);
    members.add(&directory("a/b")).unwrap_err();
    members.add(&directory("a/d")).unwrap_err();
}

#[test]
fn an_archive_of_the_usual_tar_can_be_opened() {
    let test = "an_archive_of_the_usual_tar_can_be_opened";
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("bin")).unwrap();
    std::fs::write(source.path().join("plugin.toml"), "id = 'probe'").unwrap();
    std::fs::write(source.path().join("bin/probe"), BINARY).unwrap();
    let made = std::process::Command::new("tar")
        .args(["--format=ustar", "-cf", "-", "plugin.toml", "bin"])
        .current_dir(source.path())
        .output();
    let Ok(made) = made else {
        println!("SKIP {test}: `tar` is not installed");
        return;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (result, tree) = open(&archive::compress(&made.stdout));
    result.unwrap();
    assert_eq!(tree["bin/probe"].1, BINARY);
}

/// The page says what is refused: every limit, and the word of every attack.
#[test]
fn the_documentation_has_every_limit_and_every_reason() {
    let page = include_str!("../../../docs/packages.md");
    for (what, limit) in [
        ("the package", format!("{} MiB", limits::PACKAGE_BYTES >> 20)),
        ("its files together", format!("{} GiB", limits::TREE_BYTES >> 30)),
        ("one file", format!("{} MiB", limits::FILE_BYTES >> 20)),
        ("files and directories", limits::MEMBERS.to_string()),
        ("a path", format!("{} bytes", limits::PATH_BYTES)),
        ("names in a path", limits::DEPTH.to_string()),
        (
            &format!("bytes out of one byte in, after the first {} MiB", limits::RATIO_FREE >> 20),
            limits::RATIO.to_string(),
        ),
        ("the window of the frame", format!("{} MiB", 1 << limits::WINDOW_LOG >> 20)),
    ] {
        let row = format!("| {what} | {limit} |");
        assert!(page.contains(&row), "docs/packages.md lacks {row}");
    }
    for attack in attacks(BINARY) {
        let word = format!("`{}`", attack.reason);
        assert!(page.contains(&word), "docs/packages.md lacks {word}");
    }
}
