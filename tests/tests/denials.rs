//! What is denied to a plugin is told with the layer and the line that would allow it: in `inspect`, as a warning,
//! in the audit and with its death.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, process, test_name};
use serde_json::{Value, json};

const NEVER: &str = "[lifecycle.restart]\npolicy = \"never\"";

fn died(plugin: &Value) -> bool {
    plugin["lastExit"].is_object() && plugin["lastError"].is_object()
}

/// Looks at a plugin until it is as wanted: a denial that is only counted is no event to wait for.
fn look(service: &Service, id: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let deadline = Instant::now() + lane::slack();
    loop {
        let plugin = service.json(["inspect", id]);
        if wanted(&plugin) {
            return Some(plugin);
        }
        if Instant::now() > deadline {
            return None;
        }
    }
}

/// Whether what Landlock denies can be told here, by a service's own word; else a skip.
fn observable(test: &str, service: &Service) -> bool {
    // Known without waiting for a record that will not come.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 15) {
        lane::skip(test, &format!("kernel {} has no Landlock ABI 7", release.trim()));
        return false;
    }
    service.enable(&Package::hostile("probe", "well", ""));
    // The record of a start may come a moment after it.
    if look(service, "probe", |plugin| plugin["denialsUnobservable"].is_null()).is_some() {
        return true;
    }
    let plugin = service.json(["inspect", "probe"]);
    lane::skip(test, plugin["denialsUnobservable"].as_str().unwrap());
    false
}

/// What there is of one kind of event about the victim.
fn warnings(service: &Service) -> Vec<Value> {
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|it| it["event"] == "plugin:warning" && it["pluginId"] == "victim").collect()
}

#[test]
fn a_denial_in_a_plugin_that_runs_is_told_once_and_counted() {
    if !lane::root(test_name!()) {
        return;
    }
    // The control: nothing but the compartment keeps it from being listed.
    assert!(std::fs::read_dir("/etc").is_ok());
    let service = Service::start();
    if !observable(test_name!(), &service) {
        return;
    }
    service.enable(&Package::hostile("victim", "read-outside 3", ""));
    let plugin = look(&service, "victim", |it| it["denials"][0]["count"] == 3).unwrap();
    let denial = &plugin["denials"][0];
    assert_eq!(plugin["denials"].as_array().unwrap().len(), 1, "{plugin}");
    assert_eq!(denial["layer"], "landlock-files");
    assert_eq!((&denial["access"], &denial["path"]), (&json!("fs.read_dir"), &json!("/etc")));
    // It is the compartment's own, over which nothing can be mounted.
    assert_eq!(denial["remedy"], Value::Null);
    let warnings = warnings(&service);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["code"], "PERMISSION_DENIED");
    assert_eq!((&warnings[0]["path"], &warnings[0]["remedy"]), (&json!("/etc"), &Value::Null));
    assert_eq!(warnings[0]["layer"], "landlock-files");
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let rows: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let denied = |row: &&Value| row["action"] == "denied" && row["pluginId"] == "victim";
    assert_eq!(rows.iter().filter(denied).count(), 1, "{audit}");
    let shown = service.command(["inspect", "victim"]).run().expect(0).stdout;
    assert!(shown.contains("fs.read_dir on \"/etc\", 3 times"), "{shown}");
    // The control: what behaves is denied nothing.
    assert_eq!(service.json(["inspect", "probe"])["denials"], json!([]));
}

#[test]
fn the_line_that_is_told_with_a_denied_port_allows_it() {
    if !lane::root(test_name!()) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let service = Service::start();
    if !observable(test_name!(), &service) {
        return;
    }
    let dial =
        |id: &str| service.command(["call", id, "dial", &json!(there).to_string(), "--json"]).run();
    // Another port, so that it is in the machine's network at all.
    let other = if there.port() == 80 { 81 } else { 80 };
    service.enable(&Package::witness("victim", &format!("[network]\nconnect = [{other}]")));
    assert!(dial("victim").expect(1).stderr.contains("NOT_DIALLED"));
    let plugin = look(&service, "victim", |it| it["denials"][0]["count"] == 1).unwrap();
    let denial = &plugin["denials"][0];
    assert_eq!(denial["layer"], "landlock-network", "{plugin}");
    assert_eq!(
        (&denial["access"], &denial["port"]),
        (&json!("net.connect_tcp"), &json!(there.port()))
    );
    let remedy = denial["remedy"].as_str().unwrap().replace("] ", "]\n");
    service.enable(&Package::witness("healed", &remedy));
    dial("healed").expect(0);
    assert_eq!(service.json(["inspect", "healed"])["denials"], json!([]));
}

#[test]
fn what_a_grant_lacks_is_told_once_and_counted() {
    let service = Service::start();
    let asking = |pair: &str| service.error(["call", "victim", "ask", &json!(pair).to_string()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().to_string();
    service.enable(&Package::witness("victim", "[network]\nhosts = [\"127.0.0.1:1\"]"));
    assert_eq!(service.json(["inspect", "victim"])["denials"], json!([]));
    let remedy = format!("[network] hosts = [\"{there}\"]");
    for _ in 0..2 {
        let details = asking(&there)["details"].clone();
        assert_eq!((&details["layer"], &details["remedy"]), (&json!("grant"), &json!(remedy)));
    }
    let plugin = service.json(["inspect", "victim"]);
    let denials = plugin["denials"].as_array().unwrap();
    assert_eq!(denials.len(), 1, "{plugin}");
    assert_eq!((&denials[0]["layer"], &denials[0]["count"]), (&json!("grant"), &json!(2)));
    assert_eq!(denials[0]["access"], format!("connect {there}"));
    assert_eq!(denials[0]["remedy"], remedy);
    let warnings = warnings(&service);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["code"], "PERMISSION_DENIED");
    assert_eq!((&warnings[0]["layer"], &warnings[0]["remedy"]), (&json!("grant"), &json!(remedy)));
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let rows = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let denied: Vec<Value> = rows.filter(|row| row["action"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    for row in denied {
        let details = &row["details"];
        assert_eq!((&details["layer"], &details["remedy"]), (&json!("grant"), &json!(remedy)));
    }
    // The control: with that line it is connected, and nothing is denied.
    service.enable(&Package::witness("healed", &remedy.replace("] ", "]\n")));
    let greeter = std::thread::spawn(move || {
        writeln!(listener.accept().unwrap().0, "hello").unwrap();
    });
    assert_eq!(service.json(["call", "healed", "ask", &json!(there).to_string()]), json!("hello"));
    greeter.join().unwrap();
    assert_eq!(service.json(["inspect", "healed"])["denials"], json!([]));
}

#[test]
fn a_death_is_told_with_the_denial_before_it() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    if !observable(test_name!(), &service) {
        return;
    }
    service.install(&Package::hostile("victim", "read-outside-and-exit 3", NEVER));
    let _ = service.command(["enable", "victim"]).run();
    let plugin = service.wait_for("victim", |it| it["lastExit"].is_object());
    let explanation = plugin["lastExit"]["explanation"].as_str().unwrap();
    let told = "exit code 3; before that Landlock refused it fs.read_dir on \"/etc\"";
    assert!(explanation.contains(told), "{explanation}");
}

#[test]
fn a_system_call_that_kills_is_told_with_the_line_that_allows_it() {
    if !lane::root(test_name!()) || !lane::require(test_name!(), "audit") {
        return;
    }
    let service = Service::start();
    service.install(&Package::hostile("victim", "rare-call", NEVER));
    let _ = service.command(["enable", "victim"]).run();
    let plugin = service.wait_for("victim", died);
    let line = json!("[sandbox] allow_syscalls = [\"syncfs\"]");
    for told in [&plugin["lastExit"], &plugin["lastError"]["details"], &plugin["denials"][0]] {
        assert_eq!((&told["layer"], &told["remedy"]), (&json!("seccomp"), &line), "{plugin}");
    }
    assert_eq!(plugin["denials"][0]["access"], "syncfs");
    let audit = service.command(["audit", "--json"]).run().expect(0).stdout;
    let mut rows = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let died = rows.find(|row| row["action"] == "died").unwrap_or_else(|| panic!("{audit}"));
    assert_eq!(died["details"]["remedy"], line, "{died}");
    // The control.
    let lines = format!("{}\n{NEVER}", line.as_str().unwrap().replace("] ", "]\n"));
    service.enable(&Package::hostile("healed", "rare-call", &lines));
    service.json(["call", "healed", "echo"]);
    assert_eq!(service.json(["inspect", "healed"])["denials"], json!([]));
}

/// Dies of a limit, and does not with the line that raises it, and as much as is needed.
fn dies_of(layer: &str, mode: &str, [limit, given, raised, enough]: [&str; 4]) {
    let service = Service::start();
    let lines = |value: &str| format!("[limits]\n{limit} = \"{value}\"\n{NEVER}");
    service.install(&Package::hostile("victim", mode, &lines(given)));
    let _ = service.command(["enable", "victim"]).run();
    let plugin = service.wait_for("victim", died);
    let line = json!(format!("[limits] {limit} = \"{raised}\""));
    for told in [&plugin["lastExit"], &plugin["lastError"]["details"]] {
        assert_eq!((&told["layer"], &told["remedy"]), (&json!(layer), &line), "{plugin}");
    }
    // The control.
    service.enable(&Package::hostile("healed", mode, &lines(enough)));
    service.json(["call", "healed", "echo"]);
}

#[test]
fn a_death_by_the_size_of_a_file_is_told_with_the_line_that_raises_it() {
    dies_of("file-size", "fill-data 3", ["storage", "2M", "4M", "64M"]);
}

#[test]
fn a_death_by_memory_is_told_with_the_line_that_raises_it() {
    if lane::require(test_name!(), "memory") {
        dies_of("memory", "leak-memory 64", ["memory", "32M", "64M", "128M"]);
    }
}

#[test]
fn a_command_is_reported_with_what_it_was_denied() {
    if !lane::root(test_name!()) {
        return;
    }
    let report = |flag: [&str; 2]| -> Value {
        let command = "exec 3<>/dev/tcp/127.0.0.1/9";
        let arguments = ["exec", "--report", "-", flag[0], flag[1], "--", "bash", "-c", command];
        let output = process::bulkhead(arguments).run();
        let begin = output.stderr.find("\n{").map_or(0, |at| at + 1);
        serde_json::from_str(&output.stderr[begin..]).unwrap()
    };
    let denied = report(["--connect", "80"]);
    if !denied["denialsObservable"].as_bool().unwrap_or_else(|| panic!("{denied}")) {
        let why = "what Landlock denies is not observable: it takes Landlock ABI 7 and auditing";
        return lane::skip(test_name!(), why);
    }
    let denial = &denied["denials"][0];
    assert_eq!((&denial["access"], &denial["port"]), (&json!("net.connect_tcp"), &json!(9)));
    assert_eq!(denial["layer"], "landlock-network");
    assert_eq!(denial["remedy"], "--connect 9");
    // The control: with it the connection is refused by nobody who listens.
    assert_eq!(report(["--connect", "9"])["denials"], json!([]));
}
