//! What the privileged part of the program is made of: the dependencies of this crate, all of them,
//! by name. A new one is a decision, so it fails here until it is added with its reason.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::process::Command;

/// Every crate that is linked, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("bulkhead-sandbox", "this crate"),
    ("bitflags", "flags of nix"),
    ("cfg-if", "nix"),
    ("enumflags2", "flags of landlock"),
    ("landlock", "Landlock rules"),
    ("libc", "system calls"),
    ("memoffset", "control messages of nix"),
    ("nix", "system calls with a safe face"),
    ("seccompiler", "argument rules of seccomp"),
    ("serde", "policies and measurements as data"),
    ("serde_core", "serde"),
    ("thiserror", "errors"),
];

/// Compile-time only: they run in the compiler, and nothing of them is linked.
const MACROS: &[&str] = &["enumflags2_derive", "serde_derive", "thiserror-impl"];

/// Whatever else changes, these stay out: run times, their reactors, and what brings them.
const NEVER: &[&str] = &[
    "tokio",
    "mio",
    "futures",
    "futures-core",
    "async-io",
    "async-std",
    "smol",
    "rusqlite",
    "hyper",
    "zbus",
    "cgroups-rs",
    "axum",
    "reqwest",
];

fn tree(edges: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "-p",
            "bulkhead-sandbox",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["-e", edges])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_privileged_closure_holds_what_is_listed_and_nothing_else() {
    if !std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").exists() {
        // The sources are not here: a test binary that was carried into a VM.
        println!("SKIP the_privileged_closure: no sources on this machine");
        return;
    }
    let linked = tree("normal,no-proc-macro");
    let allowed: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let new: Vec<_> = linked.difference(&allowed).collect();
    assert!(
        new.is_empty(),
        "new in the privileged closure: {new:?}; list each with its reason, or do without"
    );
    let gone: Vec<_> = allowed.difference(&linked).collect();
    assert!(gone.is_empty(), "no longer used, take it off the list: {gone:?}");
    // The control: the check sees what such a crate brings, where it is allowed.
    let all = tree("normal,dev,build");
    assert!(all.contains("tempfile"), "dev-dependencies are not seen, so nothing is");
    let macros: Vec<_> = tree("normal").difference(&linked).cloned().collect();
    for name in &macros {
        let known = MACROS.contains(&name.as_str())
            || ["proc-macro2", "quote", "syn", "unicode-ident"].contains(&name.as_str());
        assert!(known, "new at compile time: {name}");
    }
    for name in NEVER {
        assert!(!linked.contains(*name), "{name} must stay out of the privileged part");
    }
}
