//! `bulkhead dev`: a change of the sources is a build, and a good build another start.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tests::process::{Program, Running, bulkhead};
use bulkhead_tests::{plugin, program};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A place for a project, its cargo, and what `dev` makes, which must be gone afterwards.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(directory.path().join("scratch")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The example `hello` as a project of cargo's. What its cargo builds is the program with the
    /// sources behind it, which no loader minds: other sources are another program.
    fn project(&self) -> PathBuf {
        let project = plugin::example(self.directory.path(), "hello");
        std::fs::remove_dir_all(project.join("bin")).unwrap();
        std::fs::create_dir(project.join("src")).unwrap();
        std::fs::write(project.join("Cargo.toml"), "").unwrap();
        self.write("src/main.rs", "one");
        let script = format!(
            "#!/bin/sh\n\
             if grep -q hangs src/main.rs; then echo 'cargo hangs' >&2; sleep 1000; fi\n\
             if grep -q broken src/main.rs; then echo 'error[E0000]: broken' >&2; exit 101; fi\n\
             mkdir -p target && cat '{}' src/main.rs >target/hello && chmod 755 target/hello\n\
             touch Cargo.lock\n\
             echo \"{{\\\"target\\\":{{\\\"name\\\":\\\"hello\\\",\\\"kind\\\":[\\\"bin\\\"]}},\\\"executable\\\":\\\"$PWD/target/hello\\\"}}\"\n",
            program::path("hello").display()
        );
        std::fs::write(self.path("cargo"), script).unwrap();
        std::fs::set_permissions(self.path("cargo"), Permissions::from_mode(0o755)).unwrap();
        project
    }

    /// A source of the project.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("hello").join(name), text).unwrap();
    }

    fn dev(&self, directory: &Path) -> Program {
        let program = bulkhead(["dev", "--socket"]).arg(self.path("admin.sock")).arg(directory);
        program
            .env("TMPDIR", self.path("scratch"))
            .env("CARGO", self.path("cargo"))
            .env_remove("BULKHEAD_LOG")
    }

    fn greet(&self) -> String {
        let call = bulkhead(["call", "hello", "greet", "\"Hine\"", "--socket"]);
        call.arg(self.path("admin.sock")).run().expect(0).stdout.trim().to_owned()
    }

    fn assert_nothing_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.path("scratch")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.path("admin.sock").exists());
    }
}

fn until_ready(running: &mut Running) {
    running.stdout.line(|line| line.starts_with("ready: "));
}

#[test]
fn a_change_is_built_and_takes_the_place_of_what_runs() {
    let place = Place::new();
    let project = place.project();
    let mut running = place.dev(&project).start();
    running.stderr.line(|line| line.contains("hello is built"));
    until_ready(&mut running);
    assert_eq!(place.greet(), "\"Hello, Hine!\"");

    place.write("src/main.rs", "two");
    running.stderr.line(|line| line.contains("hello is built"));
    // Stopped as by Ctrl-C, with time to save.
    running.stdout.line(|line| line.contains("hello stopped after"));
    running.stdout.line(|line| line.contains("asked to finish its work"));
    running.stdout.line(|line| line.contains("hello is enabled"));
    until_ready(&mut running);
    assert_eq!(place.greet(), "\"Hello again, Hine!\"", "its state is kept");

    // A build that fails, and a manifest that is none, change nothing.
    place.write("src/main.rs", "broken");
    running.stderr.line(|line| line.contains("error[E0000]: broken"));
    running.stderr.line(|line| line.contains("BUILD_FAILED"));
    assert_eq!(place.greet(), "\"Hello again, Hine!\"");
    let manifest = std::fs::read_to_string(project.join("plugin.toml")).unwrap();
    place.write("plugin.toml", "id = 7");
    running.stderr.line(|line| line.contains("MANIFEST_INVALID"));
    assert_eq!(place.greet(), "\"Hello again, Hine!\"");

    // Repaired, and back at what it was: what runs is that already, so it runs on.
    place.write("plugin.toml", &manifest);
    running.stderr.line(|line| line.contains("BUILD_FAILED"));
    place.write("src/main.rs", "two");
    running.stderr.line(|line| line.contains("hello is built"));
    place.write("plugin.toml", &format!("{manifest}\n[limits]\npids = 7\n"));
    running.stderr.line(|line| line.contains("hello is built"));
    until_ready(&mut running);
    let inspected = bulkhead(["inspect", "hello", "--json", "--socket"]);
    let inspected = inspected.arg(place.path("admin.sock")).run().expect(0).stdout;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["limits"]["pids"], 7);

    running.signal(Signal::SIGINT);
    let outcome = running.wait().expect(0);
    let starts = outcome.stdout.matches("hello is enabled").count();
    assert_eq!(starts, 3, "{}", outcome.stdout);
    assert_eq!(outcome.stdout.matches("hello stopped after").count(), 3);
    place.assert_nothing_left();
}

#[test]
fn an_interrupt_ends_a_build_too() {
    let place = Place::new();
    let project = place.project();
    place.write("src/main.rs", "hangs");
    for when in ["the first", "a later"] {
        let mut running = place.dev(&project).start();
        if when == "a later" {
            until_ready(&mut running);
            place.write("src/main.rs", "hangs");
        }
        running.stderr.line(|line| line.contains("cargo hangs"));
        running.signal(Signal::SIGINT);
        // What cargo has started holds our end of standard error, so this waits for its end.
        let outcome = running.wait().expect(0);
        assert!(outcome.took < Duration::from_secs(50), "{when}: {:?}", outcome.took);
        place.assert_nothing_left();
        place.write("src/main.rs", "one");
    }
}

#[test]
fn a_plugin_that_does_not_come_up_is_told_and_waited_for() {
    let place = Place::new();
    let hostile = plugin::hostile(place.directory.path(), "fail-init", "");
    let mut running = place.dev(&hostile).arg("--json").start();
    let stopped = running.stdout.line(|line| line.contains("\"type\":\"stopped\""));
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped["error"]["code"], "INITIALIZATION_FAILED");
    std::fs::write(hostile.join("mode"), "well").unwrap();
    running.stdout.line(|line| line.contains("\"type\":\"built\""));
    running.stdout.line(|line| line.contains("\"type\":\"ready\""));
    running.signal(Signal::SIGTERM);
    let outcome = running.wait().expect(0);
    assert!(outcome.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    place.assert_nothing_left();
}

#[test]
fn what_is_no_project_is_refused() {
    let place = Place::new();
    let outcome = place.dev(&place.path("scratch")).run().expect(3);
    assert!(outcome.stderr.contains("bulkhead new"), "{}", outcome.stderr);
    place.assert_nothing_left();
}
