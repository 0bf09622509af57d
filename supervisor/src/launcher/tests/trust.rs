//! Whose plugins start, by the keys that are trusted at that moment.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::harness::{shell, wait};
use super::trusting::*;
use crate::failure::Code;
use crate::link::{Reply, Request};
use crate::trust::sample::Signing;

#[test]
fn a_revoked_key_keeps_its_plugins_from_starting_and_stops_none_that_runs() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let digest = digest(trusting.import_signed(&mut supervisor, &package()));
    allot(&mut supervisor, "probe");
    let script = "echo up; read x <&3; read x <&3";
    let mut plugin = supervisor.spawn(probe(digest, script));
    plugin.stdout.wait_for("up");
    trusting.revoke(&trusting.signing);
    let failure = supervisor.refused(authorize("probe", digest));
    assert_eq!(failure.details["reason"], "revoked-key");
    // It runs on: what is refused next is that it runs already.
    let start = || Request::Spawn(Box::new(probe(digest, script)));
    assert_eq!(supervisor.refused(start()).code, Code::Conflict);
    supervisor.done(plugin.stop(Duration::ZERO, Duration::from_secs(1)));
    supervisor.exit();
    supervisor.done(plugin.acknowledge());
    refused(supervisor.ask(start()).map(|(reply, _)| reply), "revoked-key");
    // Another key that has signed the same tree is enough.
    let second = Signing::new();
    trusting.trust(&second, vec!["probe".parse().unwrap()]);
    let content = package();
    let again = trusting.import(&mut supervisor, &content, &second.sign(&content)).unwrap();
    assert!(matches!(again, Reply::Imported { digest: same, .. } if same == digest), "{again:?}");
    let mut plugin = supervisor.spawn(probe(digest, script));
    plugin.stdout.wait_for("up");
}

#[test]
fn a_tree_starts_only_as_a_plugin_that_its_key_may_sign() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let digest = digest(trusting.import_signed(&mut supervisor, &package()));
    allot(&mut supervisor, "probe");
    allot(&mut supervisor, "victim");
    let start = |id: &str| crate::link::Spawn {
        id: id.parse().unwrap(),
        ..probe(digest, "echo up; read x <&3")
    };
    let failure = supervisor.refused(Request::Spawn(Box::new(start("victim"))));
    assert_eq!(
        (failure.code, &failure.details["reason"]),
        (Code::SignatureInvalid, &"other-plugin".into())
    );
    supervisor.spawn(start("probe")).stdout.wait_for("up");
}

#[test]
fn a_directory_needs_the_administrators_word_at_every_start() {
    let mut trusting = Trusting::start("allow_directories = true");
    let mut supervisor = trusting.service.ready();
    let directory = trusting.service.package("probe", Path::new("/bin/sh"));
    let digest = supervisor.install("probe", &directory);
    supervisor.done(authorize("probe", digest));
    let script = "echo up; read x <&3";
    supervisor.spawn(shell("probe", digest, script)).stdout.wait_for("up");
    trusting.service.signal(Signal::SIGKILL);
    trusting.service.wait();
    let config = trusting.service.path().join("bulkhead.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("allow_directories = true", "")).unwrap();
    let mut launcher = trusting.service.another();
    let mut supervisor = trusting.service.ready();
    let failure = supervisor.refused(authorize("probe", digest));
    assert_eq!(failure.details["reason"], "unsigned");
    let start = Request::Spawn(Box::new(shell("probe", digest, script)));
    refused(supervisor.ask(start).map(|(reply, _)| reply), "unsigned");
    launcher.kill().unwrap();
    wait(&mut launcher);
}
