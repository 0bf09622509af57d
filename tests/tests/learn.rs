//! `bulkhead learn`: what a plugin needs is found by running it, written, and enough; what it does not need
//! is named, and what none may have is not granted.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use bulkhead_tests::process::{DEADLINE, Outcome, authoring, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::{plugin, program};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A place that no compartment has by itself, for all to read: beneath `/tmp` each has its own.
fn outside() -> TempDir {
    // Nor hidden, as places of secrets are.
    let directory = tempfile::Builder::new().prefix("learn-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// With `--json` and these words: the exit code, and what it says.
fn learn(directory: &Path, words: &[&str], code: i32) -> (Value, Outcome) {
    let outcome = authoring("learn", directory, &[&["--json"][..], words].concat()).expect(code);
    (serde_json::from_str(&outcome.stdout).unwrap(), outcome)
}

fn manifest(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("plugin.toml")).unwrap()
}

/// A shell script that calls the witness.
struct Driver {
    directory: TempDir,
    script: PathBuf,
}

impl Driver {
    fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("driver.sh");
        let bulkhead = program::bulkhead();
        let text = format!("set -e\nbulkhead() {{ '{}' \"$@\"; }}\n{lines}\n", bulkhead.display());
        std::fs::write(&script, text).unwrap();
        Self { directory, script }
    }

    fn words<'a>(&'a self, before: &[&'a str]) -> Vec<&'a str> {
        assert!(self.directory.path().is_dir());
        [before, &["--", "sh", self.script.to_str().unwrap()]].concat()
    }
}

/// The witness, with that manifest beyond its name.
fn witness(below: &Path, lines: &str) -> PathBuf {
    let text = format!(
        "# Tells what it sees.\nid = \"witness\"\nversion = \"1.0.0\" # the first\n{lines}"
    );
    plugin::write(below, "witness", &text, "witness")
}

const METHODS: &str =
    "\n[provides.mirror]\nversion = \"1.0.0\"\n[provides.mirror.methods]\necho = {}\nread = {}\n";

#[test]
fn what_was_used_is_written_and_the_rest_is_named() {
    let (outside, below) = (outside(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "found").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = format!(
        "{METHODS}\n# Confined.\n[sandbox]\nproc = true\nread = [\"{}\"]\n\n[limits]\nmemory = \"64M\" # enough\n",
        outside.path().join("unused").display()
    );
    let plugin = witness(below.path(), &sandbox);
    std::fs::create_dir(outside.path().join("unused")).unwrap();
    // It fails until both are granted.
    let driver = Driver::new(&format!(
        "bulkhead inspect witness\n\
         test \"$(bulkhead call witness mirror/read '\"{}\"')\" = '\"found\"'\n\
         bulkhead call witness mirror/dial '\"127.0.0.1:{port}\"'",
        secret.display()
    ));
    let before = manifest(&plugin);

    let (reply, outcome) = learn(&plugin, &driver.words(&["--check", "--yes"]), 1);
    assert_eq!(manifest(&plugin), before, "to check changes nothing");
    let needed = format!("[sandbox] read = [\"{}\"]", secret.display());
    let reached = format!("[network] connect = [{port}]");
    assert_eq!(reply["lacking"], json!([needed, reached]));
    let unused = reply["unused"].to_string();
    assert!(unused.contains("proc") && unused.contains("unused"), "{unused}");
    assert_eq!(reply["enforced"]["passed"], true, "{reply}");
    // While it is learned from, nobody is told that its calls are enforced; afterwards they are.
    for word in ["watched", "filter in force"] {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
    assert!(outcome.stderr.contains("MANIFEST_NOT_LEARNED"), "{}", outcome.stderr);

    learn(&plugin, &driver.words(&["--write", "--yes"]), 0);
    let after = manifest(&plugin);
    for kept in [
        "# Tells what it sees.\n",
        "\"1.0.0\" # the first\n",
        "# Confined.\n[sandbox]\n",
        "memory = \"64M\" # enough\n",
    ] {
        assert!(after.contains(kept), "{kept:?} is not in\n{after}");
    }
    assert!(
        after.contains(secret.to_str().unwrap()) && after.contains(&format!("connect = [{port}]"))
    );
    assert!(!after.contains("proc") && !after.contains("unused"), "{after}");
    let (reply, _) = learn(&plugin, &driver.words(&["--check"]), 0);
    assert_eq!((&reply["lacking"], &reply["unused"]), (&json!([]), &json!([])));
    authoring("test", &plugin, &[]).expect(0);
}

/// A plugin that reads a secret each time it is learned from, and what it got of it, a line for each run.
struct Curious {
    outside: TempDir,
    below: TempDir,
    plugin: PathBuf,
    driver: Driver,
}

impl Curious {
    fn new() -> Self {
        let (outside, below) = (outside(), tempfile::tempdir().unwrap());
        let keys = outside.path().join(".keys");
        std::fs::create_dir(&keys).unwrap();
        let secret = keys.join("id");
        std::fs::write(&secret, "found").unwrap();
        let plugin = witness(below.path(), "");
        let driver = Driver::new(&format!(
            "bulkhead call witness mirror/read '\"{}\"' >>'{}'",
            secret.display(),
            below.path().join("got").display()
        ));
        Self { outside, below, plugin, driver }
    }

    fn secret(&self) -> String {
        self.outside.path().join(".keys/id").display().to_string()
    }

    /// What it got, from now on anew.
    fn got(&self) -> Vec<String> {
        let file = self.below.path().join("got");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn what_it_tries_to_reach_is_not_given_to_it_without_a_word() {
    let curious = Curious::new();
    let before = manifest(&curious.plugin);
    let line = format!("[sandbox] read = [\"{}\"]", curious.secret());

    let (reply, outcome) = learn(&curious.plugin, &curious.driver.words(&["--write"]), 1);
    assert_eq!(curious.got(), ["null"]);
    assert_eq!(reply["runs"], 1);
    assert_eq!((&reply["lacking"], &reply["enforced"]), (&json!([line]), &Value::Null));
    assert_eq!(reply["delicate"], json!([curious.secret()]));
    assert!(reply["incomplete"].as_str().unwrap().contains("--yes"), "{reply}");
    assert!(outcome.stderr.contains("LEARNING_INCOMPLETE"), "{}", outcome.stderr);
    assert_eq!(manifest(&curious.plugin), before, "what was not run under is not written");
    // The same for a person.
    let outcome = authoring("learn", &curious.plugin, &curious.driver.words(&[])).expect(1);
    assert_eq!(curious.got(), ["null"]);
    for part in ["not run under, and maybe incomplete", "look twice", &curious.secret()] {
        assert!(outcome.stdout.contains(part), "{part} is not in\n{}", outcome.stdout);
    }

    let (reply, _) = learn(&curious.plugin, &curious.driver.words(&["--write", "--yes"]), 0);
    assert_eq!(curious.got().iter().filter(|got| *got == "\"found\"").count(), 2, "{reply}");
    assert_eq!((&reply["lacking"], &reply["incomplete"]), (&json!([line]), &Value::Null));
    // What plugin.toml grants needs no word.
    learn(&curious.plugin, &curious.driver.words(&["--check"]), 0);
    assert_eq!(curious.got(), ["\"found\"", "\"found\""]);
}

#[test]
fn a_terminal_is_shown_what_it_would_be_given_and_asked() {
    let curious = Curious::new();
    let asked = || {
        let mut terminal = bulkhead(["learn"])
            .arg(&curious.plugin)
            .args(curious.driver.words(&[]))
            .env_remove("BULKHEAD_LOG")
            .on_terminal(200, 60);
        let shown = terminal.wait_for(|shown| shown.contains("Give it all of this? [y/N]"));
        assert!(
            shown.contains(&format!("  [sandbox] read = [\"{}\"]", curious.secret())),
            "{shown}"
        );
        assert!(shown.contains("secrets"), "{shown}");
        assert_eq!(curious.got(), ["null"]);
        terminal
    };
    for answer in ["n\r", "\r"] {
        let mut terminal = asked();
        terminal.press(answer);
        let left = terminal.wait();
        assert_eq!(left.code, Some(1), "{}", left.screen);
        assert!(left.written.contains("not agreed"), "{}", left.screen);
        assert_eq!(curious.got(), [""; 0]);
    }
    let terminal = asked();
    terminal.signal(Signal::SIGINT);
    let left = terminal.wait();
    assert_eq!(left.code, Some(1), "{}", left.screen);
    assert!(left.written.contains("INTERRUPTED"), "{}", left.screen);

    let mut terminal = asked();
    terminal.press("y\r");
    let left = terminal.wait();
    assert_eq!(left.code, Some(0), "{}", left.screen);
    assert_eq!(curious.got(), ["\"found\"", "\"found\""]);
}

#[test]
fn what_does_not_settle_is_incomplete() {
    let (outside, below) = (outside(), tempfile::tempdir().unwrap());
    for run in 1..=6 {
        let directory = outside.path().join(run.to_string());
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("file"), "found").unwrap();
    }
    let plugin = witness(below.path(), "");
    let before = manifest(&plugin);
    // Another file in each run.
    let driver = Driver::new(&format!(
        "echo >>'{count}'\n\
         bulkhead call witness mirror/read \"\\\"{files}/$(wc -l <'{count}')/file\\\"\"",
        count = below.path().join("count").display(),
        files = outside.path().display()
    ));
    let (reply, outcome) = learn(&plugin, &driver.words(&["--write", "--yes"]), 1);
    assert_eq!((&reply["runs"], &reply["enforced"]), (&json!(5), &Value::Null));
    assert!(reply["incomplete"].as_str().unwrap().contains("still found more"), "{reply}");
    assert!(outcome.stderr.contains("LEARNING_INCOMPLETE"), "{}", outcome.stderr);
    assert_eq!(manifest(&plugin), before);
}

#[test]
fn nothing_is_learned_of_a_plugin_that_does_not_start() {
    let below = tempfile::tempdir().unwrap();
    let place = below.path().join("place");
    let plugin = witness(below.path(), &format!("[sandbox]\nread = ['{}']\n", place.display()));
    let before = manifest(&plugin);
    let (reply, outcome) = learn(&plugin, &["--write", "--yes"], 1);
    assert_eq!(reply["enforced"], Value::Null, "{reply}");
    assert!(reply["incomplete"].as_str().unwrap().contains("does not start"), "{reply}");
    assert!(outcome.stderr.contains("LEARNING_INCOMPLETE"), "{}", outcome.stderr);
    assert_eq!(manifest(&plugin), before);
    // The control: with the place it starts, and has no use for it.
    std::fs::create_dir(place).unwrap();
    learn(&plugin, &["--write", "--yes"], 0);
    assert_ne!(manifest(&plugin), before);
}

#[test]
fn why_it_cannot_be_installed_is_told() {
    let below = tempfile::tempdir().unwrap();
    let plugin = witness(below.path(), "");
    let entry = plugin.join("bin/witness");
    let refused = |reason: &str| {
        let (reply, outcome) = learn(&plugin, &["--yes"], 1);
        let why = reply["incomplete"].as_str().unwrap();
        assert!(why.contains(reason) && why.contains("bin/witness"), "{why}");
        assert!(outcome.stderr.contains("LEARNING_INCOMPLETE"), "{}", outcome.stderr);
    };
    std::fs::set_permissions(&entry, Permissions::from_mode(0o644)).unwrap();
    refused("ENTRY_INVALID");
    // The control: nothing else is wrong with it.
    std::fs::set_permissions(&entry, Permissions::from_mode(0o755)).unwrap();
    learn(&plugin, &["--yes"], 0);
    std::fs::remove_dir_all(plugin.join("bin")).unwrap();
    refused("has no entry");
}

#[test]
fn what_an_author_writes_meanwhile_is_not_lost_and_a_link_stays() {
    let below = tempfile::tempdir().unwrap();
    let plugin = witness(below.path(), "[sandbox]\nproc = true\n");
    let (file, apart) = (plugin.join("plugin.toml"), below.path().join("apart.toml"));
    let driver = Driver::new(&format!("echo '# Mine.' >>'{}'", file.display()));
    let (_, outcome) = learn(&plugin, &driver.words(&["--write"]), 1);
    assert!(outcome.stderr.contains("CONFLICT"), "{}", outcome.stderr);
    let text = manifest(&plugin);
    assert!(text.contains("# Mine.") && text.contains("proc = true"), "{text}");

    std::fs::rename(&file, &apart).unwrap();
    std::os::unix::fs::symlink(&apart, &file).unwrap();
    let author = nix::unistd::getuid().is_root().then_some(4711);
    std::os::unix::fs::chown(&apart, author, author).unwrap();
    let owner = |file: &Path| {
        let found = std::fs::metadata(file).unwrap();
        (found.uid(), found.gid(), found.mode())
    };
    let before = owner(&apart);
    learn(&plugin, &["--write"], 0);
    assert_eq!(owner(&apart), before);
    assert_eq!(std::fs::read_link(&file).unwrap(), apart);
    let text = std::fs::read_to_string(&apart).unwrap();
    assert!(text.contains("# Mine.") && !text.contains("proc"), "{text}");
}

#[test]
fn a_call_that_kills_it_is_allowed_by_its_name() {
    let below = tempfile::tempdir().unwrap();
    let lines = "[lifecycle]\ninit_timeout = \"8s\"\nstop_timeout = \"6s\"";
    let plugin = plugin::hostile(below.path(), "own-session", lines);
    // The control: it dies of it.
    authoring("test", &plugin, &[]).expect(1);
    let (reply, _) = learn(&plugin, &["--write"], 0);
    assert_eq!(reply["lacking"], json!(["[sandbox] allow_syscalls = [\"setsid\"]"]));
    assert!(manifest(&plugin).contains("allow_syscalls = [\"setsid\"]"));
    authoring("test", &plugin, &[]).expect(0);
    learn(&plugin, &["--check"], 0);
}

#[test]
fn a_call_that_none_may_have_is_named_and_not_granted() {
    let below = tempfile::tempdir().unwrap();
    let plugin = plugin::hostile(below.path(), "forbidden-call", "");
    let before = manifest(&plugin);
    let (reply, outcome) = learn(&plugin, &["--write"], 1);
    assert_eq!(reply["observed"]["impossible"], json!(["unshare"]));
    let notes = reply["notes"].to_string();
    assert!(notes.contains("unshare, which no manifest can have"), "{notes}");
    assert_eq!(reply["proposal"]["sandbox"]["allow_syscalls"], json!([]));
    assert!(outcome.stderr.contains("LEARNING_INCOMPLETE"), "{}", outcome.stderr);
    assert_eq!(manifest(&plugin), before, "what is not enough is not written");
}

#[test]
fn a_schedule_is_run_and_events_are_said_to_be_untried() {
    let below = tempfile::tempdir().unwrap();
    let lines = format!(
        "{METHODS}[events]\nsubscribes = [\"news.*\"]\n[[schedule]]\ncron = '0 3 * * *'\nmethod = 'tick'\n"
    );
    let (reply, outcome) = learn(&witness(below.path(), &lines), &[], 0);
    let step = json!({ "name": "schedule tick", "passed": true, "text": "it runs" });
    assert!(reply["life"].as_array().unwrap().contains(&step), "{reply}");
    // `read` wants a path.
    assert_eq!(
        reply["hardlyLearned"],
        json!(["method mirror/read", "events news.*"]),
        "{outcome:?}"
    );
}

#[test]
fn a_connection_that_the_host_makes_is_learned_as_a_host() {
    let below = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = listener.local_addr().unwrap().to_string();
    // Until the listener is gone with the test.
    std::thread::spawn(move || {
        let greet = |stream: std::io::Result<TcpStream>| stream?.write_all(b"welcome\n");
        listener.incoming().map(greet).for_each(drop);
    });
    let plugin = witness(below.path(), "[network]\nhosts = [\"nobody.example.org:1\"]\n");
    let driver = Driver::new(&format!(
        "test \"$(bulkhead call witness mirror/ask '\"{pair}\"')\" = '\"welcome\"'"
    ));
    let (reply, _) = learn(&plugin, &driver.words(&["--write", "--yes"]), 0);
    assert_eq!(reply["lacking"], json!([format!("[network] hosts = [\"{pair}\"]")]));
    let unused = reply["unused"].to_string();
    assert!(unused.contains("nobody.example.org"), "{unused}");
    learn(&plugin, &driver.words(&["--check"]), 0);
}

#[test]
fn nobody_but_the_starter_of_a_service_has_it_learn() {
    let below = tempfile::tempdir().unwrap();
    let socket = format!("witness={}", below.path().join("s").display());
    let outcome = bulkhead(["serve", "--learn", &socket]).run().expect(2);
    assert!(outcome.stderr.contains("--parent"), "{}", outcome.stderr);
    // Nor does the configuration.
    let config = below.path().join("bulkhead.toml");
    std::fs::write(&config, format!("learn = {socket:?}\n")).unwrap();
    let outcome = bulkhead(["serve", "--config", config.to_str().unwrap()]).run();
    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("learn"), "{}", outcome.stderr);
    // Nor does one whose child the service is not.
    let outcome = bulkhead(["serve", "--parent", "1", "--learn", &socket]).run();
    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("not our parent"), "{}", outcome.stderr);
}

#[test]
fn a_strict_service_starts_nothing_that_is_learned_from() {
    let below = tempfile::tempdir().unwrap();
    let socket = below.path().join("learn.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Who comes, is left alone: so it cannot be executed. Until the test ends.
    let (came, comes) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
            let _ = came.send(());
        }
    });
    let plugin = witness(below.path(), METHODS);
    let start = |mode: &str| {
        let mut service = Service::in_mode(mode);
        service.stop().expect(0);
        let parent = std::process::id().to_string();
        let learning = format!("witness={}", socket.display());
        service.set_arguments(&["--parent", &parent, "--learn", &learning]);
        service.run_again();
        service.command(["install"]).arg(&plugin).run().expect(0);
        (service.command(["enable", "witness"]).run(), service)
    };
    // The control: its parent is the real one, and has it learned from.
    let (outcome, service) = start("best-effort");
    comes.recv_timeout(DEADLINE).unwrap();
    assert!(!outcome.stderr.contains("learner"), "{}", outcome.stderr);
    drop(service);
    let (outcome, _service) = start("strict");
    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("learner"), "{}", outcome.stderr);
}

#[test]
fn an_interruption_ends_all_that_the_command_has_started() {
    let below = tempfile::tempdir().unwrap();
    let plugin = witness(below.path(), METHODS);
    // The one in the background has the verb's standard error, which is read to its end below.
    let driver = Driver::new("sleep 300 &\necho started\nwait");
    let mut running = bulkhead(["learn"]).arg(&plugin).args(driver.words(&[])).start();
    running.stderr.line(|line| line == "started");
    running.signal(Signal::SIGTERM);
    let outcome = running.wait().expect(1);
    assert!(outcome.stderr.contains("INTERRUPTED"), "{}", outcome.stderr);
}
