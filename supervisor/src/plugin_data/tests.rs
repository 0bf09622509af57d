use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::restore::restore;
use super::save::save;

const LIMIT: u64 = 64 << 20;

fn open(directory: &Path) -> OwnedFd {
    fs::File::open(directory).unwrap().into()
}

fn saved(directory: &Path, limit: u64) -> std::io::Result<fs::File> {
    let mut to = tempfile::tempfile().unwrap();
    save(open(directory), to.try_clone().unwrap(), limit)?;
    to.rewind().unwrap();
    Ok(to)
}

fn restored(stream: fs::File) -> std::io::Result<TempDir> {
    let directory = tempfile::tempdir().unwrap();
    restore(&open(directory.path()), stream)?;
    Ok(directory)
}

fn report(stream: &fs::File) -> String {
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if &*entry.path_bytes() == b"skipped.json" {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            return text;
        }
    }
    panic!("no report");
}

#[test]
fn what_a_plugin_has_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str| data.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("a/b/file"), "content").unwrap();
    fs::set_permissions(at("a/b/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("empty"), "").unwrap();
    let long = "n".repeat(200);
    fs::create_dir(at(&long)).unwrap();
    fs::write(at(&long).join(&long), "deep").unwrap();
    let odd = data.path().join(std::ffi::OsStr::from_bytes(b"\xff\n\x1b[2J"));
    fs::write(&odd, "odd").unwrap();
    symlink("/etc/passwd", at("link")).unwrap();
    fs::hard_link(at("a/b/file"), at("hard")).unwrap();
    let back = restored(saved(data.path(), LIMIT).unwrap()).unwrap();
    let back = |name: &str| back.path().join(name);
    assert_eq!(fs::read(back("a/b/file")).unwrap(), b"content");
    assert_eq!(fs::metadata(back("a/b/file")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(back("empty")).unwrap(), b"");
    assert_eq!(fs::read(back(&long).join(&long)).unwrap(), b"deep");
    assert_eq!(fs::read(back("").join(odd.file_name().unwrap())).unwrap(), b"odd");
    assert_eq!(fs::read_link(back("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read(back("hard")).unwrap(), b"content");
    assert_eq!(fs::metadata(back("hard")).unwrap().nlink(), 1, "a copy");
}

#[test]
fn holes_stay_holes() {
    let data = tempfile::tempdir().unwrap();
    let file = fs::File::create(data.path().join("sparse")).unwrap();
    file.set_len(32 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (32 << 20) - 3).unwrap();
    let stream = saved(data.path(), LIMIT).unwrap();
    let metadata = stream.metadata().unwrap();
    assert!(metadata.len() > 32 << 20 && metadata.blocks() * 512 < 1 << 20, "{metadata:?}");
    let back = restored(stream).unwrap();
    let metadata = fs::metadata(back.path().join("sparse")).unwrap();
    assert_eq!(metadata.len(), 32 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{metadata:?}");
    assert!(fs::read(back.path().join("sparse")).unwrap().ends_with(b"\0end"));
}

#[test]
fn what_cannot_be_kept_is_told_and_stops_nothing() {
    let data = tempfile::tempdir().unwrap();
    mkfifo(&data.path().join("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(data.path().join("socket")).unwrap();
    let mut deep = data.path().to_owned();
    for _ in 0..super::MAX_DEPTH + 3 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    fs::write(data.path().join("zfile"), "kept").unwrap();
    let mut stream = saved(data.path(), LIMIT).unwrap();
    let told = report(&stream);
    for part in ["pipe", "socket", "it lies too deep", "no file, directory or symbolic link"] {
        assert!(told.contains(part), "no {part:?}");
    }
    stream.rewind().unwrap();
    assert_eq!(fs::read(restored(stream).unwrap().path().join("zfile")).unwrap(), b"kept");
}

#[test]
fn more_than_is_allowed_is_an_error_and_not_a_part() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), vec![1; 100_000]).unwrap();
    let error = saved(data.path(), 50_000).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    saved(data.path(), 200_000).unwrap();
}

/// A stream of one member with a name that its maker chose.
fn member(name: &[u8], kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    if !target.is_empty() {
        header.set_link_name(target).unwrap();
    }
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend([0; 1024]);
    out
}

fn attempt(streams: &[Vec<u8>]) -> (std::io::Result<()>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("inner")).unwrap();
    let mut all = Vec::new();
    for stream in streams {
        // Without the two empty blocks that end each.
        all.extend_from_slice(&stream[..stream.len() - 1024]);
    }
    all.extend([0; 1024]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&all).unwrap();
    file.rewind().unwrap();
    (restore(&open(&directory.path().join("inner")), file), directory)
}

#[test]
fn a_hostile_stream_writes_nothing_outside() {
    use tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    for names in [
        vec![member(b"data/../out", Regular, "")],
        vec![member(b"data//out", Regular, "")],
        vec![member(b"/out", Regular, "")],
        vec![member(b"out", Regular, "")],
        vec![member(b"data/x", Link, "data/y")],
        vec![member(b"data/x", Char, "")],
        vec![member(b"data/x", Fifo, "")],
        vec![member(b"data/x", Regular, ""), member(b"data/x", Regular, "")],
        vec![member(b"data/l", Symlink, ".."), member(b"data/l/out", Regular, "")],
    ] {
        let (result, directory) = attempt(&names);
        assert!(result.is_err());
        let mut above: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        above.sort();
        assert_eq!(above, ["inner"]);
    }
    let (result, directory) =
        attempt(&[member(b"data/d/", Directory, ""), member(b"data/d/in", Regular, "")]);
    result.unwrap();
    assert!(directory.path().join("inner/d/in").exists(), "the control");
}
