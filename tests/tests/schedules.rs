//! Methods that are called by the clock, against a real service whose clock the test sets.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::time::Instant;

use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Running};
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A service whose schedules go by this clock, with more lines of configuration. It is one to come:
/// what is long ago by the machine's clock is not kept.
fn service_at(clock: &str, lines: &str) -> Service {
    let mut service = Service::with(lines);
    start_again_at(&mut service, clock);
    service
}

fn start_again_at(service: &mut Service, clock: &str) {
    service.stop().expect(0);
    service.set_environment("BULKHEAD_SCHEDULE_CLOCK", clock);
    service.run_again();
}

/// A schedule with this name, held against the API's description.
fn schedule(service: &Service, plugin: &str, name: &str) -> Value {
    let path = format!("/v1/plugins/{plugin}/schedules");
    let reply = service.admin().ask("GET", &path, "").unwrap().json();
    let all = reply["schedules"].as_array().unwrap();
    all.iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {reply}"))
        .clone()
}

/// Its runs, oldest first: when each was due, what it came to, and for how many it stands.
fn runs(schedule: &Value) -> Vec<(Value, Value, u64)> {
    let runs = schedule["runs"].as_array().unwrap().iter().rev();
    runs.map(|run| (run["due"].clone(), run["outcome"].clone(), run["count"].as_u64().unwrap()))
        .collect()
}

fn follow_log(service: &Service, plugin: &str) -> Running {
    service.command(["logs", plugin, "-f"]).start()
}

fn follow_events(service: &Service) -> Running {
    service.command(["events", "--follow", "--json"]).start()
}

/// The next warning about a schedule.
fn warning(events: &mut Running, schedule: &str) -> Value {
    let name = format!("\"schedule\":\"{schedule}\"");
    let wanted = |line: &str| line.contains("\"plugin:warning\"") && line.contains(&name);
    serde_json::from_str(&events.stdout.line(wanted)).unwrap()
}

fn publish(service: &Service, name: &str) {
    let event = json!({ "name": name, "body": {} }).to_string();
    let reply = service.admin().ask("POST", "/v1/events", &event).unwrap().json();
    assert_eq!(reply["missed"], json!([]), "{reply}");
}

const LINGER: &str = "[[schedule]]\ncron = '0 0 1 1 *'\nmethod = 'linger'\nname = 'yearly'\n\
                      [events]\nsubscribes = ['go']\n";

#[test]
fn a_schedule_runs_by_the_clock_and_has_a_history() {
    // A minute takes three seconds.
    let service = service_at("2040-03-08T06:50:00Z*20", "[audit]\ncalls = \"all\"");
    let lines = "[[schedule]]\ncron = '* * * * *'\nmethod = 'tick'\n\
                 [[schedule]]\ncron = '* * * * *'\nmethod = 'absent'\nname = 'broken'\n";
    service.enable(&Package::witness("clerk", lines));
    let mut events = follow_events(&service);
    let mut log = follow_log(&service, "clerk");
    // It is called again and again, with a trace.
    for _ in 0..2 {
        let line = log.stdout.line(|line| line.contains("tick"));
        assert!(line.contains("traced=\"true\""), "{line}");
    }
    // One that fails says so; by then the first of the other is written down.
    let told = warning(&mut events, "broken");
    assert_eq!(
        (&told["pluginId"], &told["code"]),
        (&json!("clerk"), &json!("CALL_FAILED")),
        "{told}"
    );
    assert!(told["due"].as_str().unwrap().ends_with(":00Z"), "{told}");
    let tick = schedule(&service, "clerk", "tick");
    let (due, outcome, count) =
        runs(&tick).into_iter().find(|(_, outcome, _)| outcome == "ok").unwrap();
    let due = due.as_str().unwrap();
    assert!(due.starts_with("2040-03-08T0") && due.ends_with(":00.000Z"), "{due}");
    assert_eq!((outcome, count), (json!("ok"), 1));
    assert!(tick["nextDue"].as_str().unwrap() > due, "{tick}");
    let broken = schedule(&service, "clerk", "broken");
    let failed = broken["runs"].as_array().unwrap().iter().find(|run| run["outcome"] == "failed");
    assert_eq!(failed.unwrap()["code"], "CALL_FAILED");

    // The same for a person.
    let table = service.command(["schedules", "clerk"]).run().expect(0).stdout;
    assert!(table.starts_with("tick\t* * * * *\tUTC\ttick\t2040-03-08T"), "{table}");
    let rows = service.command(["schedules", "clerk", "broken"]).run().expect(0).stdout;
    assert!(rows.contains("failed CALL_FAILED"), "{rows}");

    // In the audit it is the clock that asked.
    let audit = service.command(["audit", "--plugin", "clerk", "--json"]).run().expect(0).stdout;
    let by_clock = |line: &str| line.contains("\"schedule\"") && line.contains("\"tick\"");
    assert!(audit.lines().any(by_clock), "{audit}");

    // A plugin that is disabled has no next one, and nothing runs any more.
    service.json(["disable", "clerk"]);
    // That the last one ended is stored beside the disabling.
    let until = Instant::now() + DEADLINE;
    let before = loop {
        let found = schedule(&service, "clerk", "tick");
        if found["running"] == 0 {
            break found;
        }
        assert!(Instant::now() < until, "{found}");
    };
    assert_eq!(before["nextDue"], json!(null));
    // Another one shows that the clock goes on.
    service
        .enable(&Package::witness("other", "[[schedule]]\ncron = '* * * * *'\nmethod = 'tick'\n"));
    let mut log = follow_log(&service, "other");
    for _ in 0..2 {
        log.stdout.line(|line| line.contains("tick"));
    }
    assert_eq!(schedule(&service, "clerk", "tick")["runs"], before["runs"]);
    // What goes with a plugin goes with its schedules.
    service.json(["uninstall", "clerk"]);
    assert_eq!(service.error(["schedules", "clerk"])["code"], "NOT_FOUND");
    service.install(&Package::witness("clerk", lines));
    assert_eq!(schedule(&service, "clerk", "tick")["runs"], json!([]));
}

#[test]
fn a_schedule_is_run_on_request_and_not_twice_at_once() {
    let service = Service::start();
    let lines = format!("{LINGER}[[schedule]]\ncron = '0 0 1 1 *'\nmethod = 'absent'\n");
    let package = Package::witness("clerk", &lines);
    service.install(&package);
    assert_eq!(service.error(["schedules", "clerk", "--run", "yearly"])["code"], "CONFLICT");
    service.json(["enable", "clerk"]);
    let mut log = follow_log(&service, "clerk");
    let asking = ["schedules", "clerk", "--run", "yearly", "--json", "--on-behalf-of", "dr.smith"];
    let first = service.command(asking).start();
    log.stdout.line(|line| line.contains("lingering"));
    assert_eq!(schedule(&service, "clerk", "yearly")["running"], 1);
    let again = service.error(["schedules", "clerk", "--run", "yearly"]);
    assert_eq!(
        (&again["code"], &again["details"]["state"]),
        (&json!("CONFLICT"), &json!("running"))
    );
    publish(&service, "go");
    let done: Value = serde_json::from_str(&first.wait().expect(0).stdout).unwrap();
    let yearly = schedule(&service, "clerk", "yearly");
    assert_eq!(yearly["runs"][0]["number"], done["number"]);
    assert_eq!(runs(&yearly), [(json!(null), json!("ok"), 1)]);
    assert_eq!(yearly["running"], 0);
    let audit = service.command(["audit", "--plugin", "clerk", "--json"]).run().expect(0).stdout;
    let theirs = |line: &str| line.contains("\"dr.smith\"") && line.contains("\"yearly\"");
    assert!(audit.lines().any(theirs), "{audit}");

    let failed = service.error(["schedules", "clerk", "--run", "absent"]);
    assert_eq!(failed["code"], "CALL_FAILED");
    assert_eq!(runs(&schedule(&service, "clerk", "absent")), [(json!(null), json!("failed"), 1)]);
    for unknown in [&["--run", "daily"][..], &["daily"]] {
        let error = service.error([&["schedules", "clerk"], unknown].concat());
        assert_eq!((&error["code"], &error["exitCode"]), (&json!("NOT_FOUND"), &json!(3)));
    }
}

#[test]
fn a_run_that_a_killed_supervisor_had_begun_is_interrupted_and_not_repeated() {
    // The next supervisor begins at the same time of day, before what is due.
    let service = service_at("2040-03-08T06:59:30Z*20", "");
    let lines = LINGER.replace("0 0 1 1 *", "* * * * *") + "[lifecycle]\ncall_timeout = '1h'\n";
    service.enable(&Package::witness("clerk", &lines));
    follow_log(&service, "clerk").stdout.line(|line| line.contains("lingering"));
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    // What was told before is shown as well.
    let mut events = follow_events(&service);
    let told = warning(&mut events, "yearly");
    assert!(told["message"].as_str().unwrap().contains("not repeated"), "{told}");

    let begun = |schedule: &Value| -> Vec<Value> {
        let runs = schedule["runs"].as_array().unwrap().iter().rev();
        runs.filter(|run| !run["started"].is_null()).cloned().collect()
    };
    let interrupted = begun(&schedule(&service, "clerk", "yearly")).remove(0);
    assert_eq!(
        (&interrupted["outcome"], &interrupted["ended"]),
        (&json!("interrupted"), &json!(null))
    );
    // It goes on with what is due after that, though its clock comes by all before it once more.
    let mut log = follow_log(&service, "clerk");
    for _ in 0..2 {
        log.stdout.line(|line| line.contains("lingering"));
    }
    let both = begun(&schedule(&service, "clerk", "yearly"));
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!((&both[0], &both[1]["outcome"]), (&interrupted, &json!(null)));
    assert!(both[1]["due"].as_str() > interrupted["due"].as_str(), "{both:?}");
}

#[test]
fn what_was_missed_while_the_service_was_down_runs_once_if_it_is_to() {
    let mut service = service_at("2040-01-10T12:00:00Z", "");
    let lines = "[[schedule]]\ncron = '30 2 * * *'\ntimezone = 'America/New_York'\nmethod = 'tick'\n\
                 name = 'once'\nmissed = 'once'\n\
                 [[schedule]]\ncron = '30 2 * * *'\ntimezone = 'America/New_York'\nmethod = 'tick'\n\
                 name = 'skip'\n\
                 [[schedule]]\ncron = '0 0 1 1 *'\nmethod = 'tick'\nname = 'other'\n";
    service.enable(&Package::witness("clerk", lines));
    for name in ["once", "skip"] {
        let first = schedule(&service, "clerk", name);
        assert_eq!(first["nextDue"], "2040-01-11T07:30:00.000Z", "by the clock there");
        assert_eq!(runs(&first), [], "it has missed nothing yet");
    }
    for _ in 0..2 {
        // The second time nothing was due meanwhile.
        start_again_at(&mut service, "2040-01-13T12:00:00Z");
        service.wait_for("clerk", |plugin| plugin["state"] == "enabled");
        let mut log = follow_log(&service, "clerk");
        log.stdout.line(|line| line.contains("tick"));
        // What was missed began when the plugin came up, before this.
        service.json(["schedules", "clerk", "--run", "other"]);
        let once = schedule(&service, "clerk", "once");
        let earlier = (json!("2040-01-12T07:30:00.000Z"), json!("missed"), 2);
        let last = (json!("2040-01-13T07:30:00.000Z"), json!("ok"), 1);
        assert_eq!(runs(&once), [earlier, last]);
        assert_eq!(once["nextDue"], "2040-01-14T07:30:00.000Z");
        let skip = schedule(&service, "clerk", "skip");
        assert_eq!(runs(&skip), [(json!("2040-01-13T07:30:00.000Z"), json!("missed"), 3)]);
    }
}

#[test]
fn an_upgrade_puts_its_schedules_in_the_place_of_the_old_ones() {
    let service = service_at("2040-01-10T12:00:00Z", "");
    let daily = |name: &str, hour: u32| {
        format!(
            "[[schedule]]\ncron = '0 {hour} * * *'\nmethod = 'm'\nname = '{name}'\nmissed = 'once'\n"
        )
    };
    let old = daily("stays", 13) + &daily("changes", 13) + &daily("goes", 13);
    service.enable(&Package::revision("clerk", "1.0.0", "well", &old));
    let next = |name: &str| schedule(&service, "clerk", name)["nextDue"].clone();
    assert_eq!(["stays", "changes", "goes"].map(next), ["2040-01-10T13:00:00.000Z"; 3]);
    let new = daily("stays", 13) + &daily("changes", 11) + &daily("comes", 11);
    let other = Package::revision("clerk", "1.1.0", "well", &new);
    service.json(["upgrade", other.path().to_str().unwrap(), "--yes"]);
    assert_eq!(next("stays"), "2040-01-10T13:00:00.000Z");
    // It was never due at eleven before the upgrade, so it was not missed either.
    assert_eq!(["changes", "comes"].map(next), ["2040-01-11T11:00:00.000Z"; 2]);
    let listed = service.command(["schedules", "clerk"]).run().expect(0).stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names, ["stays", "changes", "comes"]);
    service.json(["rollback", "clerk"]);
    assert_eq!(["stays", "changes", "goes"].map(next), ["2040-01-10T13:00:00.000Z"; 3]);
}
