//! What the documents promise and name a test for (`[T:name]`) has that test.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below with that ending; not those of a build.
fn files(below: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            files(&path, ending, found);
        } else if kind.is_file() && path.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
}

/// The functions that are tests: those beneath `#[test]`.
fn tests() -> BTreeSet<String> {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    let mut found = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap();
        for piece in text.split("#[test]").skip(1) {
            let name = piece.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            found.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let (tests, mut documents, mut named) = (tests(), Vec::new(), 0);
    files(&root().join("docs"), "md", &mut documents);
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for piece in text.split("T:").skip(1) {
            let name: String =
                piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // A time of day, as in 2026-03-09T10:00, is none.
            if !name.contains('_') {
                continue;
            }
            named += 1;
            assert!(tests.contains(&name), "{}: there is no test {name}", path.display());
        }
    }
    assert!(named > 50, "{named}: the mark has changed, and this test must follow it");
}
