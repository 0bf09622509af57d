//! `bulkhead exec` with real programs: exit codes, streams, signals, limits, reports.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tests::process::{Outcome, Program, bulkhead};
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// `bulkhead exec FLAGS -- sh -c SCRIPT`.
fn shell(flags: &[&str], script: &str) -> Program {
    exec(flags, &["sh", "-c", script])
}

fn exec(flags: &[&str], command: &[&str]) -> Program {
    let mut program = bulkhead(["exec"]);
    for word in flags.iter().chain(&["--"]).chain(command) {
        program = program.arg(word);
    }
    program
}

/// Runs with `--report` and gives both.
fn reported(flags: &[&str], command: &[&str]) -> (Outcome, Value) {
    reported_from(Session::Ours, flags, command)
}

/// Where a command is given.
#[derive(Clone, Copy, PartialEq)]
enum Session {
    /// Here, in the cgroup that was delegated to this test, if one was.
    Ours,
    /// A login session, whose cgroup is not delegated to anybody.
    Login,
}

/// The sessions that there are: in the machine both, and what holds in one must hold in the other.
fn sessions() -> Vec<Session> {
    // Only root makes sessions, and where systemd runs.
    if !nix::unistd::geteuid().is_root() || !Path::new("/run/systemd/system").is_dir() {
        return vec![Session::Ours];
    }
    let login = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join("login-session").is_file())
    });
    assert!(login || !lane::promised(), "this lane promises `login-session`");
    if login { vec![Session::Ours, Session::Login] } else { vec![Session::Ours] }
}

fn reported_from(session: Session, flags: &[&str], command: &[&str]) -> (Outcome, Value) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let mut all = vec!["--report", path.to_str().unwrap()];
    all.extend(flags);
    let program = match session {
        Session::Ours => exec(&all, command),
        Session::Login => {
            let mut program =
                Program::new("login-session").arg(bulkhead_tests::program::bulkhead()).arg("exec");
            for word in all.iter().chain(&["--"]).chain(command) {
                program = program.arg(word);
            }
            program
        }
    };
    let outcome = program.run();
    let report = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("no report ({error}): {}", outcome.stderr));
    (outcome, serde_json::from_str(&report).unwrap())
}

/// A directory that everybody can read and write.
fn shared_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

fn write_program(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_exit_code_is_the_commands() {
    for code in [0, 1, 7, 125, 255] {
        shell(&[], &format!("exit {code}")).run().expect(code);
    }
    shell(&[], "kill -TERM $$").run().expect(143);
    shell(&[], "kill -KILL $$").run().expect(137);
    let outcome = shell(&[], "kill -ABRT $$").run().expect(134);
    assert!(!outcome.stderr.contains("memory"), "{}", outcome.stderr);
}

#[test]
fn a_command_that_cannot_be_run_is_told_apart() {
    let (_guard, here) = shared_directory();
    write_program(&here.join("plain"), "text", 0o644);
    write_program(&here.join("script"), "#!/nonexistent/interpreter\n", 0o755);
    for (command, code, word) in [
        ("no-such-command-anywhere", 127, "no such command"),
        ("./absent", 127, "no such file"),
        ("./plain", 126, "run bit"),
        ("./script", 126, "interpreter"),
        ("/", 126, "directory"),
    ] {
        let outcome = exec(&[], &[command]).directory(&here).run().expect(code);
        assert!(outcome.stderr.contains(word), "{command}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("error: "), "{command}: {}", outcome.stderr);
    }
    exec(&[], &["./plain", "--json"]).directory(&here).run().expect(126);
    let outcome = exec(&["--json"], &["./plain"]).directory(&here).run().expect(126);
    let error: Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(error["code"], "ENTRY_INVALID");
}

#[test]
fn bad_flags_are_usage_and_bad_policies_are_no_start() {
    for flags in [["--memory", "64Q"], ["--cpu", "20"], ["--timeout", "5"], ["--pids", "0"]] {
        let outcome = exec(&flags, &["true"]).run().expect(2);
        assert!(outcome.stderr.contains(flags[1]), "{}", outcome.stderr);
    }
    let (_guard, here) = shared_directory();
    let policy = here.join("policy.toml");
    std::fs::write(&policy, "[limits]\nmemroy = 1\n").unwrap();
    let outcome = exec(&["--policy", policy.to_str().unwrap()], &["true"]).run().expect(125);
    assert!(outcome.stderr.contains("memroy") && outcome.stderr.contains("line 2"));
    let outcome = exec(&["--allow", "ptrace"], &["true"]).run().expect(125);
    assert!(outcome.stderr.contains("ptrace"), "{}", outcome.stderr);
    let outcome = exec(&["--ro", "/nonexistent"], &["true"]).run().expect(125);
    assert!(outcome.stderr.contains("/nonexistent"), "{}", outcome.stderr);
}

#[test]
fn streams_are_passed_through() {
    let text = "one\ntwo\n".repeat(20_000);
    let outcome = exec(&[], &["cat"]).input(text.clone()).run().expect(0);
    assert_eq!(outcome.stdout, text);
    let outcome = shell(&[], "echo out; echo err >&2").run().expect(0);
    assert_eq!(outcome.stdout, "out\n");
    assert!(outcome.stderr.contains("err\n"), "{}", outcome.stderr);
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let program = exec(&["--env", "A=x y", "--env", "PASSED"], &["env"]);
    let outcome = program.env("PASSED", "on").env("SECRET", "s3cret").run().expect(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines.contains(&"A=x y") && lines.contains(&"PASSED=on"), "{lines:?}");
    assert!(!outcome.stdout.contains("s3cret"), "{lines:?}");
    // Without the compartment it is there.
    let control = Program::new("env").env("SECRET", "s3cret").run().expect(0);
    assert!(control.stdout.contains("s3cret"));
}

#[test]
fn programs_outside_the_system_directories_run() {
    let (_guard, here) = shared_directory();
    std::fs::copy("/bin/echo", here.join("my-echo")).unwrap();
    std::fs::set_permissions(here.join("my-echo"), Permissions::from_mode(0o755)).unwrap();
    write_program(&here.join("script"), "#!/bin/sh\necho \"script $1\"\nexit 9\n", 0o755);
    let outcome = exec(&[], &["./my-echo", "hi"]).directory(&here).run().expect(0);
    assert_eq!(outcome.stdout, "hi\n");
    let outcome = exec(&[], &["./script", "arg"]).directory(&here).run().expect(9);
    assert_eq!(outcome.stdout, "script arg\n");
    let absolute = here.join("script");
    exec(&[], &[absolute.to_str().unwrap()]).run().expect(9);
}

#[test]
fn signals_are_passed_on() {
    for (signal, name, code) in [
        (Signal::SIGTERM, "TERM", 11),
        (Signal::SIGINT, "INT", 12),
        (Signal::SIGHUP, "HUP", 13),
        (Signal::SIGUSR1, "USR1", 14),
    ] {
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = shell(&[], &script).start();
        running.stdout.line(|line| line == "ready");
        running.signal(signal);
        running.wait().expect(code);
    }
    let mut running = shell(&[], "echo ready; exec sleep 60").start();
    running.stdout.line(|line| line == "ready");
    running.signal(Signal::SIGTERM);
    let outcome = running.wait().expect(143);
    assert!(outcome.took < Duration::from_secs(30), "{:?}", outcome.took);
}

#[test]
fn killing_exec_leaves_nothing() {
    let (_guard, here) = shared_directory();
    let path = here.join("pid");
    let path = path.to_str().unwrap();
    std::fs::write(path, "").unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    // The lock tells when the last process of the compartment is gone, without asking by number.
    let mut running =
        shell(&["--rw", path], &format!("exec 9>>{path}; flock 9; echo ready; sleep 60 & wait"))
            .start();
    running.stdout.line(|line| line == "ready");
    let held = Program::new("flock").arg("--nonblock").arg(path).arg("true").run();
    assert_eq!(held.code(), 1, "the compartment holds the lock");
    running.signal(Signal::SIGKILL);
    running.wait().expect(137);
    Program::new("flock").arg("--timeout").arg("10").arg(path).arg("true").run().expect(0);
}

#[test]
fn the_timeout_is_a_ladder() {
    let (outcome, report) = reported(&["--timeout", "300ms"], &["sleep", "60"]);
    outcome.expect(143);
    let stages = |report: &Value| -> Vec<String> {
        let timeline = report["timeline"].as_array().unwrap();
        timeline.iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(report["timedOut"], true);
    assert_eq!(stages(&report)[..2], ["sigterm", "exited"]);

    let script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done";
    let flags = ["--timeout", "300ms", "--kill-after", "400ms"];
    let (outcome, report) = reported(&flags, &["sh", "-c", script]);
    assert_eq!(outcome.stdout, "deaf\n");
    assert!(outcome.stderr.contains("out of time"), "{}", outcome.stderr);
    let outcome = outcome.expect(137);
    assert_eq!(stages(&report)[..3], ["sigterm", "sigkill", "exited"]);
    let killed = report["timeline"][1]["at_ms"].as_u64().unwrap();
    assert!((400..2400).contains(&killed), "{killed} ms");
    assert!(outcome.took < Duration::from_secs(20), "{:?}", outcome.took);
    // In time, nothing is stopped.
    let (outcome, report) = reported(&["--timeout", "30s"], &["true"]);
    outcome.expect(0);
    assert_eq!(
        (&report["timedOut"], report["timeline"].as_array().unwrap().len()),
        (&false.into(), 0)
    );
}

#[test]
fn a_detached_child_dies_with_the_command() {
    let (_guard, here) = shared_directory();
    let path = here.join("lock");
    let path = path.to_str().unwrap();
    std::fs::write(path, "").unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    let script =
        format!("exec 9>>{path}; flock 9; setsid sleep 60 >/dev/null 2>&1 </dev/null & exit 4");
    let outcome = shell(&["--rw", path], &script).run().expect(4);
    assert!(outcome.took < Duration::from_secs(30), "{:?}", outcome.took);
    // Its child held the lock and is gone too.
    Program::new("flock").arg("--nonblock").arg(path).arg("true").run().expect(0);
}

#[test]
fn only_what_was_granted_can_be_written() {
    let (_guard, here) = shared_directory();
    let path = here.to_str().unwrap();
    let write = format!("echo x > {path}/file");
    let denied = shell(&[], &write).run();
    assert_ne!(denied.code(), 0);
    let denied = shell(&["--ro", path], &write).run();
    assert_ne!(denied.code(), 0);
    assert!(!here.join("file").exists());
    // The same attempt, granted, and without a compartment.
    shell(&["--rw", path], &write).run().expect(0);
    assert_eq!(std::fs::read_to_string(here.join("file")).unwrap(), "x\n");
    Program::new("sh").arg("-c").arg(&write).run().expect(0);
    // What is writable cannot be executed.
    write_program(&here.join("script"), "#!/bin/sh\necho ran\n", 0o755);
    let run = format!("{path}/script");
    shell(&["--rw", path], &run).run().expect(126);
    assert_eq!(shell(&["--ro", path], &run).run().expect(0).stdout, "ran\n");
}

#[test]
fn what_was_not_granted_is_not_there() {
    let (_guard, here) = shared_directory();
    std::fs::write(here.join("secret"), "s3cret").unwrap();
    let read = format!("cat {}/secret", here.display());
    assert_ne!(shell(&[], &read).run().code(), 0);
    assert_eq!(shell(&["--ro", here.to_str().unwrap()], &read).run().expect(0).stdout, "s3cret");
    // /tmp is its own, empty and writable.
    let outcome = shell(&[], "ls -A /tmp; echo mine > /tmp/x && cat /tmp/x").run().expect(0);
    assert_eq!(outcome.stdout, "mine\n");
    // Neither root's files nor those of the machine's other users.
    assert_ne!(shell(&[], "cat /etc/shadow").run().code(), 0);
}

#[test]
fn the_size_of_files_is_bounded() {
    let script = "head -c 200000 /dev/zero > /tmp/f; echo $?; wc -c < /tmp/f";
    let outcome = shell(&["--storage", "64K"], script).run();
    assert!(!outcome.stdout.starts_with("0\n"), "{}", outcome.stdout);
    let control = shell(&["--storage", "1M"], script).run().expect(0);
    assert_eq!(control.stdout, "0\n200000\n");
}

#[test]
fn there_is_no_network_unless_granted() {
    if !lane::program(test_name!(), "socat") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let target = format!("TCP:127.0.0.1:{port},connect-timeout=5");
    let connect = ["socat", "-u", "OPEN:/dev/null", target.as_str()];
    assert_ne!(exec(&[], &connect).run().code(), 0);
    if !lane::require(test_name!(), "landlock-network") {
        return;
    }
    let other = if port == "1" { "2" } else { "1" };
    assert_ne!(exec(&["--connect", other], &connect).run().code(), 0);
    exec(&["--connect", &port], &connect).run().expect(0);
}

#[test]
fn the_report_has_what_was_measured() {
    let (outcome, report) = reported(&["--nofile", "99"], &["sh", "-c", "ulimit -n; exit 5"]);
    assert_eq!(outcome.expect(5).stdout, "99\n");
    assert_eq!(report["exitCode"], 5);
    assert_eq!(report["exit"]["status"]["exited"], 5);
    assert_eq!(report["command"][0], "sh");
    assert_eq!(report["policy"]["limits"]["nofile"], 99);
    let layers = report["enforcement"]["layers"].as_array().unwrap();
    for name in ["seccomp", "landlock-files", "no-new-privs", "capabilities", "pid-namespace"] {
        let layer = layers.iter().find(|layer| layer["layer"] == name);
        assert_eq!(layer.unwrap()["enforced"], true, "{name}");
    }
    // The policy of a report is a policy.
    let (_guard, here) = shared_directory();
    let policy = here.join("policy.json");
    std::fs::write(&policy, report["policy"].to_string()).unwrap();
    let outcome = shell(&["--policy", policy.to_str().unwrap()], "ulimit -n").run().expect(0);
    assert_eq!(outcome.stdout, "99\n");
}

#[test]
fn a_report_of_what_did_not_start_has_the_error() {
    let (outcome, report) = reported(&[], &["no-such-command-anywhere"]);
    outcome.expect(127);
    assert_eq!(report["error"]["code"], "NOT_FOUND");
    assert_eq!(report["exitCode"], 127);
    let outcome = exec(&["--report", "/nonexistent/r.json"], &["true"]).run().expect(125);
    assert!(outcome.stderr.contains("/nonexistent/r.json"), "{}", outcome.stderr);
    let outcome = exec(&["--report", "-"], &["true"]).run().expect(0);
    assert!(outcome.stderr.contains("\"enforcement\""), "{}", outcome.stderr);
}

#[test]
fn strict_refuses_a_machine_that_lacks_a_layer_and_names_it() {
    let lacking: Vec<_> = ["memory", "pids", "cpu"]
        .into_iter()
        .filter(|layer| lane::layer_state(layer) == "missing")
        .collect();
    let (outcome, report) = reported(&["--strict"], &["echo", "started"]);
    if lacking.is_empty() {
        assert_eq!(outcome.expect(0).stdout, "started\n");
        assert_eq!(report["complete"], true);
        return;
    }
    assert!(!lane::promised(), "this lane promises {lacking:?}");
    let outcome = outcome.expect(125);
    assert_eq!(outcome.stdout, "");
    assert_eq!(report["error"]["code"], "SANDBOX_UNAVAILABLE");
    let layer = report["error"]["details"]["layer"].as_str().unwrap();
    assert!(lacking.contains(&layer), "{layer} is not one of {lacking:?}");
    // Best effort starts, and says what is missing.
    let outcome = exec(&["--best-effort", "--memory", "64M"], &["echo", "started"]).run().expect(0);
    assert_eq!(outcome.stdout, "started\n");
    assert!(outcome.stderr.contains("memory"), "{}", outcome.stderr);
}

#[test]
fn running_out_of_memory_is_explained() {
    if !lane::require(test_name!(), "memory") || !lane::program(test_name!(), "stress-ng") {
        return;
    }
    let command = ["stress-ng", "--vm", "1", "--vm-bytes", "512M", "--timeout", "20"];
    for session in sessions() {
        let (outcome, report) = reported_from(session, &["--memory", "64M"], &command);
        let outcome = outcome.expect(137);
        let cause = &report["exit"]["cause"]["out_of_memory"];
        assert_eq!(cause["limit"], 64 << 20, "{report:#}");
        assert!(cause["peak"].as_u64().unwrap() > 32 << 20);
        assert!(report["exit"]["usage"]["oom_kills"].as_u64().unwrap() > 0);
        for word in ["memory", "64 MiB", "peak"] {
            assert!(outcome.stderr.contains(word), "{word} is not in {}", outcome.stderr);
        }
    }
}

#[test]
fn forks_beyond_the_limit_are_refused_and_counted() {
    if !lane::require(test_name!(), "pids") {
        return;
    }
    // A shell that does not try again: bash would, for half a minute.
    let script = "i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; echo made $i";
    for session in sessions() {
        let (outcome, report) = reported_from(session, &["--pids", "16"], &["dash", "-c", script]);
        assert_eq!(outcome.stdout, "");
        let refused = report["exit"]["usage"]["pids_refused"].as_u64().unwrap();
        assert!(refused > 0, "{report:#}");
        assert!(outcome.stderr.contains("--pids"), "{}", outcome.stderr);
    }
    let (outcome, report) = reported(&["--pids", "100"], &["dash", "-c", script]);
    assert_eq!(outcome.expect(0).stdout, "made 50\n");
    assert_eq!(report["exit"]["usage"]["pids_refused"], 0);
}

#[test]
fn a_forbidden_call_is_named() {
    let ready = lane::root(test_name!())
        && lane::require(test_name!(), "audit")
        && lane::program(test_name!(), "perl");
    if !ready {
        return;
    }
    // PTRACE_TRACEME, by its number.
    let number = if cfg!(target_arch = "aarch64") { 117 } else { 101 };
    let ptrace = format!("exit(syscall({number}, 0, 0, 0, 0) < 0)");
    Program::new("perl").arg("-e").arg(&ptrace).run().expect(0);
    let (outcome, report) = reported(&[], &["perl", "-e", &ptrace]);
    let outcome = outcome.expect(128 + 31);
    assert_eq!(report["exit"]["cause"], "seccomp", "{report:#}");
    assert_eq!(report["exit"]["denied_call"], "ptrace", "{report:#}");
    assert!(outcome.stderr.contains("the system call ptrace"), "{}", outcome.stderr);
}

#[test]
fn cpu_time_is_bounded() {
    if !lane::require(test_name!(), "cpu") {
        return;
    }
    let spin = ["sh", "-c", "while :; do :; done"];
    let share = |report: &Value| {
        let used = report["exit"]["usage"]["cpu_usec"].as_f64().unwrap() / 1000.0;
        used / report["wallMs"].as_f64().unwrap()
    };
    let throttled = |report: &Value| report["exit"]["usage"]["nr_throttled"].as_u64().unwrap_or(0);
    // The control: without a limit nothing holds it but its neighbours.
    let (_, free) = reported(&["--timeout", "2s", "--kill-after", "1s"], &spin);
    let flags = ["--cpu", "20%", "--timeout", "10s", "--kill-after", "1s"];
    for session in sessions() {
        let (_, report) = reported_from(session, &flags, &spin);
        assert!(share(&report) <= 0.22 && throttled(&report) > 0, "{report:#}");
        assert!(share(&free) > share(&report) && throttled(&free) == 0, "{free:#}");
    }
}

#[test]
fn a_login_session_gets_a_delegated_scope() {
    if !lane::root(test_name!()) || !lane::program(test_name!(), "login-session") {
        return;
    }
    let bulkhead = bulkhead_tests::program::bulkhead();
    let mut program = Program::new("login-session");
    let command =
        ["exec", "--strict", "--memory", "64M", "--report", "-", "--", "sh", "-c", "exit 6"];
    program = program.arg(&bulkhead);
    for word in command {
        program = program.arg(word);
    }
    let outcome = program.run().expect(6);
    let report: Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(report["complete"], true);
    let layers = report["enforcement"]["layers"].as_array().unwrap();
    let cgroup = layers.iter().find(|layer| layer["layer"] == "cgroup").unwrap();
    assert!(cgroup["measured"].as_str().unwrap().contains(".scope/"), "{cgroup}");
}

#[test]
fn what_an_ill_meaning_program_tries_is_stopped() {
    let outcome = bulkhead(["doctor", "--attack", "--json"]).run().expect(0);
    let tried: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let attacks = tried["attacks"].as_array().unwrap();
    let of = |verdict: &str| attacks.iter().filter(|one| one["verdict"] == verdict).count();
    assert_eq!((of("through"), &tried["through"]), (0, &json!(0)), "{tried}");
    assert_eq!(of("stopped") + of("no-control"), attacks.len(), "{tried}");
    // Without the controls this would prove nothing.
    assert!(of("stopped") >= 25, "{tried}");
    let text = bulkhead(["doctor", "--attack"]).run().expect(0).stdout;
    assert!(text.starts_with("stopped\tptrace\t"), "{text}");
}
