//! What a plugin is permitted, changed while it runs: in force at its next call and the next event,
//! in the same process, and every refusal in the audit with what would permit it.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::plugin;
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SCHEDULER: &str = "appointment-scheduler";
const READ: &str = "read:appointments";
const WRITE: &str = "write:appointments";

/// Both examples, enabled; the scheduler may do what is listed.
fn clinic(service: &Service, granted: &[&str]) {
    let provider = plugin::example(service.directory(), "appointments");
    service.json(["install".as_ref(), provider.as_os_str(), "--yes".as_ref()]);
    let scheduler = plugin::example(service.directory(), SCHEDULER);
    let mut install = service.command(["install", "--json"]).arg(scheduler);
    for permission in granted {
        install = install.args(["--grant", permission]);
    }
    install.run().expect(0);
    service.json(["enable", SCHEDULER]);
}

fn book(hour: u32) -> [String; 4] {
    let request = json!({
        "patient": "p1",
        "practitioner": "dr-lee",
        "start": format!("2027-03-15T{hour:02}:00"),
    });
    ["call".to_owned(), SCHEDULER.to_owned(), "book".to_owned(), request.to_string()]
}

fn process(service: &Service, id: &str) -> Value {
    service.json(["inspect", id])["process"].clone()
}

/// The rows of an action, but those that only say that it has begun.
fn audited(service: &Service, action: &str) -> Vec<Value> {
    let lines = service.command(["audit", "--json"]).run().expect(0).stdout;
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["action"] == action && row["outcome"] != "begun").collect()
}

/// The newest event of that name about a plugin.
fn event(service: &Service, name: &str, plugin: &str) -> Value {
    let lines = service.command(["events", "--json"]).run().expect(0).stdout;
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut named = events.filter(|event| event["event"] == name && event["pluginId"] == plugin);
    named.next_back().unwrap_or_else(|| panic!("no {name} of {plugin}: {lines}"))
}

#[test]
fn a_permission_is_granted_and_revoked_without_a_restart() {
    let service = Service::start();
    clinic(&service, &[READ]);
    let before = process(&service, SCHEDULER);
    let shown = service.json(["permissions", SCHEDULER]);
    assert_eq!((&shown["granted"], &shown["withheld"]), (&json!([READ]), &json!([WRITE])));
    let opens = shown["asked"][1]["opens"].to_string();
    assert!(opens.contains("appointments/create"), "{shown}");

    // What it was granted works, the rest is refused.
    service.json(["call", SCHEDULER, "conflicts", "{}"]);
    let refused = service.error(book(10));
    assert_eq!((&refused["code"], &refused["exitCode"]), (&json!("PERMISSION_DENIED"), &json!(4)));
    assert_eq!(refused["details"]["permission"], WRITE);
    let remedy = format!("`bulkhead grant {SCHEDULER} {WRITE}`");
    assert_eq!(refused["details"]["remedy"], remedy.as_str(), "{refused}");
    assert_eq!(refused["details"]["layer"], "grant");
    let denied = audited(&service, "denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["details"]["remedy"], remedy.as_str());
    assert_eq!(denied[0]["details"]["layer"], "grant");
    let told = event(&service, "plugin:warning", SCHEDULER);
    assert_eq!((&told["layer"], &told["remedy"]), (&json!("grant"), &json!(remedy)), "{told}");
    let shown = service.json(["inspect", SCHEDULER])["denials"][0].clone();
    assert_eq!(shown["access"], "call appointments/create", "{shown}");
    assert_eq!((&shown["layer"], &shown["remedy"]), (&json!("grant"), &json!(remedy)));
    assert_eq!(denied[0]["principal"]["name"], format!("plugin:{SCHEDULER}"));

    // The remedy, word by word.
    let granted = service.json(remedy.trim_matches('`').split(' ').skip(1));
    assert_eq!((&granted["granted"], &granted["withheld"]), (&json!([READ, WRITE]), &json!([])));
    service.json(book(10));
    let told = event(&service, "plugin:permissions:changed", SCHEDULER);
    assert_eq!((&told["added"], &told["removed"]), (&json!([WRITE]), &json!([])), "{told}");
    let changed = audited(&service, "set-permissions");
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0]["details"]["added"], json!([WRITE]));
    assert_eq!(changed[0]["outcome"], "ok");

    // The same again is already satisfied, and told to nobody.
    service.json(["grant", SCHEDULER, WRITE, READ]);
    assert_eq!(event(&service, "plugin:permissions:changed", SCHEDULER), told);

    service.json(["revoke", SCHEDULER, WRITE]);
    assert_eq!(service.error(book(12))["details"]["permission"], WRITE);
    service.json(["call", SCHEDULER, "conflicts", "{}"]);
    service.json(["revoke", SCHEDULER, READ]);
    let refused = service.error(["call", SCHEDULER, "conflicts", "{}"]);
    assert_eq!(refused["details"]["permission"], READ);
    assert_eq!(audited(&service, "denied").len(), 3);

    // All that in one process, and a new one has the same.
    let after = process(&service, SCHEDULER);
    assert_eq!(
        (&after["pid"], &after["generation"]),
        (&before["pid"], &before["generation"]),
        "it was restarted"
    );
    service.json(["disable", SCHEDULER]);
    service.json(["enable", SCHEDULER]);
    assert_eq!(service.json(["permissions", SCHEDULER])["granted"], json!([]));
    assert_eq!(service.error(book(14))["details"]["permission"], WRITE);
    let text = service.command(["permissions", SCHEDULER]).run().expect(0).stdout;
    assert!(text.starts_with("read:appointments\twithheld\t"), "{text}");
}

/// Through the place above it the plugin would have it all the same.
#[test]
fn a_place_beneath_one_that_is_granted_is_not_withheld_alone() {
    let service = Service::start();
    let asks = "[sandbox]\nread = ['/srv/a']\nwrite = ['/srv/a/inner']";
    service.install(&Package::witness("nested", asks));
    let refused = |verb: &str, place: &str| {
        let error = service.error([verb, "nested", place]);
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
        let details = (&error["details"]["place"], &error["details"]["above"]);
        assert_eq!(details, (&json!("/srv/a/inner"), &json!("/srv/a")), "{error}");
    };
    let granted = |reply: &Value| {
        let places = reply["places"].as_array().unwrap();
        places.iter().map(|place| place["granted"] == true).collect::<Vec<_>>()
    };
    refused("revoke", "/srv/a/inner");
    assert_eq!(granted(&service.json(["permissions", "nested"])), [true, true]);
    let both = service.json(["revoke", "nested", "/srv/a", "/srv/a/inner"]);
    assert_eq!(granted(&both), [false, false]);
    refused("grant", "/srv/a");
    let inner = service.json(["grant", "nested", "/srv/a/inner"]);
    assert_eq!(granted(&inner), [false, true]);
    assert_eq!(granted(&service.json(["grant", "nested", "/srv/a"])), [true, true]);
}

/// A place of the machine is there at the next start, or not there any more.
#[test]
fn a_place_is_withheld_and_granted_from_the_next_start_on() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let service = Service::with(&format!("[mounts]\nread_only = [{:?}]", directory.path()));
    let (scans, notes) = (directory.path().join("scans"), directory.path().join("notes"));
    for (place, text) in [(&scans, "a scan"), (&notes, "a note")] {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join("one"), text).unwrap();
    }
    let (scans, notes) = (scans.to_str().unwrap(), notes.to_str().unwrap());
    let asks = format!("[sandbox]\nread = [{scans:?}, {notes:?}]");
    service.enable(&Package::witness("reader", &asks));
    let read = |place: &str| {
        let path = json!(format!("{place}/one"));
        service.json(["call", "reader", "read", &path.to_string()])
    };
    let restart = || {
        service.json(["disable", "reader"]);
        service.json(["enable", "reader"]);
    };
    assert_eq!((read(scans), read(notes)), (json!("a scan"), json!("a note")));

    let revoked = service.json(["revoke", "reader", scans]);
    let granted = |reply: &Value, index: usize| reply["places"][index]["granted"].clone();
    assert_eq!((granted(&revoked, 0), granted(&revoked, 1)), (json!(false), json!(true)));
    assert_eq!(read(scans), "a scan", "it is mounted until the plugin ends");
    let policy = |service: &Service| service.json(["inspect", "reader"])["policy"].to_string();
    assert!(policy(&service).contains(scans), "it says what the process has");
    let exposure = |service: &Service| {
        service.json(["inspect", "reader"])["exposure"]["score"].as_f64().unwrap()
    };
    let before = exposure(&service);
    // A supervisor that takes it over knows that as well.
    kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
    assert_eq!(read(scans), "a scan");
    assert!(policy(&service).contains(scans), "it says what the process has");
    assert_eq!(exposure(&service).to_bits(), before.to_bits());
    restart();
    assert!(exposure(&service) < before, "what is withheld is no exposure");
    assert_eq!((read(scans), read(notes)), (json!(null), json!("a note")));
    let policy = policy(&service);
    assert!(policy.contains(notes) && !policy.contains(scans), "{policy}");
    let told = event(&service, "plugin:permissions:changed", "reader");
    assert_eq!(told["removedPlaces"], json!([scans]), "{told}");
    assert_eq!(audited(&service, "set-permissions")[0]["details"]["removedPlaces"], json!([scans]));

    let text = service.command(["grant", "reader", scans]).run().expect(0).stdout;
    assert!(text.contains(&format!("{scans}\tgranted\tto read")), "{text}");
    assert!(text.contains("the next start of reader"), "{text}");
    restart();
    assert_eq!(read(scans), "a scan");

    // What is not asked for cannot be had.
    let error = service.error(["grant", "reader", "/etc"]);
    assert_eq!(
        (&error["code"], &error["details"]["place"]),
        (&json!("INVALID_REQUEST"), &json!("/etc"))
    );
    // Somebody else was faster.
    let body = json!({ "places": [], "expectedPlaces": [scans] }).to_string();
    let reply = service.admin().ask("PUT", "/v1/plugins/reader/permissions", &body).unwrap();
    assert_eq!(reply.status, 409);
}

#[test]
fn a_grant_outlives_the_supervisor_and_the_service() {
    let mut service = Service::start();
    clinic(&service, &[READ]);
    service.json(["grant", SCHEDULER, WRITE]);
    let before = process(&service, SCHEDULER);
    let supervisor = service.supervisor();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    service.wait_for(SCHEDULER, |plugin| plugin["state"] == "enabled");
    assert_eq!(process(&service, SCHEDULER)["pid"], before["pid"]);
    service.json(book(10));
    service.json(["revoke", SCHEDULER, WRITE]);
    service.stop().expect(0);
    service.run_again();
    service.wait_for(SCHEDULER, |plugin| plugin["state"] == "enabled");
    assert_eq!(service.error(book(11))["details"]["permission"], WRITE);
    service.json(["call", SCHEDULER, "conflicts", "{}"]);
}

#[test]
fn only_what_is_asked_for_can_be_granted_and_only_knowingly() {
    let service = Service::start();
    let asks = "permissions = [\"read:x\", \"write:x\"]";
    service.install(&Package::witness("asker", asks));
    let granted = || service.json(["permissions", "asker"])["granted"].clone();
    assert_eq!(granted(), json!(["read:x", "write:x"]));
    for verb in ["grant", "revoke"] {
        let error = service.error([verb, "asker", "delete:x"]);
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
    assert_eq!(service.error(["grant", "absent", "read:x"])["code"], "NOT_FOUND");
    assert_eq!(service.command(["grant", "asker", "nonsense"]).run().code(), 2);
    assert_eq!(service.command(["grant", "asker"]).run().code(), 2);

    let path = "/v1/plugins/asker/permissions";
    let mut admin = service.admin();
    let mut put = |body: Value| {
        let reply = admin.ask("PUT", path, &body.to_string()).unwrap();
        (reply.status, serde_json::from_slice::<Value>(&reply.body).unwrap())
    };
    let (status, problem) = put(json!({ "granted": ["read:x", "delete:x"] }));
    assert_eq!((status, &problem["details"]["permission"]), (400, &json!("delete:x")));
    // Somebody else was faster.
    let (status, problem) = put(json!({ "granted": ["read:x"], "expected": ["write:x"] }));
    assert_eq!((status, &problem["code"]), (409, &json!("CONFLICT")));
    assert_eq!(granted(), json!(["read:x", "write:x"]), "nothing of that was done");
    let (status, permissions) =
        put(json!({ "granted": ["write:x"], "expected": ["write:x", "read:x"] }));
    assert_eq!((status, &permissions["withheld"]), (200, &json!(["read:x"])));
    let refused: Vec<_> = audited(&service, "set-permissions")
        .iter()
        .map(|row| row["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(refused, ["INVALID_REQUEST", "CONFLICT", "ok"]);
}

/// Whoever may not read appointments does not hear of them either.
#[test]
fn a_topic_is_heard_by_those_who_may() {
    let service = Service::start();
    let speaks = "[events]\npublishes = [\"clinic.*\"]\n\
                  [events.permissions]\n\"clinic.opened\" = \"read:clinic\"";
    service.enable(&Package::witness("speaker", speaks));
    let hears = "permissions = [\"read:clinic\"]\n[events]\nsubscribes = [\"clinic.*\"]";
    service.enable(&Package::witness("listener", hears));
    let before = process(&service, "listener");
    let publish = |topic: &str, data: u32| {
        let news = json!({ "topic": topic, "data": data });
        service.command(["call", "speaker", "publish", &news.to_string()]).run().expect(0);
    };
    let told = || service.json(["call", "listener", "may", "\"read:clinic\""]);
    publish("clinic.opened", 1);
    assert_eq!(told(), true);
    service.json(["revoke", "listener", "read:clinic"]);
    assert_eq!(told(), false, "it is told before its next call");
    publish("clinic.opened", 2);
    publish("clinic.closed", 3);
    service.json(["grant", "listener", "read:clinic"]);
    assert_eq!(told(), true);
    publish("clinic.opened", 4);
    let heard = service.json(["call", "listener", "heard", "3"]);
    let data: Vec<_> = heard.as_array().unwrap().iter().map(|news| news["data"].clone()).collect();
    assert_eq!(data, [1, 3, 4], "the second was withheld, on that topic only");
    assert_eq!(process(&service, "listener")["pid"], before["pid"]);

    let denied = audited(&service, "denied");
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["pluginId"], "listener");
    let details = &denied[0]["details"];
    assert_eq!(details["topic"], "clinic.opened");
    assert_eq!(details["permission"], "read:clinic");
    assert_eq!(details["remedy"], "`bulkhead grant listener read:clinic`");

    // What its manifest does not let it publish is refused and recorded as well.
    publish("hospital.opened", 5);
    let denied = audited(&service, "denied");
    assert_eq!((denied.len(), &denied[1]["pluginId"]), (2, &json!("speaker")), "{denied:?}");
    assert_eq!(denied[1]["details"]["topic"], "hospital.opened");
    assert!(denied[1]["details"]["remedy"].as_str().unwrap().contains("publishes"));
}

#[test]
fn what_was_revoked_stays_so_over_a_rollback() {
    let service = Service::start();
    let asks = "permissions = [\"read:x\", \"write:x\"]";
    let first = Package::revision("keeper", "1.0.0", "well", asks);
    let second = Package::revision("keeper", "1.1.0", "well", asks);
    service.install(&first);
    service.json(["upgrade", second.path().to_str().unwrap()]);
    service.json(["revoke", "keeper", "write:x"]);
    service.json(["rollback", "keeper"]);
    assert_eq!(service.json(["inspect", "keeper"])["version"], "1.0.0");
    assert_eq!(service.json(["permissions", "keeper"])["granted"], json!(["read:x"]));
}
