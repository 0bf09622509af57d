//! `bulkhead test`: plugins that behave pass, and each way to misbehave fails the check that it breaks.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::unix::fs::PermissionsExt as _;

use bulkhead_tests::process::{Outcome, authoring, bulkhead};
use bulkhead_tests::{plugin, program};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A method that the misbehaving plugin has, and times that a test can wait for, and a busy machine meet.
const LINES: &str = r#"
[provides.mirror]
version = "1.0.0"
[provides.mirror.methods]
echo = {}
[lifecycle]
init_timeout = "8s"
health_timeout = "8s"
call_timeout = "5s"
stop_timeout = "6s"
"#;

/// The checks with that outcome, each with its text.
fn with(outcome: &str, reply: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = reply["checks"].as_array().unwrap().iter();
    let found = checks.filter(|check| check["outcome"] == outcome);
    found.map(|check| (text(&check["name"]), text(&check["text"]))).collect()
}

/// What the checks say of the plugin that misbehaves in `mode`.
fn judged(mode: &str, code: i32) -> Value {
    let below = tempfile::tempdir().unwrap();
    let hostile = plugin::hostile(below.path(), mode, LINES);
    let outcome = authoring("test", &hostile, &["--json"]).expect(code);
    if code != 0 {
        let error: Value = serde_json::from_str(outcome.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["code"], "CHECKS_FAILED", "{mode}");
    }
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// Each mode fails `check`, and says why in these words.
fn fail(modes: &[(&str, &str, &str)]) {
    for (mode, check, why) in modes {
        let reply = judged(mode, 1);
        assert_eq!(reply["passed"], false);
        let failed = with("failed", &reply);
        let [(name, text)] = &failed[..] else { panic!("{mode}: {failed:?}") };
        assert_eq!(name, check, "{mode}: {text}");
        assert!(text.contains(why), "{mode}: {text}");
    }
}

#[test]
fn plugins_that_behave_pass() {
    let below = tempfile::tempdir().unwrap();
    let provider = plugin::example(below.path(), "appointments");
    let outcome = authoring("test", &provider, &[]).expect(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    for (at, name) in [(0, "build"), (2, "package"), (3, "exposure"), (4, "review"), (5, "start")] {
        assert!(lines[at].contains(name), "{lines:?}");
    }
    for tried in ["method appointments/stats", "schedule expire"] {
        assert!(outcome.stdout.contains(tried), "{outcome:?}");
    }
    assert!(lines.last().unwrap().starts_with("appointments 0.1.0 passes all"), "{lines:?}");

    // One that depends on it, without it and with it.
    let consumer = plugin::example(below.path(), "appointment-scheduler");
    let outcome = authoring("test", &consumer, &[]).expect(1);
    assert!(outcome.stdout.contains("DEPENDENCY_MISSING") && outcome.stdout.contains("--with"));
    authoring("test", &consumer, &["--with", provider.to_str().unwrap()]).expect(0);

    for mode in ["well", "garbage-stdout"] {
        let reply = judged(mode, 0);
        assert_eq!((&reply["id"], &reply["passed"]), (&"hostile".into(), &true.into()));
        let skipped = with("skipped", &reply);
        assert!(matches!(&skipped[..], [(name, _)] if name == "cargo test"), "{skipped:?}");
    }
}

#[test]
fn what_goes_wrong_at_the_start_fails_its_stage() {
    fail(&[
        ("exit-at-once", "handshake", "INITIALIZATION_FAILED"),
        ("never-hello", "handshake", "TIMEOUT"),
        ("bad-magic", "handshake", "PROTOCOL_VIOLATION"),
        ("protocol", "handshake", "VERSION_INCOMPATIBLE"),
        ("fail-init", "init", "NO_DATABASE"),
        ("hang-in-init", "init", "TIMEOUT"),
        ("crash-in-init", "init", "INITIALIZATION_FAILED"),
        ("unhealthy", "health", "DISK_FULL"),
        ("unknown-message", "health", "PROTOCOL_VIOLATION"),
    ]);
}

#[test]
fn what_goes_wrong_later_is_found_out_too() {
    fail(&[
        ("ignore-drain", "stop", "SIGTERM"),
        ("ignore-sigterm", "stop", "killed"),
        ("exit-in-drain", "stop", "without a goodbye"),
        ("goodbye-and-stay", "stop", "killed"),
    ]);
}

#[test]
fn a_call_that_does_harm_or_gets_no_answer_fails() {
    for (mode, code) in [("crash-after 0", "PLUGIN_DIED"), ("silent-call", "TIMEOUT")] {
        let failed = with("failed", &judged(mode, 1));
        let (name, text) = &failed[0];
        assert_eq!(name, "method mirror/echo", "{failed:?}");
        assert!(text.contains(code), "{mode}: {text}");
    }
    // The first answer is a good one; what comes after it is not.
    let failed = with("failed", &judged("double-reply", 1));
    let later = ["unknown method", "steady"];
    assert!(later.contains(&failed[0].0.as_str()), "{failed:?}");
}

#[test]
fn a_method_and_a_schedule_that_are_declared_must_be_there() {
    let below = tempfile::tempdir().unwrap();
    let schedule =
        |method: &str| format!("[[schedule]]\ncron = '0 3 * * *'\nmethod = '{method}'\n");
    let lines = LINES.replace("echo = {}", "echo = {}\nabsent = {}");
    let lines = format!("{lines}{}{}", schedule("echo"), schedule("nightly"));
    let hostile = plugin::hostile(below.path(), "well", &lines);
    let outcome = authoring("test", &hostile, &["--json"]).expect(1);
    let reply = serde_json::from_str(&outcome.stdout).unwrap();
    let failed: Vec<String> = with("failed", &reply).into_iter().map(|(name, _)| name).collect();
    assert_eq!(failed, ["method mirror/absent", "schedule nightly"]);
    assert!(with("ok", &reply).iter().any(|(name, _)| name == "schedule echo"), "{reply}");
}

#[test]
fn what_could_not_be_installed_fails_before_it_is_run() {
    let below = tempfile::tempdir().unwrap();
    // A manifest that is none.
    let hostile = plugin::hostile(below.path(), "well", "[limits]\nmemory = '64Q'");
    let outcome = authoring("test", &hostile, &["--json"]).expect(1);
    let reply: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let failed = with("failed", &reply);
    assert!(matches!(&failed[..], [(name, text)] if name == "build" && text.contains("64Q")));
    assert_eq!(with("ok", &reply), []);
    // A link, which no package may have.
    let hostile = plugin::hostile(below.path(), "well", "");
    std::os::unix::fs::symlink("/etc/passwd", hostile.join("link")).unwrap();
    let outcome = authoring("test", &hostile, &["--json"]).expect(1);
    let failed = with("failed", &serde_json::from_str(&outcome.stdout).unwrap());
    assert!(matches!(&failed[..], [(name, _)] if name == "package"), "{failed:?}");
    // No plugin at all.
    let outcome = authoring("test", &below.path().join("absent"), &[]).expect(3);
    assert!(outcome.stderr.contains("NOT_FOUND"), "{}", outcome.stderr);
}

#[test]
fn one_that_asks_for_more_than_the_bound_fails_the_check_of_its_exposure() {
    let below = tempfile::tempdir().unwrap();
    let hostile = plugin::hostile(below.path(), "well", "[sandbox]\nprofile = 'program'");
    let test = |bound: &str, code| {
        let outcome = authoring("test", &hostile, &["--json", "--max-exposure", bound]);
        serde_json::from_str::<Value>(&outcome.expect(code).stdout).unwrap()
    };
    // 1.2 for the profile, and 0.1 as nothing bounds its use of disks.
    let failed = with("failed", &test("1.2", 1));
    let [(name, text)] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(name, "exposure");
    assert!(text.contains("EXPOSURE_TOO_HIGH") && text.contains("1.3"), "{text}");
    let reply = test("1.3", 0);
    assert_eq!(reply["passed"], true, "{reply}");
}

#[test]
fn an_interrupt_ends_it_and_leaves_nothing() {
    let below = tempfile::tempdir().unwrap();
    std::fs::set_permissions(below.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let scratch = below.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let lines = "[lifecycle]\ninit_timeout = \"300s\"";
    let hostile = plugin::hostile(below.path(), "hang-in-init", lines);
    let mut running = bulkhead(["test"]).arg(hostile).env("TMPDIR", &scratch).start();
    running.stdout.line(|line| line.contains("review"));
    running.signal(Signal::SIGINT);
    // Its service holds our end of standard error too, so this waits for the service.
    let outcome = running.wait().expect(1);
    assert!(outcome.stderr.contains("INTERRUPTED"), "{}", outcome.stderr);
    let left: Vec<_> = std::fs::read_dir(&scratch).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A project of cargo's, with a cargo that does as it is told: there need not be one here.
struct Project {
    below: TempDir,
}

impl Project {
    fn new() -> Self {
        let below = tempfile::tempdir().unwrap();
        let hello = plugin::example(below.path(), "hello");
        std::fs::remove_dir_all(hello.join("bin")).unwrap();
        std::fs::write(hello.join("Cargo.toml"), "").unwrap();
        Self { below }
    }

    fn test(&self, tests: &str) -> Outcome {
        let cargo = self.below.path().join("cargo");
        let hello = program::path("hello");
        let script = format!(
            "#!/bin/sh\necho \"says $1\" >&2\ncase $1 in\ntest) echo 'running 1 test'; {tests} ;;\nesac\n\
             echo '{{\"target\":{{\"name\":\"hello\",\"kind\":[\"bin\"]}},\"executable\":\"{}\"}}'\n",
            hello.display()
        );
        std::fs::write(&cargo, script).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        bulkhead(["test", "--json"])
            .directory(self.below.path().join("hello"))
            .env("CARGO", cargo)
            .run()
    }
}

#[test]
fn a_project_is_built_and_its_own_tests_count() {
    let project = Project::new();
    let outcome = project.test("true").expect(0);
    assert!(outcome.stderr.contains("says build") && outcome.stderr.contains("running 1 test"));
    let reply: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let passed: Vec<String> = with("ok", &reply).into_iter().map(|(name, _)| name).collect();
    assert_eq!(passed[..2], ["build", "cargo test"]);
    assert!(passed.contains(&"method greeting/greet".to_owned()), "{passed:?}");

    let outcome = project.test("exit 101").expect(1);
    let reply = serde_json::from_str(&outcome.stdout);
    let failed = with("failed", &reply.unwrap_or_else(|error| panic!("{error}: {outcome:?}")));
    assert!(matches!(&failed[..], [(name, _)] if name == "cargo test"), "{failed:?}");
}
