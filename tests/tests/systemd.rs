//! The service as systemd runs it: `packaging/bulkhead.service` with its users and its sample
//! configuration, on a machine where systemd is process 1.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_tests::admin::Admin;
use bulkhead_tests::process::{Outcome, Program, bulkhead};
use bulkhead_tests::service::make_disk_with_quotas;
use bulkhead_tests::{lane, program, test_name};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::Value;

const UNIT: &str = "/etc/systemd/system/bulkhead.service";
const AUDIT: &str = "/etc/systemd/system/bulkhead-audit.socket";
const CONFIGURATION: &str = "/etc/bulkhead/bulkhead.toml";
const SYSUSERS: &str = "/usr/lib/sysusers.d/bulkhead.conf";
const PROGRAM: &str = "/usr/bin/bulkhead";
const CGROUP: &str = "/sys/fs/cgroup/system.slice/bulkhead.service";

/// The unit, installed as a package would. Dropped, it is stopped and all of it removed.
struct Installed {
    plugin: PathBuf,
    // Each test is a process, and there is one unit of this name: one test at a time.
    _turn: Flock<File>,
}

impl Installed {
    /// Only where nothing of the kind is there: this is no machine that somebody uses.
    fn new(test: &str) -> Option<Self> {
        if !lane::root(test) || !lane::require(test, "memory") {
            return None;
        }
        if !Path::new("/run/systemd/system").is_dir() {
            lane::skip(test, "systemd is not process 1 here");
            return None;
        }
        let turn = File::create(std::env::temp_dir().join("bulkhead-unit-test.lock")).unwrap();
        let turn = Flock::lock(turn, FlockArg::LockExclusive).unwrap();
        for path in [UNIT, AUDIT, CONFIGURATION, SYSUSERS, PROGRAM] {
            if Path::new(path).exists() {
                lane::skip(test, &format!("{path} exists: bulkhead is installed here"));
                return None;
            }
        }
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        // A package in a directory that the service sees: /tmp and /root are its own or closed.
        let installed = Self { plugin: PathBuf::from("/opt/bulkhead-test-plugin"), _turn: turn };
        put(&program::bulkhead(), PROGRAM, 0o755);
        put(&packaging.join("bulkhead.service"), UNIT, 0o644);
        put(&packaging.join("bulkhead-audit.socket"), AUDIT, 0o644);
        put(&packaging.join("bulkhead.sysusers"), SYSUSERS, 0o644);
        // The sample's own lines, with the comment sign taken from those that this test is about.
        let sample = fs::read_to_string(packaging.join("bulkhead.toml")).unwrap();
        let text = uncommented(&sample, "allow_directories = false")
            .replace("allow_directories = false", "allow_directories = true");
        let text = uncommented(&text, "usage_interval = \"10s\"").replace("\"10s\"", "\"1s\"");
        let text = uncommented(&text, "admin_group = \"bulkhead-admin\"");
        let text = uncommented(&text, "reader_group = \"bulkhead-reader\"");
        fs::create_dir_all("/etc/bulkhead").unwrap();
        fs::write(CONFIGURATION, text).unwrap();
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/appointments/plugin.toml");
        fs::create_dir_all(installed.plugin.join("bin")).unwrap();
        put(&manifest, installed.plugin.join("plugin.toml"), 0o644);
        put(&program::path("appointments"), installed.plugin.join("bin/appointments"), 0o755);
        run("systemd-sysusers", &[]).expect(0);
        run("systemctl", &["daemon-reload"]).expect(0);
        Some(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // As much as can be done, after a failure too.
        let _ = run("systemctl", &["stop", "bulkhead.service"]);
        let _ = run("systemctl", &["reset-failed", "bulkhead.service"]);
        for path in [UNIT, AUDIT, SYSUSERS, PROGRAM] {
            let _ = fs::remove_file(path);
        }
        for path in ["/etc/bulkhead", "/var/lib/bulkhead"] {
            let _ = fs::remove_dir_all(path);
        }
        let _ = fs::remove_dir_all(&self.plugin);
        let _ = run("systemctl", &["daemon-reload"]);
    }
}

fn put(from: &Path, to: impl AsRef<Path>, mode: u32) {
    fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
}

/// # Panics
/// Where the sample does not have the line commented out.
fn uncommented(text: &str, line: &str) -> String {
    let comment = format!("# {line}\n");
    assert!(text.contains(&comment), "packaging/bulkhead.toml has no line {comment:?}");
    text.replace(&comment, &format!("{line}\n"))
}

fn run(name: &str, arguments: &[&str]) -> Outcome {
    arguments.iter().fold(Program::new(name), Program::arg).run()
}

fn property(name: &str) -> String {
    let outcome = run("systemctl", &["show", "--value", "--property", name, "bulkhead.service"]);
    outcome.expect(0).stdout.trim().to_owned()
}

/// Starts the unit; on failure the journal says why.
fn start() {
    let outcome = run("systemctl", &["start", "bulkhead.service"]);
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stderr, journal());
}

fn journal() -> String {
    run("journalctl", &["--no-pager", "--unit", "bulkhead.service", "--lines", "60"]).stdout
}

/// The first entry of the unit with these fields. One that is not there yet is waited for.
fn journalled(fields: &[&str]) -> Value {
    let mut program = Program::new("journalctl");
    for option in ["--unit=bulkhead.service", "--output=json", "--follow", "--no-tail"] {
        program = program.arg(option);
    }
    let mut entries = program.args(fields).start();
    serde_json::from_str(&entries.stdout.line(|_| true)).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let outcome = bulkhead(arguments).arg("--json").run();
    assert_eq!(outcome.code(), 0, "{arguments:?}\n{}{}", outcome.stderr, journal());
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn the_page_for_installing_puts_each_file_where_it_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/installing.md")).unwrap();
    for (file, place) in [
        ("bulkhead.service", UNIT),
        ("bulkhead-audit.socket", AUDIT),
        ("bulkhead.sysusers", SYSUSERS),
        ("bulkhead.toml", CONFIGURATION),
    ] {
        let line = format!("install -m 644 packaging/{file} {place}\n");
        assert!(page.contains(&line), "{line}");
    }
    assert!(page.contains(&format!("install -m 755 target/release/bulkhead {PROGRAM}\n")));
    // Nothing is packaged that no page speaks of.
    let monitoring = fs::read_to_string(root.join("docs/monitoring.md")).unwrap();
    for entry in fs::read_dir(root.join("packaging")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(page.contains(&name) || monitoring.contains(&name), "{name}");
    }
}

#[test]
fn the_unit_starts_serves_a_plugin_and_stops_without_a_trace() {
    let Some(installed) = Installed::new(test_name!()) else { return };
    start();
    assert_eq!(property("ActiveState"), "active");
    assert!(
        property("StatusText").contains("/run/bulkhead/admin.sock"),
        "{}",
        property("StatusText")
    );

    let directory = installed.plugin.to_str().unwrap();
    json(&["install", "--yes", directory]);
    json(&["enable", "appointments"]);
    let plugin = json(&["inspect", "appointments"]);
    assert_eq!(plugin["state"], "enabled", "{plugin}");
    let layers = plugin["enforcement"]["layers"].as_array().unwrap();
    assert!(layers.len() > 10, "{layers:?}");
    for layer in layers {
        assert_eq!(layer["enforced"], true, "under the unit's own confinement: {layer}");
    }
    // What the plugin writes, and what is said of it, is found in the journal by its id.
    for field in ["BULKHEAD_STREAM=stderr", "BULKHEAD_EVENT=plugin:enabled"] {
        let entry = journalled(&["BULKHEAD_PLUGIN=appointments", field]);
        assert_eq!(entry["_SYSTEMD_UNIT"], "bulkhead.service", "{entry}");
        assert_eq!(entry["PRIORITY"], "6", "{entry}");
    }
    let pid = plugin["process"]["pid"].as_i64().unwrap();
    assert!(Path::new(CGROUP).join("plugins/appointments").is_dir());
    assert_eq!(json(&["call", "appointments", "stats", "{}"])["appointments"], 0);

    // The launcher is root without CAP_SYS_ADMIN, the supervisor has nothing, and another user.
    let main: u32 = property("MainPID").parse().unwrap();
    assert_eq!(set(main, "CapPrm") & (1 << 21), 0, "CAP_SYS_ADMIN");
    assert_eq!(set(main, "CapBnd"), set(main, "CapPrm"), "nothing but what it keeps");
    let supervisor = supervisor_pid();
    assert_eq!(set(supervisor, "CapPrm"), 0);
    let user = run("id", &["--user", "bulkhead"]).expect(0).stdout;
    assert_eq!(field(supervisor, "Uid").split('\t').next(), Some(user.trim()));
    assert_eq!(field(supervisor, "Seccomp"), "2");
    let machine = machine();
    for layer in machine["supervisor"]["layers"].as_array().unwrap() {
        assert_eq!(layer["enforced"], true, "under the unit's own confinement: {layer}");
    }
    // systemd has opened the audit stream, for which the launcher has no capability.
    let layers = machine["layers"].as_array().unwrap();
    let audit = layers.iter().find(|layer| layer["layer"] == "audit").unwrap();
    assert!(audit["detail"].as_str().unwrap().contains("service manager"), "{audit}");
    // Of other users' processes only the launcher sees those of plugins, and tells what they transmit.
    let used = uses("appointments");
    assert_eq!(
        used["network"],
        serde_json::json!({ "receivedBytes": 0, "sentBytes": 0 }),
        "{used}"
    );

    run("systemctl", &["stop", "bulkhead.service"]).expect(0);
    assert_eq!(property("ActiveState"), "inactive", "{}", journal());
    assert_eq!(property("Result"), "success", "{}", journal());
    assert!(!Path::new(CGROUP).exists());
    assert!(!Path::new("/run/bulkhead").exists());
    for pid in [pid, i64::from(main), i64::from(supervisor)] {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }

    // What was installed and enabled is there again after the next start.
    start();
    assert_eq!(json(&["inspect", "appointments"])["id"], "appointments");
}

#[test]
fn members_of_the_groups_and_nobody_else_are_served() {
    let Some(installed) = Installed::new(test_name!()) else { return };
    start();
    json(&["install", "--yes", installed.plugin.to_str().unwrap()]);
    let as_group = |group: &str, verb: &[&str]| {
        let mut program = Program::new("setpriv")
            .arg("--reuid=65534")
            .arg("--regid=65534")
            .arg(format!("--groups={}", gid(group)))
            .arg(PROGRAM)
            .arg("--socket=/run/bulkhead/admin.sock");
        for word in verb {
            program = program.arg(word);
        }
        program.run()
    };
    as_group("bulkhead-admin", &["ls"]).expect(0);
    as_group("bulkhead-admin", &["enable", "appointments"]).expect(0);
    as_group("bulkhead-reader", &["ls"]).expect(0);
    let refused = as_group("bulkhead-reader", &["disable", "appointments"]).expect(4);
    assert!(refused.stderr.contains("PERMISSION_DENIED"), "{}", refused.stderr);
    let refused = as_group("nogroup", &["ls"]).expect(4);
    assert!(refused.stderr.contains("PERMISSION_DENIED"), "{}", refused.stderr);
    assert_eq!(json(&["inspect", "appointments"])["state"], "enabled");
}

/// A file system of its own for the state. Dropped before the unit's files are, it is let go of.
struct Mounted {
    _image: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        make_disk_with_quotas(&image, 128 << 20);
        fs::create_dir_all("/var/lib/bulkhead").unwrap();
        let image = image.to_str().unwrap();
        run("mount", &["-o", "loop,usrquota", image, "/var/lib/bulkhead"]).expect(0);
        Self { _image: directory }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run("systemctl", &["stop", "bulkhead.service"]);
        let _ = run("umount", &["/var/lib/bulkhead"]);
    }
}

#[test]
fn a_hard_limit_is_seen_under_the_units_own_confinement() {
    if !lane::quotas(test_name!()) {
        return;
    }
    let Some(installed) = Installed::new(test_name!()) else { return };
    let _mounted = Mounted::new();
    start();
    json(&["install", "--yes", installed.plugin.to_str().unwrap()]);
    let before = json(&["inspect", "appointments"])["storage"].clone();
    assert_eq!(before["enforcement"], "sampled", "{before}");
    json(&["quota-init", "--limit", "32M"]);
    let storage = json(&["inspect", "appointments"])["storage"].clone();
    assert_eq!(storage["hardLimitBytes"], 32 << 20, "{storage}\n{}", journal());
    assert_eq!(json(&["doctor"])["storage"]["enforcement"], "hard");
}

fn gid(group: &str) -> String {
    let entry = run("getent", &["group", group]).expect(0).stdout;
    entry.split(':').nth(2).unwrap().to_owned()
}

/// The supervisor's pid, from what the launcher tells systemd.
fn supervisor_pid() -> u32 {
    let status = property("StatusText");
    let mut words = status.split_whitespace().skip_while(|word| *word != "supervisor");
    words.nth(1).and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no pid in {status:?}"))
}

/// A line of /proc/PID/status.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

/// A set of capabilities.
fn set(pid: u32, name: &str) -> u64 {
    u64::from_str_radix(&field(pid, name), 16).unwrap()
}

fn machine() -> Value {
    let mut admin = Admin::connect(Path::new("/run/bulkhead/admin.sock")).unwrap();
    admin.ask("GET", "/v1/machine", "").unwrap().json()
}

/// What a plugin was last told to use.
fn uses(id: &str) -> Value {
    let mut events = bulkhead(["events", "--follow", "--json"]).start();
    let wanted = |line: &str| line.contains("plugin:resource:usage") && line.contains(id);
    let event: Value = serde_json::from_str(&events.stdout.line(wanted)).unwrap();
    events.signal(Signal::SIGTERM);
    events.wait();
    event["metrics"].clone()
}
