//! The invariants of `ARCHITECTURE.md`, proven on the sources and on the resolved dependencies.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Rust sources below `directory`, relative to the root, in order.
fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(directory)];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let shown = path.strip_prefix(root()).unwrap().display().to_string();
                let shown = shown.trim_start_matches("./").to_owned();
                found.push((shown, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{directory} has no sources: is the path right?");
    found.sort();
    found
}

/// The lines of all `files` that are code and for which `wrong` holds, as `file:line: text`.
fn lines(files: &[(String, String)], wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if wrong(file, code) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/")
        || file.contains("/benches/")
        || file.contains("/fuzz/")
        || file.starts_with("tests/")
        || file.ends_with("tests.rs")
}

#[test]
fn only_the_codec_names_bincode() {
    let found = lines(&sources(""), |file, code| {
        code.replace("decode_bincode::", "").contains("bincode::")
            && file != "ipc-protocol/src/codec.rs"
            && file != "tests/tests/tidy.rs"
    });
    assert_eq!(found, [""; 0]);
    let codec = std::fs::read_to_string(root().join("ipc-protocol/src/codec.rs")).unwrap();
    assert!(codec.contains("bincode::"), "the codec has moved: this test must follow it");
}

#[test]
fn unsafe_code_is_in_the_sandbox_and_in_one_file_of_the_sdk() {
    let has_unsafe = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
            .iter()
            .any(|u| code.contains(u))
    };
    let files: BTreeSet<String> = sources("")
        .into_iter()
        .filter(|(file, _)| !file.starts_with("sandbox/") && !is_test(file))
        .filter(|(_, text)| text.lines().any(has_unsafe))
        .map(|(file, _)| file)
        .collect();
    assert!(
        files.len() <= 1 && files.iter().all(|file| file.starts_with("plugin-sdk/src/")),
        "unsafe code in {files:?}"
    );
}

#[test]
fn the_launcher_names_no_parser_and_no_runtime() {
    let launcher = sources("supervisor/src/launcher");
    let found = lines(&launcher, |file, code| {
        // What a package may have at most is known to both who bounds it and who reads it.
        let code = code.replace("crate::package::limits", "");
        let words = [
            "tokio",
            "axum",
            "hyper",
            "rusqlite",
            "tar::",
            "zstd",
            "crate::manifest",
            "crate::package",
            "crate::signing",
            "crate::supervise",
            "crate::cli",
        ];
        !is_test(file) && words.iter().any(|word| code.contains(word))
    });
    assert_eq!(found, [""; 0]);
}

/// By its number a process may be another by now (kill(2) with a pid); by its pidfd and its cgroup it cannot.
#[test]
fn no_process_is_signalled_by_a_number_that_could_be_anothers() {
    let allowed = [
        ("sandbox/src/syscall/signal.rs", 1, "the call itself, for the init"),
        ("sandbox/src/init.rs", 3, "children of pid 1 of a compartment, which it has not reaped"),
        ("sandbox/src/attack/attempts.rs", 2, "the attack, of which nothing comes: signal 0"),
        ("supervisor/src/cli/learn/life.rs", 2, "the group of its own child, not reaped"),
        ("supervisor/src/cli/project/cargo.rs", 2, "the group of its own child, not reaped"),
        ("supervisor/src/cli/run/service.rs", 2, "its own child, not reaped"),
    ];
    let sends = |code: &str| {
        let named =
            ["libc::kill(", "syscall::kill(", "killpg(", "kill(Pid", "tgkill(", "sigqueue("];
        let imported = code.contains("signal::")
            && code.split(|c: char| !c.is_alphanumeric()).any(|it| it == "kill" || it == "killpg");
        imported || named.iter().any(|call| code.contains(call))
    };
    let mut files = sources("");
    files.retain(|(file, _)| !is_test(file));
    let mut found = BTreeMap::new();
    for line in lines(&files, |_, code| sends(code)) {
        let file = line.split(':').next().unwrap().to_owned();
        found.entry(file).or_insert_with(Vec::new).push(line);
    }
    for (file, times, why) in allowed {
        let there = found.remove(file).unwrap_or_default();
        assert_eq!(there.len(), times, "{file}, which may ({why}): {there:?}");
    }
    assert!(found.is_empty(), "{found:?}");
    let child = std::fs::read_to_string(root().join("sandbox/src/process.rs")).unwrap();
    assert!(
        child.contains("syscall::pidfd_send_signal("),
        "it has moved: this test must follow it"
    );
}

#[test]
fn tests_wait_for_events_and_do_not_sleep() {
    let all = sources("");
    let tests: Vec<_> = all.into_iter().filter(|(file, _)| is_test(file)).collect();
    let found = lines(&tests, |file, code| {
        // The ill-behaved plugins may do what they like.
        let sleeps = code.contains("thread::sleep") || code.contains("time::sleep(");
        sleeps && file != "tests/tests/tidy.rs" && !file.starts_with("tests/plugins/")
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn no_file_has_grown_past_reading() {
    let long: Vec<String> = sources("")
        .into_iter()
        .filter(|(file, _)| !is_test(file))
        .filter(|(_, text)| text.lines().count() > 650)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert_eq!(long, [""; 0]);
}

/// The packages that each workspace member depends on in a normal build, directly or not.
fn closures() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        // Only what this platform needs has been downloaded.
        .arg(format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH))
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let edges: BTreeMap<String, Vec<String>> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let normal = node["deps"].as_array().unwrap().iter().filter(|dependency| {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                kinds.iter().any(|kind| kind["kind"].is_null())
            });
            (text(&node["id"]), normal.map(|dependency| text(&dependency["pkg"])).collect())
        })
        .collect();
    let members = metadata["workspace_members"].as_array().unwrap();
    members
        .iter()
        .map(|member| {
            let mut closure = BTreeSet::new();
            let mut pending = vec![text(member)];
            while let Some(id) = pending.pop() {
                for next in &edges[&id] {
                    if closure.insert(names[next].clone()) {
                        pending.push(next.clone());
                    }
                }
            }
            (names[&text(member)].clone(), closure)
        })
        .collect()
}

#[test]
fn the_arrows_between_the_crates_go_one_way() {
    let closures = closures();
    let ours = |of: &str| -> Vec<String> {
        closures[of].iter().filter(|name| name.starts_with("bulkhead-")).cloned().collect()
    };
    assert_eq!(ours("bulkhead-ipc-protocol"), [""; 0]);
    assert_eq!(ours("bulkhead-sandbox"), [""; 0]);
    assert_eq!(ours("bulkhead-ipc-driver"), ["bulkhead-ipc-protocol"]);
    assert_eq!(ours("bulkhead-plugin-sdk"), ["bulkhead-ipc-driver", "bulkhead-ipc-protocol"]);
    assert_eq!(
        ours("bulkhead-supervisor"),
        ["bulkhead-ipc-driver", "bulkhead-ipc-protocol", "bulkhead-sandbox"]
    );
}

#[test]
fn the_protocol_does_no_input_or_output() {
    let closure = &closures()["bulkhead-ipc-protocol"];
    for absent in ["tokio", "mio", "socket2", "nix", "libc"] {
        assert!(!closure.contains(absent), "{absent} is in the closure of the protocol");
    }
    let found = lines(&sources("ipc-protocol/src"), |file, code| {
        !is_test(file)
            && ["std::net", "std::os", "std::fs", "Instant::now"].iter().any(|w| code.contains(w))
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_crate_of_the_design_card_is_used_where_it_belongs() {
    let closures = closures();
    for (member, used) in [
        ("bulkhead-sandbox", &["nix", "landlock", "seccompiler", "serde"][..]),
        ("bulkhead-supervisor", &["cgroups-rs", "tokio", "interprocess", "semver", "tracing"]),
        ("bulkhead-ipc-protocol", &["bincode", "serde", "semver"]),
        ("bulkhead-plugin-sdk", &["tokio"]),
    ] {
        for name in used {
            assert!(closures[member].contains(*name), "{member} does not use {name}");
        }
    }
    assert!(!closures["bulkhead-sandbox"].contains("cgroups-rs"));
}
