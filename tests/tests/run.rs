//! `bulkhead run`: plugins in the foreground, and nothing left of them.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tests::package::Package;
use bulkhead_tests::plugin;
use bulkhead_tests::process::{Program, Running, bulkhead};
use bulkhead_tests::program;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A place for plugins and for what `run` makes, which must be empty afterwards.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("scratch")).unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("admin.sock")
    }

    fn run(&self, arguments: &[&Path]) -> Program {
        let program = bulkhead(["run", "--socket"]).arg(self.socket());
        let program = program.args(arguments);
        program.env("TMPDIR", self.path().join("scratch")).env_remove("BULKHEAD_LOG")
    }

    fn call(&self, words: &[&str]) -> Program {
        bulkhead(["--socket"]).arg(self.socket()).args(words)
    }

    fn assert_nothing_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.path().join("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.socket().exists());
    }
}

fn until_ready(running: &mut Running) {
    running.stdout.line(|line| line.starts_with("ready: "));
}

#[test]
fn a_pair_runs_answers_and_is_stopped_in_order() {
    let place = Place::new();
    let consumer = plugin::example(place.path(), "appointment-scheduler");
    let provider = plugin::example(place.path(), "appointments");
    // The consumer first: the order is that of the dependencies.
    let mut running = place.run(&[&consumer, &provider]).start();
    let first = running.stdout.line(|line| line.contains("is enabled"));
    assert!(first.starts_with("appointments is enabled"), "{first}");
    running.stdout.line(|line| line.contains("in force") && line.contains("seccomp"));
    until_ready(&mut running);
    let reply = place.call(&["call", "appointments", "stats", "{}"]).run().expect(0).stdout;
    let reply: Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["appointments"], 0);
    running.signal(Signal::SIGINT);
    let outcome = running.wait().expect(0);
    let at = |text: &str| {
        outcome.stdout.find(text).unwrap_or_else(|| panic!("no {text:?}: {outcome:?}"))
    };
    assert!(at("appointment-scheduler stopped after") < at("appointments stopped after"));
    assert!(at("asked to finish its work") < at("no process of it is left"));
    place.assert_nothing_left();
}

#[test]
fn a_umask_that_shuts_others_out_is_no_obstacle() {
    let place = Place::new();
    let package = Package::witness("victim", "");
    let enter = ["-c", "umask 077 && exec \"$@\"", "sh"];
    let program = Program::new("sh").args(enter).arg(program::bulkhead()).arg("run");
    let program = program.arg("--socket").arg(place.socket()).arg(package.path());
    let mut running = program.env("TMPDIR", place.path().join("scratch")).start();
    until_ready(&mut running);
    running.signal(Signal::SIGINT);
    running.wait().expect(0);
    place.assert_nothing_left();
}

#[test]
fn json_tells_the_same_story() {
    let place = Place::new();
    let provider = plugin::example(place.path(), "appointments");
    let mut running = place.run(&[&provider, Path::new("--json")]).start();
    let mut next = |kind: &str| -> Value {
        let wanted = format!("\"type\":\"{kind}\"");
        let line = running.stdout.line(|line| line.contains(&wanted));
        serde_json::from_str(&line).unwrap()
    };
    let enabled = next("enabled");
    let layers = enabled["reply"]["plugin"]["enforcement"]["layers"].as_array().unwrap();
    assert!(layers.iter().any(|layer| layer["layer"] == "seccomp" && layer["enforced"] == true));
    assert_eq!(next("ready")["plugins"][0], "appointments");
    running.signal(Signal::SIGTERM);
    let outcome = running.wait().expect(0);
    let line = outcome.stdout.lines().find(|line| line.contains("\"type\":\"disabled\"")).unwrap();
    let disabled: Value = serde_json::from_str(line).unwrap();
    assert_eq!(disabled["reply"]["forced"], false);
}

#[test]
fn a_death_is_part_of_the_story() {
    let place = Place::new();
    let package = Package::witness("victim", "[lifecycle.restart]\nbackoff = \"10ms\"");
    let mut running = place.run(&[package.path()]).start();
    until_ready(&mut running);
    place.call(&["call", "victim", "die", "[\"the end\"]"]).run().expect(1);
    let told = running.stdout.line(|line| line.contains("plugin:error"));
    assert!(told.contains("PLUGIN_DIED: the plugin died: ") && !told.contains('{'), "{told}");
    running.stdout.line(|line| line == "  wrote last:");
    running.stdout.line(|line| line == "    the end");
    running.stdout.line(|line| line.contains("plugin:recovered"));
    running.signal(Signal::SIGTERM);
    running.wait().expect(0);
}

#[test]
fn killing_run_ends_all_of_it() {
    let place = Place::new();
    let provider = plugin::example(place.path(), "appointments");
    let mut running = place.run(&[&provider]).start();
    until_ready(&mut running);
    place.call(&["ls"]).run().expect(0);
    running.signal(Signal::SIGKILL);
    // Its service holds our end of standard error too, so this waits for the service.
    running.wait().expect(137);
    place.call(&["ls"]).run().expect(1);
}

#[test]
fn faults_are_told_before_anything_is_started() {
    let place = Place::new();
    let broken = place.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(
        broken.join("plugin.toml"),
        "id = 'broken'\nversion = '1.0.0'\n[limits]\nmemory = '64Q'\n",
    )
    .unwrap();
    let outcome = place.run(&[&broken]).run().expect(1);
    assert!(outcome.stderr.starts_with("error: MANIFEST_INVALID: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("plugin.toml:4:10: limits.memory: \"64Q\""));
    let outcome = place.run(&[&place.path().join("absent")]).run().expect(3);
    assert!(outcome.stderr.contains("absent"), "{}", outcome.stderr);
    place.assert_nothing_left();
}

#[test]
fn a_plugin_that_does_not_come_up_is_the_error_and_leaves_nothing() {
    for (mode, code, exit) in [
        ("hang-in-init", "TIMEOUT", 5),
        ("exit-at-once", "INITIALIZATION_FAILED", 1),
        ("never-hello", "TIMEOUT", 5),
    ] {
        let place = Place::new();
        let lines = "[lifecycle]\ninit_timeout = \"1s\"\n";
        let hostile = plugin::hostile(place.path(), mode, lines);
        let outcome = place.run(&[&hostile, Path::new("--json")]).run();
        assert_eq!(outcome.code(), exit, "{mode}: {outcome:?}");
        let error: Value = serde_json::from_str(outcome.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["code"], code, "{mode}: {error}");
        assert!(outcome.took < Duration::from_secs(30), "{mode}: {:?}", outcome.took);
        place.assert_nothing_left();
    }
}

#[test]
fn a_state_that_is_kept_is_there_at_the_next_run() {
    let place = Place::new();
    let provider = plugin::example(place.path(), "appointments");
    let state = place.path().join("state");
    let patient = r#"{"ndjson":"{\"resourceType\":\"Patient\",\"id\":\"p1\"}\n"}"#;
    for round in 0..2 {
        let mut running = place.run(&[&provider, Path::new("--state"), &state]).start();
        until_ready(&mut running);
        if round == 0 {
            place.call(&["call", "appointments", "import", patient]).run().expect(0);
        }
        let stats = place.call(&["call", "appointments", "stats", "{}"]).run().expect(0).stdout;
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(stats["patients"], 1, "round {round}: {stats}");
        running.signal(Signal::SIGTERM);
        running.wait().expect(0);
        place.assert_nothing_left();
    }
}

#[test]
fn a_package_is_run_whoever_signed_it_and_what_is_altered_is_not() {
    let place = Place::new();
    let directory = plugin::example(place.path(), "appointments");
    let package = place.path().join("appointments-0.1.0.plugin");
    bulkhead(["pack"]).arg(directory).arg("-o").arg(&package).run().expect(0);
    // Nobody has signed it: that is said, and it runs.
    let mut running = place.run(&[&package]).start();
    running.stderr.line(|line| line.contains("not signed"));
    running.stdout.line(|line| line.starts_with("ready: appointments"));
    place.call(&["call", "appointments", "stats", "{}"]).run().expect(0);
    running.signal(Signal::SIGINT);
    running.wait().expect(0);
    place.assert_nothing_left();
    // A signature that is none, a package that is none, another name.
    let signature = place.path().join("appointments-0.1.0.plugin.minisig");
    std::fs::write(&signature, "nonsense").unwrap();
    let outcome = place.run(&[&package]).run().expect(1);
    assert!(outcome.stderr.contains("SIGNATURE_INVALID"), "{}", outcome.stderr);
    std::fs::remove_file(&signature).unwrap();
    let renamed = place.path().join("appointments-0.2.0.plugin");
    std::fs::copy(&package, &renamed).unwrap();
    let outcome = place.run(&[&renamed]).run().expect(1);
    assert!(outcome.stderr.contains("must be appointments-0.1.0.plugin"), "{}", outcome.stderr);
    std::fs::write(&package, "nonsense").unwrap();
    let outcome = place.run(&[&package]).run().expect(1);
    assert!(outcome.stderr.contains("PACKAGE_INVALID"), "{}", outcome.stderr);
    place.assert_nothing_left();
}
