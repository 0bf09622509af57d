use std::os::unix::fs::symlink;

use nix::sys::stat::{Mode, umask};

use super::*;
use crate::package::unpack::unpack;

const MANIFEST: &str = "id = \"probe\"\nversion = \"1.2.0\"\n";
const BINARY: &[u8] = b"\x7fELF and so on";
const FILES: [(&str, &[u8], u32); 6] = [
    ("plugin.toml", MANIFEST.as_bytes(), 0o644),
    ("bin/probe", BINARY, 0o755),
    ("bin/second", BINARY, 0o755),
    ("README", b"", 0o644),
    ("share/z", b"last", 0o600),
    ("share/A", &[7; 70_000], 0o664),
];

fn write_file(root: &Path, name: &str, content: &[u8], mode: u32) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

fn plugin() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content, mode) in FILES {
        write_file(directory.path(), name, content, mode);
    }
    directory
}

fn packed(directory: &Path) -> (Packed, Vec<u8>) {
    let out = tempfile::tempdir().unwrap();
    let packed = pack(directory, Some(out.path())).unwrap();
    let bytes = std::fs::read(&packed.package).unwrap();
    (packed, bytes)
}

/// A change of these is a change of every package that is made: of the first only with a new version
/// of the format, of the second alone with another zstd.
#[test]
fn the_bytes_are_the_golden_ones() {
    let (packed, bytes) = packed(plugin().path());
    assert_eq!(packed.sha256, Digest::of(&bytes));
    assert_eq!(packed.bytes, bytes.len() as u64);
    let archive = zstd::stream::decode_all(&bytes[..]).unwrap();
    assert_eq!(
        Digest::of(&archive).to_string(),
        "658f4ded0fc4e5262b12a79e650cd04354012d91e68190ae5f83ee7fafc0640d"
    );
    assert_eq!(
        packed.sha256.to_string(),
        "ac8364b01d6961e93a29081b16335e58136bab5afcd6aeebde10511af2dbd3bb"
    );
}

#[test]
fn neither_order_nor_times_nor_umask_nor_place_matter() {
    let one = plugin();
    let other = tempfile::Builder::new().prefix("elsewhere and longer ").tempdir().unwrap();
    let before = umask(Mode::from_bits_truncate(0o077));
    for (index, (name, content, mode)) in FILES.iter().rev().enumerate() {
        // The bits that count for a package are the run bits.
        write_file(other.path(), name, content, mode & 0o700);
        let file = File::options().append(true).open(other.path().join(name)).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(index as u64);
        file.set_modified(time).unwrap();
    }
    let second = packed(other.path());
    umask(before);
    let first = packed(one.path());
    assert!(first.1 == second.1, "two packages of the same files differ");
    assert_eq!(first.0.sha256, second.0.sha256);
    // The control: they would differ if the content did.
    write_file(other.path(), "share/z", b"lasT", 0o644);
    assert_ne!(packed(other.path()).0.sha256, first.0.sha256);
    write_file(other.path(), "share/z", b"last", 0o755);
    assert_ne!(packed(other.path()).0.sha256, first.0.sha256);
}

#[test]
fn what_is_packed_is_what_is_unpacked() {
    let source = plugin();
    let (packed, bytes) = packed(source.path());
    assert_eq!(packed.package.file_name().unwrap(), "probe-1.2.0.plugin");
    let directory = tempfile::tempdir().unwrap();
    let contents = unpack(&bytes[..], directory.path()).unwrap();
    assert_eq!((contents.files, contents.bytes), (packed.files, packed.content_bytes));
    assert_eq!(contents.files, FILES.len());
    for (name, content, mode) in FILES {
        let path = directory.path().join(name);
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
        let found = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, if mode & 0o100 == 0 { 0o644 } else { 0o755 }, "{name}");
    }
}

#[test]
fn long_paths_are_split_and_come_back() {
    let source = plugin();
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(100));
    write_file(source.path(), &name, b"deep", 0o644);
    let (_, bytes) = packed(source.path());
    let directory = tempfile::tempdir().unwrap();
    unpack(&bytes[..], directory.path()).unwrap();
    assert_eq!(std::fs::read(directory.path().join(&name)).unwrap(), b"deep");
    // One name of more than 100 bytes has no place in the header.
    let name = "f".repeat(101);
    write_file(source.path(), &name, b"", 0o644);
    let out = tempfile::tempdir().unwrap();
    let failure = pack(source.path(), Some(out.path())).unwrap_err();
    assert_eq!(failure.details["reason"], "name-split");
    assert_eq!(failure.details["member"], name.as_str());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a partial package stays");
}

#[test]
fn what_could_not_be_opened_again_is_not_packed() {
    let out = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&Path), code: Code, detail: (&str, &str)| {
        let source = plugin();
        pack(source.path(), Some(out.path())).unwrap();
        change(source.path());
        let before = std::fs::read(out.path().join("probe-1.2.0.plugin")).unwrap();
        let failure = pack(source.path(), Some(out.path())).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert_eq!(failure.details[detail.0], detail.1, "{failure}");
        assert_eq!(std::fs::read(out.path().join("probe-1.2.0.plugin")).unwrap(), before);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "something stays behind");
    };
    let reason = |reason| ("reason", reason);
    let invalid = Code::PackageInvalid;
    refused(&|root| symlink("z", root.join("share/link")).unwrap(), invalid, reason("kind"));
    refused(&|root| write_file(root, "share/.env", b"", 0o644), invalid, reason("name-hidden"));
    refused(&|root| write_file(root, ".git/config", b"", 0o644), invalid, reason("name-hidden"));
    refused(&|root| write_file(root, "share/ä", b"", 0o644), invalid, reason("name-characters"));
    refused(&|root| write_file(root, "share/a", b"", 0o644), invalid, reason("name-taken"));
    refused(&|root| write_file(root, "Bin/x", b"", 0o644), invalid, reason("name-taken"));
    refused(&|root| write_file(root, "bin/second", b"", 0o4755), invalid, reason("mode"));
    refused(
        &|root| nix::unistd::mkfifo(&root.join("share/fifo"), Mode::S_IRWXU).unwrap(),
        invalid,
        reason("kind"),
    );
    let entry = Code::EntryInvalid;
    let path = |failure: &Failure| failure.details["path"].as_str().unwrap().to_owned();
    for (change, words) in [
        (
            &(|root: &Path| std::fs::remove_file(root.join("bin/probe")).unwrap())
                as &dyn Fn(&Path),
            "does not exist",
        ),
        (&|root| write_file(root, "bin/probe", BINARY, 0o644), "no run bit"),
        (&|root| write_file(root, "bin/probe", b"#!/bin/sh\n", 0o755), "not an ELF program"),
        (&|root| write_file(root, "bin/probe", b"", 0o755), "not an ELF program"),
        (
            &|root| {
                let manifest = format!("{MANIFEST}entry = \"share/z\"\n");
                write_file(root, "plugin.toml", manifest.as_bytes(), 0o644);
            },
            "is not in bin/",
        ),
    ] {
        let source = plugin();
        change(source.path());
        let failure = pack(source.path(), Some(out.path())).unwrap_err();
        assert_eq!(failure.code, entry, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
        assert!(path(&failure).starts_with(source.path().to_str().unwrap()), "{failure}");
    }
    refused(
        &|root| write_file(root, "plugin.toml", b"id = 'Probe'\nversion = '1.0.0'\n", 0o644),
        Code::ManifestInvalid,
        ("key", "id"),
    );
}

#[test]
fn a_package_goes_where_it_should_under_its_own_name() {
    let source = plugin();
    let out = tempfile::tempdir().unwrap();
    let named = out.path().join("probe-1.2.0.plugin");
    let by_file = pack(source.path(), Some(&named)).unwrap();
    assert_eq!(by_file.package, named.canonicalize().unwrap());
    assert_eq!(named.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    for wrong in ["other.plugin", "probe-1.2.1.plugin", "absent/probe-1.2.0.plugin"] {
        let failure = pack(source.path(), Some(&out.path().join(wrong))).unwrap_err();
        assert!(matches!(failure.code, Code::InvalidRequest | Code::NotFound), "{failure}");
    }
    for inside in [source.path().to_owned(), source.path().join("share")] {
        let failure = pack(source.path(), Some(&inside)).unwrap_err();
        assert!(failure.message.contains("inside of what is packed"), "{failure}");
    }
}
