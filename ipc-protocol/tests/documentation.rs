//! `docs/protocol.md` names tests and golden files: they must exist.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_claim_has_its_test() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let mut tests = String::new();
    for directory in ["ipc-protocol/src", "ipc-protocol/tests", "ipc-driver/tests"] {
        sources(&root.join(directory), &mut tests);
    }
    let (mut named, mut missing) = (0, Vec::new());
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:-".contains(c))) {
        let exists = if let Some(test) = word.strip_prefix("T:") {
            test == "x"
                || tests.contains(&format!("fn {test}()"))
                || tests.contains(&format!("fn {test}("))
        } else if let Some(golden) = word.strip_prefix("G:") {
            root.join(format!("ipc-protocol/tests/golden/v1/{golden}.bin")).exists()
        } else {
            continue;
        };
        named += 1;
        if !exists {
            missing.push(word);
        }
    }
    assert!(named > 20, "only {named} names were found");
    assert!(missing.is_empty(), "docs/protocol.md names {missing:?}");
}
