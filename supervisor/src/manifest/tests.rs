use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::lifecycle::Restart;
use super::schedule::Overlap;
use super::*;

fn parse(text: &str) -> Result<Manifest, Failure> {
    Manifest::parse(text.as_bytes(), Path::new("p/plugin.toml"))
}

fn with(section: &str) -> Result<Manifest, Failure> {
    parse(&format!("id = 'a'\nversion = '1.0.0'\n{section}"))
}

pub(super) const EVERYTHING: &str = r#"
id = "appointment-scheduler"
version = "1.0.0"
name = "Appointment Scheduler"
author = "TherapyTrain"
homepage = "https://example.com/plugins/scheduler"
description = "Advanced scheduling capabilities"
entry = "bin/scheduler"
api = "^1.0"
permissions = ["read:appointments", "write:appointments"]

[dependencies]
appointments = "^1"

[provides.scheduling]
version = "1.2.0"
[provides.scheduling.methods]
book = { permission = "write:appointments", description = "books" }
ping = {}

[config.schema]
type = "object"
[config.schema.properties.defaultDuration]
type = "integer"
[config.defaults]
defaultDuration = 60

[limits]
memory = "64M"
cpu = "20%"
pids = 32
storage = "1G"
open_files = 128
io_read = "50M"
io_write = "10M"
io_read_ops = 1000
io_write_ops = 500

[network]
hosts = ["fhir.example.org:443"]

[sandbox]
profile = "plugin"
allow_syscalls = ["getrusage"]
proc = true
tmp = "8M"
read = ["/usr/share/zoneinfo"]

[[schedule]]
cron = "30 2 * * *"
timezone = "America/New_York"
method = "nightly"
overlap = "queue"
missed = "once"

[events]
subscribes = ["appointments.*"]
publishes = ["scheduler.booked"]
[events.permissions]
"scheduler.*" = "read:appointments"

[lifecycle]
init_timeout = "5s"
stop_timeout = "10s"
drain_timeout = "7s"
health_interval = "1m"
[lifecycle.restart]
policy = "always"
limit = 3
"#;

#[test]
fn every_section_of_a_whole_manifest_is_read() {
    let manifest = parse(EVERYTHING).unwrap();
    assert_eq!(manifest.id.as_str(), "appointment-scheduler");
    assert_eq!(manifest.entry(), "bin/scheduler");
    assert_eq!(manifest.permissions[1].as_str(), "write:appointments");
    assert!(
        manifest.dependencies[&"appointments".parse().unwrap()].matches(&Version::new(1, 4, 0))
    );
    let service = manifest.provides.get("scheduling").unwrap();
    assert_eq!(service.methods.len(), 2);
    assert_eq!(manifest.config.defaults["defaultDuration"], json!(60));
    assert_eq!(manifest.limits.storage.bytes(), 1 << 30);
    assert!(matches!(&manifest.network, Network::Hosts(hosts) if hosts[0].port == 443));
    assert!(manifest.sandbox.proc);
    assert_eq!(manifest.schedule[0].overlap, Overlap::Queue);
    assert!(manifest.events.subscribes[0].matches("appointments.created"));
    assert_eq!(manifest.lifecycle.drain_timeout.unwrap().millis(), 7000);
    assert_eq!(manifest.lifecycle.restart.policy, RestartPolicy::Always);
    assert_eq!(manifest.lifecycle.restart.backoff, Restart::default().backoff);
}

#[test]
fn the_documented_manifests_are_ones() {
    let page = include_str!("../../../docs/manifest.md");
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    // The others are sections.
    let blocks: Vec<&str> = blocks.filter(|block| block.starts_with("id = ")).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        parse(block).unwrap();
    }
}

#[test]
fn id_and_version_are_enough() {
    let manifest = with("").unwrap();
    assert_eq!(manifest.name.as_str(), "a");
    assert_eq!(manifest.entry(), "bin/a");
    assert!(manifest.api.matches(&Version::new(1, 9, 0)));
    assert!(!manifest.api.matches(&Version::new(2, 0, 0)));
    assert_eq!(manifest.network, Network::None);
    let missing = parse("id = 'a'").unwrap_err();
    assert!(missing.message.contains("missing field `version`"), "{missing}");
}

#[test]
fn a_fault_names_file_line_column_key_and_value() {
    let failure = with("[limits]\nmemory = '64Q'").unwrap_err();
    assert_eq!(failure.code, Code::ManifestInvalid);
    assert!(
        failure.message.starts_with("p/plugin.toml:4:10: limits.memory: \"64Q\" is not a size"),
        "{failure}"
    );
    assert_eq!(
        failure.details,
        json!({"path": "p/plugin.toml", "line": 4, "column": 10, "key": "limits.memory",
               "value": "'64Q'"})
    );
}

#[test]
fn what_fields_say_together_is_located_too() {
    let failure = with("[limits]\nmemory = '8M'\n[sandbox]\ntmp = '16M'").unwrap_err();
    assert!(
        failure.message.starts_with("p/plugin.toml:6:7: sandbox.tmp: 16M is more"),
        "{failure}"
    );
    // The default does not hold any more; what made it so is in the file.
    let failure = with("[limits]\nmemory = '8M'").unwrap_err();
    assert!(
        failure.message.starts_with("p/plugin.toml:4:10: limits.memory: sandbox.tmp: 16M is more"),
        "{failure}"
    );
    let failure = with("[dependencies]\na = '1'").unwrap_err();
    assert!(failure.message.contains("dependencies.a: a plugin cannot depend on"), "{failure}");
}

#[test]
fn what_no_compartment_could_have_is_located() {
    for (call, why) in
        [("ptrace_x", "no system call is named `ptrace_x`"), ("unshare", "can never be allowed")]
    {
        let line = format!("[sandbox]\nallow_syscalls = ['getrusage', '{call}']");
        let failure = with(&line).unwrap_err();
        assert!(failure.message.starts_with("p/plugin.toml:4:32: sandbox.allow_s"), "{failure}");
        assert!(failure.message.contains(why), "{failure}");
        assert_eq!(failure.details["value"], format!("'{call}'"));
    }
    let places = |count: usize| -> String {
        let all: Vec<String> = (0..count).map(|n| format!("'/srv/{n}'")).collect();
        format!("[sandbox]\nwrite = ['/opt/a', '/opt/b']\nread = [{}]", all.join(", "))
    };
    with(&places(60)).unwrap();
    let failure = with(&places(61)).unwrap_err();
    assert!(failure.message.contains(":5:8: sandbox.read: read and write name 63"), "{failure}");
    assert!(failure.message.contains("at most 62"), "{failure}");
}

#[test]
fn a_number_that_is_none_says_what_to_write() {
    for value in ["'100'", "1.5", "-1"] {
        let failure = with(&format!("[limits]\nio_read_ops = {value}")).unwrap_err();
        assert!(failure.message.contains(":4:15: limits.io_read_ops: invalid "), "{failure}");
        assert!(failure.message.ends_with("; write a whole number, without quotes"), "{failure}");
    }
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_named() {
    let failure = with("[limits]\nmemry = '64M'").unwrap_err();
    assert!(failure.message.contains("limits.memry: unknown field `memry`"), "{failure}");
    assert!(failure.message.ends_with("did you mean `memory`?"), "{failure}");
    let failure = with("permisions = []").unwrap_err();
    assert!(failure.message.ends_with("did you mean `permissions`?"), "{failure}");
    let failure = with("[lifecycle.restart]\npolicy = 'onfailure'").unwrap_err();
    assert!(failure.message.ends_with("did you mean `on-failure`?"), "{failure}");
    let failure = with("zzzzzz = 1").unwrap_err();
    assert!(!failure.message.contains("did you mean"), "{failure}");
}

#[test]
fn each_value_has_its_grammar() {
    for (section, key) in [
        ("homepage = 'javascript:alert(1)'", "homepage"),
        ("name = \"a\\u001b[2J\"", "name"),
        ("entry = '../../bin/sh'", "entry"),
        ("api = 'one'", "api"),
        ("permissions = ['read']", "permissions"),
        ("permissions = ['a:b', 'a:b']", "permissions"),
        ("dependencies = { 'A' = '1' }", "dependencies"),
        ("dependencies = { b = '?' }", "dependencies.b"),
        ("[provides.x]\nversion = '1'", "provides.x.version"),
        ("[limits]\npids = 0", "limits.pids"),
        ("[limits]\ncpu = '20'", "limits.cpu"),
        ("[network]\nhosts = ['x']", "network"),
        ("[sandbox]\nprofile = 'none'", "sandbox.profile"),
        ("[sandbox]\nread = ['relative']", "sandbox.read"),
        ("[[schedule]]\nmethod = 'm'\ncron = '* * *'", "schedule[0].cron"),
        ("[events]\npublishes = ['a b']", "events.publishes"),
        ("[events.permissions]\na = 'read'", "events.permissions.a"),
        ("[lifecycle]\nstop_timeout = '5'", "lifecycle.stop_timeout"),
    ] {
        let failure = with(section).unwrap_err();
        assert_eq!(failure.code, Code::ManifestInvalid, "{section}");
        let found = failure.details["key"].as_str().unwrap_or_default();
        assert!(found.starts_with(key), "{section}: key {found:?} in {failure}");
    }
}

#[test]
fn a_schedule_that_cannot_be_is_found_by_line_and_column() {
    for (lines, key, line, column) in [
        ("cron = '0 0 31 2 *'\nmethod = 'm'", "schedule[0].cron", 4, 8),
        (
            "cron = '* * * * *'\nmethod = 'm'\ntimezone = 'Mars/Olympus'",
            "schedule[0].timezone",
            6,
            12,
        ),
        ("cron = '* * * * *'\nmethod = 'm'\ntimeout = '0s'", "schedule[0].timeout", 6, 11),
        (
            "cron = '* * * * *'\nmethod = 'm'\n[[schedule]]\nmethod = 'm'\ncron = '1 * * * *'",
            "schedule[1].method",
            7,
            10,
        ),
        (
            "cron = '* * * * *'\nmethod = 'm'\n[[schedule]]\nmethod = 'n'\ncron = '1 * * * *'\nname = 'm'",
            "schedule[1].name",
            9,
            8,
        ),
    ] {
        let failure = with(&format!("[[schedule]]\n{lines}")).unwrap_err();
        assert_eq!(failure.code, Code::ManifestInvalid);
        let found = ["key", "line", "column"].map(|name| failure.details[name].clone());
        assert_eq!(found, [json!(key), json!(line), json!(column)], "{failure}");
    }
    let one = |n: usize| format!("[[schedule]]\ncron = '* * * * *'\nmethod = 'm{n}'\n");
    assert!(with(&(0..64).map(one).collect::<String>()).is_ok());
    let failure = with(&(0..65).map(one).collect::<String>()).unwrap_err();
    assert!(failure.message.contains("at most 64"), "{failure}");
}

#[test]
fn a_configuration_is_held_against_the_schema() {
    let section = "[config.schema]\ntype = 'object'\nrequired = ['hours']\n\
        [config.schema.properties.hours]\ntype = 'integer'\n[config.defaults]\nhours = ";
    let manifest = with(&format!("{section}8")).unwrap();
    assert_eq!(manifest.config.check(&json!({"hours": 9})), Ok(()));
    let failure = manifest.config.check(&json!({"hours": "nine"})).unwrap_err();
    assert_eq!((failure.code, &failure.details), (Code::ConfigInvalid, &json!({"path": "hours"})));
    assert_eq!(failure.message, "hours: \"nine\" is not of type integer");
    // Defaults that the schema refuses, and a schema that says what is not held.
    let failure = with(&format!("{section}'nine'")).unwrap_err();
    assert!(failure.message.contains("config.defaults.hours: \"nine\" is not of"), "{failure}");
    assert_eq!(failure.details["line"], 9);
    let failure = with("[config.schema]\noneOf = []").unwrap_err();
    assert!(failure.message.contains("schema.oneOf: this keyword"), "{failure}");
}

#[test]
fn the_file_is_read_from_the_directory_with_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let absent = Manifest::load(directory.path()).unwrap_err();
    assert_eq!(absent.code, Code::NotFound);
    let file = directory.path().join(FILE_NAME);
    std::fs::write(&file, "id = 'a'\nversion = '1.0.0'").unwrap();
    assert_eq!(Manifest::load(directory.path()).unwrap().id.as_str(), "a");
    std::fs::write(&file, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
    let large = Manifest::load(directory.path()).unwrap_err();
    assert!(large.message.contains("at most"), "{large}");
    std::fs::write(&file, b"id = '\xff'").unwrap();
    let binary = Manifest::load(directory.path()).unwrap_err();
    assert!(binary.message.contains("not UTF-8 text from byte 6"), "{binary}");
}

#[test]
fn what_is_serialized_is_what_was_parsed() {
    let manifest = parse(EVERYTHING).unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Manifest::parse(&bytes, Path::new("x"));
    }

    #[test]
    fn no_damage_to_a_good_one_makes_it_panic(at in 0..EVERYTHING.len(), length in 0usize..9,
                                              text in "[\\PC\n'\"\\[\\]={}]{0,6}") {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, text.bytes());
        if let Err(failure) = Manifest::parse(&bytes, Path::new("x")) {
            prop_assert_eq!(failure.code, Code::ManifestInvalid);
            prop_assert!(failure.message.starts_with("x:"));
        }
    }

    #[test]
    fn depth_is_bounded(depth in 1usize..20_000) {
        let _ = Manifest::parse(format!("config.defaults.x = {}", "[".repeat(depth)).as_bytes(), Path::new("x"));
    }
}

#[test]
fn the_examples_manifests_are_good() {
    for name in ["appointments", "appointment-scheduler"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        let manifest = Manifest::load(&directory).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.entry()), (name, format!("bin/{name}")));
    }
}
