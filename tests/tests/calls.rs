//! Calls between plugins, through the supervisor.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::admin::Admin;
use bulkhead_tests::exposition::Scrape;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Running};
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What a provider of these tests provides.
const PROVIDES: &str = "[provides.desk]\nversion = \"1.0.0\"\n\
    [provides.desk.methods]\necho = {}\nlinger = {}\nseen = {}\n";
/// A circuit that opens soon, and closes soon.
const SOON: &str = "[lifecycle]\ncall_timeout = \"200ms\"\n\
    [lifecycle.circuit]\nfailures = 3\ncool_down = \"1s\"\n";

/// A service with `desk`, and `clerk` that calls it.
fn clerk_and(desk: &Package) -> Service {
    let service = Service::start();
    service.enable(desk);
    service.enable(&Package::witness("clerk", "[dependencies]\ndesk = \"^1\""));
    service
}

fn desk(mode: &str, lines: &str) -> Package {
    Package::hostile("desk", mode, &format!("{PROVIDES}{lines}"))
}

/// What the clerk is told by the desk.
fn relay(admin: &mut Admin, onward: &Value) -> Value {
    admin.post("/v1/plugins/clerk/call/relay", &onward.to_string()).unwrap().json()
}

fn echo(admin: &mut Admin) -> Value {
    relay(admin, &json!({ "service": "desk", "method": "echo" }))
}

fn follow(service: &Service, what: &[&str]) -> Running {
    service.command(what).args(["--follow", "--json"]).start()
}

/// What has been told of the desk's circuit, in order.
fn told(service: &Service) -> Vec<Value> {
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let circuit = |event: &Value| event["code"].as_str().is_some_and(|it| it.contains("CIRCUIT"));
    events.filter(circuit).map(|event| event["code"].clone()).collect()
}

fn scrape(service: &Service) -> Scrape {
    Scrape::parse(&service.command(["metrics"]).run().expect(0).stdout).unwrap()
}

fn gauge(service: &Service) -> u64 {
    scrape(service).value("bulkhead_call_circuit", &[("plugin", "desk")]).unwrap() as u64
}

fn circuit(service: &Service) -> Value {
    service.json(["inspect", "desk"])["callCircuit"].clone()
}

#[test]
fn deadline_person_and_trace_go_along() {
    let service = clerk_and(&Package::witness("desk", PROVIDES));
    let mut admin = service.admin();
    let asking = "content-type: application/json\r\nbulkhead-on-behalf-of: dr.smith\r\n\
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let onward = json!({ "service": "desk", "method": "seen" }).to_string();
    let answer = admin
        .ask_with("POST", "/v1/plugins/clerk/call/relay?timeout=5000", asking, &onward)
        .unwrap();
    let seen = answer.json()["reply"].clone();
    let left = seen["leftMs"].as_u64().unwrap();
    assert!(left > 0 && left <= 5000, "what is left of the caller's time: {seen}");
    assert_eq!(seen["onBehalfOf"], "dr.smith", "{seen}");
    assert!(seen["trace"].is_array(), "{seen}");
    // A deadline of its own is for the desk too, and no longer than the desk gives anybody.
    let shorter = json!({ "service": "desk", "method": "seen", "timeoutMs": 700 });
    assert!(relay(&mut admin, &shorter)["reply"]["leftMs"].as_u64().unwrap() <= 700);
    let longer = json!({ "service": "desk", "method": "seen", "timeoutMs": 3_600_000 });
    assert!(relay(&mut admin, &longer)["reply"]["leftMs"].as_u64().unwrap() <= 30_000);
}

#[test]
fn a_call_that_is_withdrawn_is_withdrawn_at_the_provider() {
    let service = clerk_and(&Package::witness("desk", PROVIDES));
    let mut log = follow(&service, &["logs", "desk"]);
    let onward = json!({ "service": "desk", "method": "linger", "timeoutMs": 300 });
    let answer = relay(&mut service.admin(), &onward);
    assert_eq!(answer["error"]["code"], "TIMEOUT", "{answer}");
    log.stdout.line(|line| line.contains("withdrawn"));
    // A deadline that was met withdraws nothing.
    let mut admin = service.admin();
    assert_eq!(echo(&mut admin), json!({ "reply": "echo" }));
}

#[test]
fn a_callers_death_withdraws_its_calls() {
    let service = clerk_and(&Package::witness("desk", PROVIDES));
    let mut log = follow(&service, &["logs", "desk"]);
    let onward = json!({ "service": "desk", "method": "linger" }).to_string();
    let call = service.command(["call", "clerk", "relay", &onward, "--json"]).start();
    log.stdout.line(|line| line.contains("lingering"));
    let so_far = service.command(["logs", "desk", "--json"]).run().expect(0).stdout;
    assert!(!so_far.contains("withdrawn"), "{so_far}");
    let pid = service.json(["inspect", "clerk"])["process"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    log.stdout.line(|line| line.contains("withdrawn"));
    let error: Value = serde_json::from_str(&call.wait().expect(1).stderr).unwrap();
    assert_eq!(error["code"], "PLUGIN_DIED", "{error}");
    let exit = &error["details"]["exit"];
    assert!(exit.is_object(), "what it died of: {error}");
    // The desk did nothing wrong.
    assert_eq!(circuit(&service)["failures"], 0);
}

#[test]
fn one_that_does_not_answer_is_kept_from_its_callers_until_it_does() {
    // Three open the circuit, one is the operator's, one tries in vain, and the next is answered.
    let service = clerk_and(&desk("silent-first 5", SOON));
    let mut admin = service.admin();
    assert_eq!(gauge(&service), 0);
    for _ in 0..3 {
        let answer = echo(&mut admin);
        assert_eq!(answer["error"]["code"], "TIMEOUT", "{answer}");
    }
    let refused = echo(&mut admin)["error"].clone();
    assert_eq!(refused["code"], "DEPENDENCY_MISSING", "{refused}");
    assert_eq!(refused["details"]["dependency"], "desk", "{refused}");
    assert_eq!(refused["details"]["state"], "circuit-open", "{refused}");
    assert!(refused["details"]["retryAfterMs"].as_u64().unwrap() <= 1000, "{refused}");
    assert_eq!(told(&service), ["CALL_CIRCUIT_OPENED"]);
    let labels = [("plugin", "desk"), ("method", "echo"), ("outcome", "timeout")];
    let found = scrape(&service);
    assert_eq!(found.value("bulkhead_calls_total", &labels), Some(3.0), "and none was cancelled");
    // Who operates it gets through, and learns what there is to know.
    let error = service.error(["call", "desk", "echo", "--timeout", "100ms"]);
    assert_eq!(error["code"], "TIMEOUT", "{error}");

    let deadline = Instant::now() + DEADLINE;
    let mut tries = 0;
    loop {
        let answer = echo(&mut admin);
        if answer == json!({ "reply": "echo" }) {
            break;
        }
        assert!(Instant::now() < deadline, "it stays open: {answer}");
        match answer["error"]["code"].as_str().unwrap() {
            "DEPENDENCY_MISSING" => {
                let state = circuit(&service);
                assert!(state["state"] == "open" || tries == 1, "{state}");
            }
            "TIMEOUT" => tries += 1,
            _ => panic!("{answer}"),
        }
    }
    assert_eq!(tries, 1, "one call at a time tries");
    assert_eq!(told(&service), ["CALL_CIRCUIT_OPENED", "CALL_CIRCUIT_CLOSED"]);
    assert_eq!(gauge(&service), 0);
    assert_eq!(
        circuit(&service),
        json!({ "state": "closed", "failures": 0, "retryAfterMs": null })
    );
}

#[test]
fn one_that_dies_of_its_calls_is_kept_from_its_callers_and_enabling_it_ends_that() {
    let restarts = "[lifecycle.restart]\nbackoff = \"10ms\"\nbackoff_max = \"10ms\"\nlimit = 100\n\
        [lifecycle.circuit]\nfailures = 3\ncool_down = \"1h\"\n";
    let service = clerk_and(&desk("crash-after 0", restarts));
    let mut admin = service.admin();
    let deadline = Instant::now() + DEADLINE;
    let mut deaths = 0;
    let refused = loop {
        assert!(Instant::now() < deadline);
        let error = echo(&mut admin)["error"].clone();
        match error["code"].as_str().unwrap() {
            "PLUGIN_DIED" => {
                let exit = &error["details"]["exit"];
                assert!(exit.is_null(), "of what it died is not another plugin's to know: {error}");
                deaths += 1;
            }
            // It is away between two lives, and then for good.
            "DEPENDENCY_MISSING" if error["details"]["state"] == "circuit-open" => break error,
            "DEPENDENCY_MISSING" => {}
            _ => panic!("{error}"),
        }
    };
    assert_eq!(deaths, 3, "{refused}");
    assert_eq!((circuit(&service)["state"].clone(), gauge(&service)), (json!("open"), 2));
    service.json(["disable", "clerk"]);
    service.json(["disable", "desk"]);
    service.json(["enable", "clerk"]);
    assert_eq!(circuit(&service)["state"], "closed");
    assert_eq!(told(&service), ["CALL_CIRCUIT_OPENED", "CALL_CIRCUIT_CLOSED"]);
}

#[test]
fn own_errors_and_impatient_callers_open_no_circuit() {
    let service = clerk_and(&desk("well", SOON));
    let mut admin = service.admin();
    for _ in 0..4 {
        let answer = relay(&mut admin, &json!({ "service": "desk", "method": "seen" }));
        assert_eq!(answer["error"]["code"], "CALL_FAILED", "{answer}");
    }
    assert_eq!(circuit(&service)["failures"], 0);
    assert_eq!(echo(&mut admin), json!({ "reply": "echo" }));

    let patient = "[lifecycle]\ncall_timeout = \"2500ms\"\n[lifecycle.circuit]\nfailures = 1\n";
    let service = clerk_and(&desk("silent-call", patient));
    let mut admin = service.admin();
    let within = |ms: u64| json!({ "service": "desk", "method": "echo", "timeoutMs": ms });
    for hasty in [20, 20, 1100] {
        let answer = relay(&mut admin, &within(hasty));
        assert_eq!(answer["error"]["code"], "TIMEOUT", "{answer}");
    }
    assert_eq!(circuit(&service)["failures"], 0);
    // The control: with half of the desk's own time it is the desk that is at fault.
    relay(&mut admin, &within(1400));
    assert_eq!(circuit(&service)["state"], "open");
    let text = service.command(["inspect", "desk"]).run().expect(0).stdout;
    assert!(text.contains("calls of other plugins are refused (circuit open)"), "{text}");
}
