//! What the fuzzer calls. `supervisor/src/fuzzing_tests.rs` calls the same over the files here and what
//! a few changes make of them, so that the targets are known to work where there is no fuzzer.

mod admin;
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::manifest::{Manifest, SCHEMA, Schema};
use crate::package::limits;
use crate::package::{ReadError, Sink, read};

pub(crate) use admin::admin;
pub(crate) use message::message;

/// A manifest is refused with its place, or means the same when it is written and read again, and
/// then its published schema takes it too.
pub(crate) fn manifest(bytes: &[u8]) {
    match Manifest::parse(bytes, Path::new("plugin.toml")) {
        Err(failure) => {
            assert_eq!(failure.code, Code::ManifestInvalid);
            assert!(failure.message.starts_with("plugin.toml:"));
        }
        Ok(manifest) => {
            let json = serde_json::to_string(&manifest).expect("a manifest has a form in JSON");
            let again: Manifest = serde_json::from_str(&json).expect("it was written by us");
            assert_eq!(again, manifest);
            assert!(!manifest.entry().starts_with('/') && !manifest.entry().contains("/../"));
            let text = std::str::from_utf8(bytes).expect("it was parsed");
            let value: Value = toml::from_str(text).expect("it was parsed");
            let schema: Value = serde_json::from_str(SCHEMA).expect("it is published");
            let schema = Schema::try_from(schema).expect("it is published");
            assert_eq!(schema.check(&value), Ok(()), "{text}");
        }
    }
}

/// The first byte says whether the rest is a package or what is compressed in one. Whatever it is,
/// the sink is given only what may be written.
pub(crate) fn package(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let packed;
    let package = if first % 2 == 0 {
        bytes
    } else {
        packed = compressed(bytes);
        &packed
    };
    let mut tree = Tree::default();
    match read(package, &mut tree) {
        Ok(contents) => {
            assert_eq!(contents.files, tree.files.len());
            assert_eq!(contents.bytes, tree.files.values().sum::<u64>());
            assert!(tree.files.contains_key("plugin.toml"));
            assert!(tree.files.keys().any(|path| path.starts_with("bin/")));
        }
        Err(error @ ReadError::Fault(_)) => {
            let failure = Failure::from(error);
            assert_eq!(failure.code, Code::PackageInvalid);
            assert!(failure.details["reason"].is_string());
            assert!(!failure.message.contains(char::is_control));
            let text = serde_json::to_string(&failure).expect("a failure has a form in JSON");
            assert!(text.len() < 64 << 10, "{} bytes", text.len());
        }
        Err(other) => panic!("nothing but the bytes can be at fault: {other}"),
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("a known level");
    encoder.write_all(bytes).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

/// What a directory would hold, and the rules for what may come there.
#[derive(Default)]
struct Tree {
    directories: BTreeSet<String>,
    files: BTreeMap<String, u64>,
    /// By which a file system could confuse two.
    folded: BTreeSet<String>,
    current: String,
}

impl Tree {
    fn add(&mut self, path: &str) {
        assert!(!path.is_empty() && path.len() <= limits::PATH_BYTES);
        assert!(path.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        for name in path.split('/') {
            assert!(!name.is_empty() && !name.starts_with('.'), "{path:?}");
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            assert!(self.directories.contains(parent), "{path:?} before its directory");
        }
        assert!(self.folded.insert(path.to_lowercase()), "{path:?} twice");
        assert!(self.folded.len() <= limits::MEMBERS);
    }
}

impl Sink for Tree {
    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.add(path);
        self.directories.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &str, _: bool) -> io::Result<()> {
        self.add(path);
        self.files.insert(path.to_owned(), 0);
        path.clone_into(&mut self.current);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = self.files.get_mut(&self.current).expect("a file was begun");
        *size += bytes.len() as u64;
        assert!(*size <= limits::FILE_BYTES);
        Ok(())
    }
}
