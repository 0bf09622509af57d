use super::*;

const ADVISORY: &str = "```toml
[advisory]
id = \"RUSTSEC-2021-0003\"
package = \"smallvec\"
date = \"2021-01-08\"
url = \"https://example.com\"
EXTRA

[versions]
patched = [\">= 0.6.14, < 1.0.0\", \">= 1.6.1\"]
unaffected = [\"< 0.6.3\"]
```

# Buffer overflow in SmallVec::insert_many

A bug in the `SmallVec::insert_many` method…
";

fn database(extra: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("crates/smallvec");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("RUSTSEC-2021-0003.md"), ADVISORY.replace("EXTRA", extra)).unwrap();
    std::fs::write(place.join("notes.md"), "no advisory").unwrap();
    directory
}

fn one(name: &str, version: &str) -> Crate {
    Crate { name: name.to_owned(), version: version.parse().unwrap(), public: true }
}

fn ids(database: &tempfile::TempDir, one: Crate) -> Vec<String> {
    let found = find(database.path(), &[one]).unwrap();
    found.into_iter().map(|finding| finding.id).collect()
}

#[test]
fn a_version_is_affected_if_it_is_neither_patched_nor_unaffected() {
    let database = database("");
    for (version, affected) in [
        ("1.6.0", true),
        ("1.6.1", false),
        ("0.6.13", true),
        ("0.6.14", false),
        ("0.6.2", false),
        ("1.0.0-rc.1", true),
    ] {
        let found = ids(&database, one("smallvec", version));
        assert_eq!(!found.is_empty(), affected, "{version}");
    }
    let found = find(database.path(), &[one("smallvec", "1.6.0")]).unwrap();
    assert_eq!(found[0].title, "Buffer overflow in SmallVec::insert_many");
    assert_eq!(found[0].patched, [">=0.6.14, <1.0.0", ">=1.6.1"]);
    assert_eq!(found[0].informational, None);
}

#[test]
fn what_is_withdrawn_or_about_another_registry_is_passed_over() {
    let affected = || one("smallvec", "1.6.0");
    assert_eq!(ids(&database("withdrawn = \"2022-01-01\""), affected()), [""; 0]);
    assert_eq!(ids(&database("withdrawn = 2022-01-01"), affected()), [""; 0]);
    assert_eq!(ids(&database("source = \"registry+https://x\""), affected()), [""; 0]);
    assert_eq!(ids(&database(""), Crate { public: false, ..affected() }), [""; 0]);
    assert_eq!(ids(&database(""), one("serde", "1.0.0")), [""; 0]);
    assert_eq!(ids(&database(""), affected()), ["RUSTSEC-2021-0003"], "the control");
}

#[test]
fn what_only_informs_says_so() {
    let database = database("informational = \"unmaintained\"");
    let found = find(database.path(), &[one("smallvec", "1.6.0")]).unwrap();
    assert_eq!(found[0].informational.as_deref(), Some("unmaintained"));
}

#[test]
fn a_name_is_no_path() {
    let database = database("");
    let above = database.path().join("smallvec");
    std::fs::rename(database.path().join("crates/smallvec"), above).unwrap();
    assert_eq!(ids(&database, one("../smallvec", "1.6.0")), [""; 0]);
}

#[test]
fn what_is_no_database_is_said() {
    let empty = tempfile::tempdir().unwrap();
    let error = find(empty.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("crates"), "{error}");
    let database = database("id = 7");
    let error = find(database.path(), &[one("smallvec", "1.6.0")]).unwrap_err().to_string();
    assert!(error.contains("RUSTSEC-2021-0003.md"), "{error}");
}
