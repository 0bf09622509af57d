//! The command line without a service: usage, help, unreachable sockets, doctor.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::process::{Program, bulkhead};
use serde_json::Value;

#[test]
fn mistakes_are_usage_errors_on_standard_error() {
    for arguments in [
        vec!["no-such-verb"],
        vec!["enable"],
        vec!["enable", "Not_An_Id"],
        vec!["disable", "a", "--timeout", "5"],
        vec!["events", "--since", "x"],
        vec!["exec"],
        vec!["archives", "rm", ""],
        vec![],
    ] {
        let outcome = bulkhead(&arguments).run().expect(2);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(outcome.stderr.contains("Usage") || outcome.stderr.contains("--help"));
        let outcome = bulkhead(["--json"]).args(&arguments).run().expect(2);
        let problem: Value = serde_json::from_str(&outcome.stderr).unwrap();
        assert_eq!((&problem["code"], outcome.stdout.as_str()), (&"USAGE".into(), ""), "{problem}");
    }
    // What a command is given is its own.
    let outcome = bulkhead(["exec", "--memory", "64Q", "--", "true", "--json"]).run().expect(2);
    assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
}

#[test]
fn help_and_version_are_answers() {
    let outcome = bulkhead(["--help"]).run().expect(0);
    for verb in ["exec", "run", "doctor", "install", "enable", "disable", "inspect", "top", "call"]
    {
        assert!(outcome.stdout.contains(&format!("  {verb} ")), "{verb}: {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("supervise"), "{}", outcome.stdout);
    let outcome = bulkhead(["--version"]).run().expect(0);
    assert!(outcome.stdout.starts_with("bulkhead "));
}

#[test]
fn a_socket_without_a_service_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        vec!["ls"],
        vec!["inspect", "a"],
        vec!["enable", "a"],
        vec!["disable", "a"],
        vec!["uninstall", "a"],
        vec!["call", "a", "m"],
        vec!["events", "-f"],
        vec!["logs", "a"],
        vec!["state", "a"],
    ] {
        let outcome = bulkhead(&arguments).arg("--socket").arg(socket).run().expect(1);
        assert!(outcome.stderr.starts_with("error: UNREACHABLE: "), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(socket) && outcome.stderr.contains("bulkhead serve"));
        let outcome =
            bulkhead(&arguments).arg("--json").env("BULKHEAD_SOCKET", socket).run().expect(1);
        let error: Value = serde_json::from_str(&outcome.stderr).unwrap();
        assert_eq!(error["code"], "UNREACHABLE");
        assert_eq!(error["details"]["socket"], socket);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn bad_input_is_refused_before_anybody_is_asked() {
    let unreachable = ["--socket", "/nonexistent/admin.sock"];
    let outcome = bulkhead(["call", "a", "m", "{not json"])
        .arg(unreachable[0])
        .arg(unreachable[1])
        .run()
        .expect(2);
    assert!(outcome.stderr.contains("{not json") || outcome.stderr.contains("not JSON"));
    let outcome = bulkhead(["install", "/nonexistent"])
        .arg(unreachable[0])
        .arg(unreachable[1])
        .run()
        .expect(3);
    assert!(outcome.stderr.contains("NOT_FOUND") && outcome.stderr.contains("/nonexistent"));
    let outcome = bulkhead(["enable", "a", "--config", "/nonexistent/c.json"]).run().expect(3);
    assert!(outcome.stderr.contains("/nonexistent/c.json"));
}

#[test]
fn doctor_names_every_layer_and_its_verdict_is_the_exit_code() {
    let outcome = bulkhead(["doctor", "--json"]).run();
    let machine: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let strict = machine["strict"].as_bool().unwrap();
    assert_eq!(outcome.code(), i32::from(!strict));
    let layers = machine["layers"].as_array().unwrap();
    for name in ["user-namespace", "cgroup", "memory", "landlock-files", "seccomp"] {
        assert!(layers.iter().any(|layer| layer["layer"] == name), "{name}");
    }
    for layer in layers.iter().filter(|layer| layer["state"] != "enforced") {
        assert!(layer["remedy"].is_string() || layer["state"] == "partial", "{layer}");
    }
    let text = bulkhead(["doctor"]).run().expect(i32::from(!strict)).stdout;
    assert!(text.contains(if strict { "strict runs here" } else { "strict does not run here" }));
    assert!(!text.contains('\u{1b}'), "colour is for terminals");
}

#[test]
fn whoever_stops_reading_is_not_an_error() {
    let script =
        format!("{} completion bash | head -1", bulkhead_tests::program::bulkhead().display());
    let outcome =
        Program::new("bash").arg("-o").arg("pipefail").arg("-c").arg(script).run().expect(0);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn completions_and_the_manual_come_from_the_grammar() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = bulkhead(["completion", shell]).run().expect(0);
        assert!(outcome.stdout.contains("bulkhead"), "{shell}");
    }
    let page = bulkhead(["man"]).run().expect(0).stdout;
    assert!(page.contains(".TH") && page.contains("doctor"));
}
