use std::io::Write as _;

use serde_json::json;

use super::*;
use crate::id::{Digest, PluginId};

fn id() -> PluginId {
    "scheduler".parse().unwrap()
}

fn name(time: &str) -> ArchiveName {
    ArchiveName::new(&id(), &"1.0.0-rc.1+b".parse().unwrap(), time)
}

fn record() -> Record {
    Record {
        format: 1,
        id: id(),
        version: "1.0.0-rc.1+b".parse().unwrap(),
        digest: Digest::of(b"tree"),
        archived_at: "2026-01-02T03:04:05.678Z".into(),
        installed_at: "2026-01-01T00:00:00.000Z".into(),
        config: json!({"a": 1}),
        granted: json!({"permissions": []}),
        last_exit: None,
        last_usage: None,
        data: true,
    }
}

fn archives(limit: u64) -> (tempfile::TempDir, Archives) {
    let directory = tempfile::tempdir().unwrap();
    let archives = Archives::open(directory.path().join("archives"), limit).unwrap();
    (directory, archives)
}

/// An archive of one key and some data.
fn write(archives: &Archives, name: &ArchiveName, data: &[u8]) -> Result<u64, Failure> {
    let mut draft = archives.draft()?;
    draft.record(&record())?;
    let line = serde_json::to_string(&Entry::new("k".into(), b"\x00\xffv")).unwrap() + "\n";
    draft.member("state.jsonl", line.len() as u64, line.as_bytes())?;
    let mut file = archives.spool()?;
    file.write_all(data).unwrap();
    draft.file("data.tar", file)?;
    draft.finish(name)
}

fn files(directory: &tempfile::TempDir) -> usize {
    std::fs::read_dir(directory.path().join("archives")).unwrap().count()
}

#[test]
fn a_name_is_a_safe_file_name() {
    let made = name("2026-01-02T03:04:05.678Z");
    assert_eq!(made.as_str(), "scheduler-1.0.0-rc.1+b-20260102T030405.678Z.tar.zst");
    assert_eq!(made.as_str().parse::<ArchiveName>().unwrap(), made);
    let long = format!("1.0.0-{}", "a".repeat(400)).parse().unwrap();
    let made = ArchiveName::new(&id(), &long, "2026-01-02T03:04:05.678Z");
    assert_eq!(made.as_str().parse::<ArchiveName>().unwrap(), made);
    for bad in
        ["", ".tar.zst", "../x.tar.zst", "a/b.tar.zst", ".draft-x.tar.zst", "a.tar", "a\n.tar.zst"]
    {
        assert!(bad.parse::<ArchiveName>().is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_written_is_read() {
    let (_directory, archives) = archives(1 << 20);
    let name = name("2026-01-02T03:04:05.678Z");
    let bytes = write(&archives, &name, b"the data").unwrap();
    let listed = archives.list().unwrap();
    assert_eq!(listed, [Listed { name: name.clone(), bytes, record: Some(record()) }]);
    assert_eq!(archives.used().unwrap(), bytes);
    let mut kept = Vec::new();
    let data = archives.read(&name).unwrap().take(archives.spool().unwrap(), 1 << 20, |entry| {
        kept.push((entry.key.clone(), entry.value().unwrap()));
        Ok(())
    });
    let mut data = data.unwrap().unwrap();
    let mut text = String::new();
    io::Seek::rewind(&mut data).unwrap();
    io::Read::read_to_string(&mut data, &mut text).unwrap();
    assert_eq!(
        (text.as_str(), &kept[..]),
        ("the data", &[("k".to_owned(), b"\x00\xffv".to_vec())][..])
    );
    archives.remove(&name).unwrap();
    assert_eq!(archives.remove(&name).unwrap_err().code, Code::NotFound);
    assert_eq!(archives.read(&name).err().unwrap().code, Code::NotFound);
}

#[test]
fn a_draft_that_is_given_up_or_left_by_the_dead_is_gone() {
    let (directory, archives) = archives(1 << 20);
    drop(archives.draft().unwrap());
    assert_eq!(files(&directory), 0);
    let left = directory.path().join("archives/.draft-dead");
    std::fs::write(&left, "half").unwrap();
    std::fs::write(directory.path().join("archives/README"), "not ours").unwrap();
    Archives::open(directory.path().join("archives"), 1).unwrap();
    assert!(!left.exists());
    assert_eq!(files(&directory), 1);
    assert_eq!(archives.list().unwrap(), []);
}

#[test]
fn one_too_many_is_refused_and_none_is_deleted() {
    let (directory, archives) = archives(5000);
    let first = name("2026-01-01T00:00:00.000Z");
    write(&archives, &first, b"small").unwrap();
    let second = name("2026-01-02T00:00:00.000Z");
    // What zstd cannot make small.
    let noise: Vec<u8> = (0..200_u8).flat_map(digest).collect();
    let failure = write(&archives, &second, &noise).unwrap_err();
    assert_eq!(
        (failure.code, &failure.details["resource"]),
        (Code::ResourceExhausted, &json!("archives"))
    );
    assert_eq!(files(&directory), 1);
    write(&archives, &second, b"small too").unwrap();
    assert_eq!(write(&archives, &second, b"again").unwrap_err().code, Code::AlreadyExists);
    assert_eq!(files(&directory), 2);
}

fn digest(n: u8) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest([n]).into()
}

#[test]
fn a_damaged_archive_is_told_as_that() {
    let (_directory, archives) = archives(1 << 20);
    let name = name("2026-01-02T03:04:05.678Z");
    write(&archives, &name, b"the data").unwrap();
    let whole = std::fs::read(archives.path(&name)).unwrap();
    for (place, length) in [(whole.len() / 2, whole.len()), (0, whole.len()), (0, 20), (0, 0)] {
        let mut bytes = whole[..length].to_vec();
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0x55;
        }
        std::fs::write(archives.path(&name), &bytes).unwrap();
        let read = archives
            .read(&name)
            .and_then(|reader| reader.take(archives.spool()?, 1 << 20, |_| Ok(())).map(drop));
        assert_eq!(read.unwrap_err().code, Code::IntegrityFailed, "{place} of {length}");
    }
    assert_eq!(archives.list().unwrap()[0].record, None);
}
