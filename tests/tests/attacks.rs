//! The attack list: what a plugin does on its sockets, against the whole service. A sibling shows each
//! time that nobody else is the worse for it.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use bulkhead_tests::test_name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const NEVER: &str = "[lifecycle.restart]\npolicy = \"never\"";

fn with_sibling() -> Service {
    let service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    service
}

fn sibling_answers(service: &Service) {
    assert_eq!(service.json(["call", "sibling", "echo", "[7]"]), json!([7]));
}

/// Waits for a line of the victim's log.
fn logged(service: &Service, words: &str) -> String {
    let mut log = service.command(["logs", "victim", "--follow", "--json"]).start();
    log.stdout.line(|line| line.contains(words))
}

/// How many descriptors launcher and supervisor have open together.
fn descriptors(service: &Service) -> usize {
    let count = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    count(service.pid()) + count(service.supervisor())
}

/// Kills the supervisor and waits until it is gone: what it has accepted by then is lost with it.
fn kill_supervisor(service: &Service) {
    let old = service.supervisor();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while service.supervisor() == old {
        assert!(Instant::now() < deadline, "{old} is still there");
    }
}

#[test]
fn whoever_breaks_a_rule_of_the_protocol_is_stopped_and_the_rule_is_named() {
    let service = with_sibling();
    let others = service.plugin_processes().len();
    for (mode, word) in [
        ("forged-length", "malformed"),
        ("late-hello", "hello"),
        ("unknown-message 201", "201"),
        ("body-on-ping", "body"),
        ("unknown-stream", "does not exist"),
        ("unknown-pong", "pong"),
        ("call-id-reuse", "call"),
        ("call-flood", "unanswered"),
        ("double-reply", "second reply"),
    ] {
        service.install(&Package::hostile("victim", mode, NEVER));
        let _ = service.command(["enable", "victim"]).run();
        // What `double-reply` waits for; the others have broken the rule by then, or are about to.
        let _ = service.command(["call", "victim", "echo", "1", "--timeout", "1s"]).run();
        let plugin = service.wait_for("victim", |plugin| plugin["state"] == "disabled");
        let error = &plugin["lastError"];
        assert_eq!(error["code"], "PROTOCOL_VIOLATION", "{mode}: {plugin}");
        let violation = error["details"]["violation"].as_str().unwrap().to_lowercase();
        assert!(violation.contains(word), "{mode}: {violation}");
        assert_eq!(service.plugin_processes().len(), others, "{mode}");
        sibling_answers(&service);
        service.json(["uninstall", "victim"]);
    }
}

#[test]
fn a_frame_that_stands_still_or_is_cut_off_ends_the_session_of_its_sender_alone() {
    // Longer than a frame may stand still: it is not its silence that ends it.
    let patient = format!("[lifecycle]\nhealth_timeout = \"5m\"\n{NEVER}");
    let service = with_sibling();
    let others = service.plugin_processes();
    for (mode, code, words) in [
        ("slow-frame", "TIMEOUT", "stood still at 7 bytes"),
        ("truncated-frame", "PROTOCOL_VIOLATION", "without a goodbye"),
        ("early-goodbye", "PROTOCOL_VIOLATION", "bored"),
    ] {
        service.install(&Package::hostile("victim", mode, &patient));
        let error = service.error(["enable", "victim"]);
        assert_eq!(error["code"], code, "{mode}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{mode}: {error}");
        sibling_answers(&service);
        assert_eq!(service.json(["inspect", "victim"])["state"], "disabled", "{mode}");
        assert_eq!(service.plugin_processes(), others, "{mode}");
        service.json(["uninstall", "victim"]);
    }
}

#[test]
fn descriptors_on_a_session_are_closed_and_those_on_the_bootstrap_socket_go_nowhere() {
    // The supervisor is not dumpable: nobody else may count its descriptors.
    if !lane::root(test_name!()) {
        return;
    }
    // Without a flood: as many are open as there have to be, and some for whoever asks just then.
    let service = with_sibling();
    service.enable(&Package::hostile("victim", "well", ""));
    let usual = descriptors(&service) + 8;
    service.json(["disable", "victim"]);
    for (mode, words) in [("descriptor-flood 200", "sent 200"), ("bootstrap-flood", "then:")] {
        service.json(["uninstall", "victim"]);
        service.enable(&Package::hostile("victim", mode, ""));
        logged(&service, words);
        // It has done nothing that the protocol knows of, and is served on.
        assert_eq!(service.json(["call", "victim", "echo", "[7]"]), json!([7]));
        let open = descriptors(&service);
        assert!(open <= usual, "{mode}: {open} descriptors are open, usually {usual}");
        sibling_answers(&service);
        // A new session still comes to it over the same socket.
        kill_supervisor(&service);
        assert_eq!(service.json(["call", "victim", "echo", "[8]"]), json!([8]));
        service.json(["disable", "victim"]);
    }
}

#[test]
fn a_deep_reply_is_passed_on_and_harms_nobody() {
    const DEPTH: usize = 100_000;
    let service = with_sibling();
    service.enable(&Package::hostile("victim", &format!("deep-reply {DEPTH}"), ""));
    let reply = service.admin().post("/v1/plugins/victim/call/echo", "1").unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 2 * DEPTH));
    let shown = service.command(["call", "victim", "echo", "1", "--json"]).run().expect(0).stdout;
    assert_eq!(shown.trim_end().len(), 2 * DEPTH);
    sibling_answers(&service);
    let deep = "[".repeat(DEPTH);
    let refused = service.admin().post("/v1/plugins/sibling/call/echo", &deep).unwrap();
    assert_eq!(refused.status, 400);
    sibling_answers(&service);
}
