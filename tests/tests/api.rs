//! The admin API as any client meets it: refusals are coded problems, whoever makes them.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use bulkhead_tests::description;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Program};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, program, test_name};
use serde_json::{Value, json};

/// One request on a connection of its own: the status and the body.
fn ask(service: &Service, request: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: bulkhead\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A service that refuses a body may hang up before it has read all of it.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) =
        reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no reply: {reply:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (method, target) = request.split_once(' ').unwrap();
    let media_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    description::check(method, target, status, media_type, body.as_bytes());
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {body}")))
}

#[test]
fn every_refusal_is_a_coded_problem() {
    let service = Service::start();
    service.install(&Package::hostile("victim", "well", ""));
    let long = vec![b' '; (1 << 20) + 1];
    for (request, body, status, code) in [
        ("GET /v1/nothing", &b""[..], 404, "NOT_FOUND"),
        ("PUT /v1/plugins", b"", 400, "INVALID_REQUEST"),
        ("GET /v1/plugins/No_Id", b"", 400, "INVALID_REQUEST"),
        ("GET /v1/plugins/absent", b"", 404, "NOT_FOUND"),
        ("POST /v1/plugins", b"{", 400, "INVALID_REQUEST"),
        ("POST /v1/plugins", b"{\"directory\": \"relative\"}", 400, "INVALID_REQUEST"),
        ("POST /v1/plugins/victim/enable", b"{\"conifg\": {}}", 400, "INVALID_REQUEST"),
        ("POST /v1/plugins/victim/enable", b"{\"config\": 7}", 400, "CONFIG_INVALID"),
        (
            "POST /v1/plugins/victim/disable",
            b"{\"timeout\": 18446744073709551615}",
            400,
            "INVALID_REQUEST",
        ),
        ("POST /v1/plugins/victim/call/echo?timeout=x", b"1", 400, "INVALID_REQUEST"),
        ("POST /v1/plugins/victim/call/echo", b"1", 409, "CONFLICT"),
        ("POST /v1/plugins/victim/call/echo", &long, 413, "RESOURCE_EXHAUSTED"),
        ("GET /v1/events?since=x", b"", 400, "INVALID_REQUEST"),
    ] {
        let (found, problem) = ask(&service, request, body);
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{request}: {problem}");
        assert_eq!(problem["status"], status, "{request}");
        assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{request}");
        assert!(problem["details"].is_object(), "{request}: {problem}");
    }
    let problem = ask(&service, "POST /v1/plugins/victim/call/echo", &long).1;
    let bounds = json!({ "resource": "request-body", "limit": 1 << 20, "used": long.len() });
    assert_eq!(problem["details"], bounds, "{problem}");
    let problem = ask(&service, "GET /v1/events?since=x", b"").1;
    assert_eq!(problem["details"]["query"], "since=x", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("/openapi.json"), "{problem}");
    assert_eq!(ask(&service, "GET /v1/health", b"").0, 200);
}

#[test]
fn a_stranger_is_told_so_and_cannot_take_the_places_of_others() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::with("admin_group = \"0\"\nreader_group = \"12345\"");
    let ls = |uid: &str, groups: &[&str]| {
        let mut program = Program::new("setpriv");
        for word in ["--reuid", uid, "--regid", uid].iter().chain(groups) {
            program = program.arg(word);
        }
        program = program.arg(program::bulkhead()).arg("--socket").arg(service.socket());
        program.arg("ls").arg("--json").run()
    };
    let refused = ls("4242", &["--clear-groups"]).expect(4);
    assert!(refused.stderr.contains("PERMISSION_DENIED"), "{}", refused.stderr);
    ls("4242", &["--groups", "12345"]).expect(0);
    // Far more idle strangers than are answered at a time.
    let mut idle = Program::new("setpriv");
    for word in ["--reuid", "4242", "--regid", "4242", "--clear-groups", "/usr/bin/perl"] {
        idle = idle.arg(word);
    }
    let script = "$| = 1; @held = map { IO::Socket::UNIX->new(Peer => $ARGV[0]) } 1..200; \
                  print \"held\\n\"; sleep 1000";
    let mut idle =
        idle.arg("-MIO::Socket::UNIX").arg("-e").arg(script).arg(service.socket()).start();
    idle.stdout.line(|line| line == "held");
    assert_eq!(service.json(["ls"])["plugins"], json!([]));
}

#[test]
fn a_refused_enable_changes_nothing() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "ignore-sigterm", ""));
    let disable = service.command(["disable", "victim", "--timeout", "2s", "--json"]).start();
    service.wait_for("victim", |plugin| plugin["state"] == "disabling");
    let error = service.error(["enable", "victim"]);
    assert_eq!(
        (&error["code"], &error["details"]["state"]),
        (&json!("CONFLICT"), &json!("disabling"))
    );
    disable.wait().expect(0);
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!((&plugin["state"], &plugin["desired"]), (&json!("disabled"), &json!("disabled")));
}

#[test]
fn nothing_is_left_of_what_was_uninstalled() {
    let service = Service::start();
    let package = Package::hostile("victim", "well", "");
    for _ in 0..3 {
        service.enable(&package);
        service.json(["uninstall", "victim"]);
        assert_eq!(service.error(["inspect", "victim"])["exitCode"], 3);
        assert_eq!(service.plugin_processes(), [0; 0]);
        for place in ["state/store", "state/plugins", "state/supervisor/logs"] {
            let left: Vec<_> = std::fs::read_dir(service.directory().join(place))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert!(left.is_empty(), "{place}: {left:?}");
        }
    }
}

#[test]
fn what_is_answered_is_what_is_described() {
    let service = Service::start();
    let mut admin = service.admin();
    let served = admin.ask("GET", "/openapi.json", "").unwrap().json();
    assert_eq!(&served, description::document(), "the program is of the same sources");
    service.enable(&Package::witness("victim", ""));
    service.command(["call", "victim", "set-state", "{\"a\": 1}"]).run().expect(0);
    for path in [
        "/v1/health",
        "/v1/machine",
        "/v1/plugins",
        "/v1/plugins/victim",
        "/v1/plugins/victim/config",
        "/v1/plugins/victim/state",
        "/v1/plugins/absent",
    ] {
        admin.ask("GET", path, "").unwrap();
    }
    for (method, path, body, status) in [
        ("POST", "/v1/plugins/victim/call/get-state", "", 200),
        ("POST", "/v1/plugins/victim/call/nothing", "", 502),
        ("PUT", "/v1/plugins/victim/config", "{\"rooms\": 1}", 200),
        ("PUT", "/v1/plugins/victim/config", "[]", 400),
        ("POST", "/v1/events", "{\"name\": \"news\"}", 202),
        ("POST", "/v1/plugins/victim/disable", "", 200),
        ("GET", "/v1/plugins/victim", "", 200),
        ("POST", "/v1/plugins/victim/enable", "", 200),
        ("DELETE", "/v1/plugins/victim", "", 200),
        ("DELETE", "/v1/plugins/victim", "", 404),
    ] {
        let reply = admin.ask(method, path, body).unwrap();
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, status, "{method} {path}: {text}");
    }
}
