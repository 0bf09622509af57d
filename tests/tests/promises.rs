//! What the documents promise and name a test for (`[T:name]`) has that test.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bulkhead_tests::{lane, test_name};

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

/// The first cells of the rows of a document's tables, each once: an attack is made in several compartments.
fn attempts(text: &str) -> Vec<String> {
    let rows =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attempt |"));
    let first = |line: &str| line[2..].split(" | ").next().map(str::to_owned);
    let mut seen = BTreeSet::new();
    let all = rows.filter(|line| !line.starts_with("| attack |")).filter_map(first);
    all.filter(|cell| seen.insert(cell.clone())).collect()
}

/// The document has what the last `scripts/test --attacks` found: it is made again, not mended, where this fails.
#[test]
fn each_attempt_was_made_in_each_environment_and_held_or_has_its_reason() {
    if !root().join("docs/containment.md").exists() {
        return lane::skip(
            test_name!(),
            "scripts/test --attacks has not written docs/containment.md",
        );
    }
    let page = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (list, found) = (page("attacks.md"), page("containment.md"));
    let (_, tables) = found.split_once("\n## ").unwrap();
    let (tables, reasons) = tables.split_once("\n## Why a test was skipped\n").unwrap();
    // What security.md has besides is in the document as well, from its own tables.
    let ours: String = tables
        .split("\n## ")
        .filter(|section| section.lines().next().unwrap().ends_with("(attacks.md)"))
        .collect();
    assert_eq!(attempts(&ours), attempts(&list), "made again by scripts/test --attacks");
    assert!(attempts(&ours).len() > 50);
    let reason =
        |number: &str| reasons.lines().any(|line| line.starts_with(&format!("{number}. ")));
    let mut environments = 0;
    for line in tables.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if matches!(cells[0], "attempt" | "attack") {
            environments = cells.len();
            assert!(cells[1..].contains(&"6.12-root"), "{line}");
            continue;
        }
        assert_eq!(cells.len(), environments, "{line}");
        for (at, cell) in cells.iter().enumerate().skip(1) {
            assert!(!cell.is_empty() && !cell.contains("FAILED"), "{at}: {line}");
            if let Some((_, numbers)) = cell.split_once("skipped: ") {
                assert!(numbers.split(", ").all(reason), "no reason for {cell}: {line}");
            }
        }
    }
}
