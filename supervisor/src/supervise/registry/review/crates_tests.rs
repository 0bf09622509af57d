use serde_json::json;

use super::super::sample::{Sample, file};
use super::*;

fn listed(json: &str) -> Result<Option<Vec<Crate>>, String> {
    let content = miniz_oxide::deflate::compress_to_vec_zlib(json.as_bytes(), 6);
    read(&file(&Sample { crates: Some(content), ..Sample::default() }.bytes()))
}

#[test]
fn the_crates_that_are_in_the_program_are_listed() {
    let list = json!({"packages": [
        {"name": "plugin", "version": "1.0.0", "source": "local", "root": true,
         "dependencies": [1, 2]},
        {"name": "smallvec", "version": "1.6.0", "source": "crates.io"},
        {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
    ]});
    let crates = listed(&list.to_string()).unwrap().unwrap();
    let names: Vec<_> = crates.iter().map(|one| (one.name.as_str(), one.public)).collect();
    assert_eq!(names, [("plugin", false), ("smallvec", true)]);
    assert_eq!(crates[1].version, Version::new(1, 6, 0));
}

#[test]
fn a_program_without_a_list_has_none() {
    assert_eq!(read(&file(&Sample::default().bytes())).unwrap(), None);
}

#[test]
fn a_list_that_is_none_is_a_reason_and_no_more() {
    assert!(listed("[]").is_err());
    let bomb = format!("\"{}\"", " ".repeat(MAX_JSON));
    assert!(listed(&bomb).unwrap_err().contains("inflate"), "longer than is believed");
    let raw = Sample { crates: Some(b"not zlib".to_vec()), ..Sample::default() };
    assert!(read(&file(&raw.bytes())).is_err());
}
