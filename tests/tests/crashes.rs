//! Deaths in the midst of an operation, at each of its steps: afterwards it was not begun, or it is
//! complete, and nothing else is left.
//!
//! The debug build stops itself where `BULKHEAD_PAUSE_AT` says, and tells all such places
//! (`bulkhead pause-points`), so that no step can be without its test.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;
use std::time::Instant;

use bulkhead_tests::belongings::Belongings;
use bulkhead_tests::census::wait_until_stopped;
use bulkhead_tests::footprint::Footprint;
use bulkhead_tests::lane;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, bulkhead};
use bulkhead_tests::service::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Supervisor,
    Launcher,
}

/// The packages of a run; the same all the time, so that their trees have the same names.
struct Packages {
    bystander: Package,
    one: Package,
    two: Package,
    /// Fails in its `init`.
    bad: Package,
    /// What the two that follow depend on.
    base: Package,
    needy: Package,
    bad_needy: Package,
    /// The configuration with which it is enabled.
    config: PathBuf,
    _below: TempDir,
}

impl Packages {
    fn new() -> Self {
        let lines = "[lifecycle]\nstop_timeout = \"5s\"";
        let revision = |version, mode| Package::revision("doc", version, mode, lines);
        let needs = format!("{lines}\n[dependencies]\nbase = \"1\"");
        let below = tempfile::tempdir().unwrap();
        let config = below.path().join("config.json");
        std::fs::write(&config, r#"{"rooms": 3}"#).unwrap();
        Self {
            base: Package::revision("base", "1.0.0", "well", ""),
            needy: Package::revision("doc", "1.0.0", "well", &needs),
            bad_needy: Package::revision("doc", "1.0.0", "crash-in-init", &needs),
            config,
            _below: below,
            bystander: Package::revision("bystander", "1.0.0", "well", ""),
            one: revision("1.0.0", "well"),
            two: revision("2.0.0", "well"),
            bad: revision("3.0.0", "crash-in-init"),
        }
    }

    /// What is there before the operation, and the operation. Where a failure is to be undone it is
    /// one that fails.
    fn prepare(&self, service: &Service, kind: &str, undo: bool) -> Vec<String> {
        let path = |package: &Package| package.path().to_str().unwrap().to_owned();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        service.enable(&self.bystander);
        match (kind, undo) {
            ("install", _) => words(&["install", &path(&self.one), "--yes"]),
            // What it depends on runs already, or is enabled with it.
            ("enable" | "enable-with-base", undo) => {
                service.install(&self.base);
                if kind == "enable" {
                    service.json(["enable", "base"]);
                }
                service.install(if undo { &self.bad_needy } else { &self.needy });
                if undo {
                    // What it writes into its state before it fails is its own.
                    service.error(["enable", "doc"]);
                }
                words(&["enable", "doc", "--config", self.config.to_str().unwrap()])
            }
            ("disable", _) => {
                service.enable(&self.one);
                words(&["disable", "doc"])
            }
            ("upgrade", false) => {
                service.enable(&self.one);
                words(&["upgrade", &path(&self.two), "--yes"])
            }
            ("upgrade", true) => {
                service.enable(&self.one);
                words(&["upgrade", &path(&self.bad), "--yes"])
            }
            ("rollback", false) => {
                service.enable(&self.one);
                service.json(["upgrade", &path(&self.two), "--yes"]);
                words(&["rollback", "doc"])
            }
            ("rollback", true) => {
                service.install(&self.bad);
                service.json(["upgrade", &path(&self.two), "--yes", "--allow-downgrade"]);
                service.json(["enable", "doc"]);
                words(&["rollback", "doc"])
            }
            ("uninstall", _) => {
                service.enable(&self.one);
                service.json(["upgrade", &path(&self.two), "--yes"]);
                words(&["uninstall", "doc"])
            }
            ("uninstall --preserve-data", _) => {
                self.furnish(service);
                service.json(["enable", "doc"]);
                words(&["uninstall", "doc", "--preserve-data"])
            }
            ("install --restore", _) => {
                self.furnish(service);
                let reply = service.json(["uninstall", "doc", "--preserve-data"]);
                let archive = reply["archive"].as_str().unwrap();
                words(&["install", &path(&self.one), "--yes", "--restore", archive])
            }
            other => panic!("the test does not know the operation {other:?}"),
        }
    }
}

impl Packages {
    /// A plugin that has something to lose.
    fn furnish(&self, service: &Service) {
        service.enable(&self.one);
        service.json(["disable", "doc"]);
        Belongings::furnish(service, "doc");
    }
}

/// Checks what an archive has kept by taking it up again.
fn check_archived(service: &Service, packages: &Packages, had: &Belongings, what: &str) {
    let archives = service.json(["archives"])["archives"].as_array().unwrap().clone();
    let [archive] = archives.as_slice() else { panic!("{what}: {archives:?}") };
    let name = archive["name"].as_str().unwrap();
    let package = packages.one.path().to_str().unwrap();
    service.json(["install", package, "--yes", "--restore", name]);
    assert_eq!(Belongings::of(service, "doc"), *had, "{what}");
}

/// The places of one operation.
fn points(kind: &str) -> Vec<String> {
    let all = bulkhead(["pause-points"]).run().expect(0).stdout;
    let mine: Vec<String> =
        all.lines().filter(|point| is_of(point, kind)).map(Into::into).collect();
    assert!(!mine.is_empty(), "{kind} has no places in\n{all}");
    mine
}

/// Where two plugins are enabled, what has failed is undone for each by itself.
fn is_of(point: &str, kind: &str) -> bool {
    let operation = point.split('/').next();
    match kind {
        "enable-with-base" => operation == Some("enable") && !point.ends_with("/undo"),
        // With a word on how, as in `uninstall --preserve-data`.
        kind => operation == kind.split(' ').next(),
    }
}

#[test]
fn every_operation_has_its_test() {
    let all = bulkhead(["pause-points"]).run().expect(0).stdout;
    for point in all.lines() {
        let kind = point.split('/').next().unwrap();
        let tested = ["install", "enable", "disable", "upgrade", "rollback", "uninstall"];
        assert!(tested.contains(&kind), "{point}");
    }
}

/// Spoils an installation at its last step: its log cannot be opened.
fn spoil_log(service: &Service) {
    let own = service.directory().join("state/supervisor");
    let logs = own.join("logs/doc");
    std::fs::create_dir_all(logs.join("current.jsonl")).unwrap();
    // The supervisor has to be able to remove it.
    let owner = std::fs::metadata(&own).unwrap();
    for path in [logs.join("current.jsonl"), logs] {
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
}

/// Waits until nothing of it is in the midst of anything and it is as `wanted` has it.
fn settled(service: &Service, what: &str, wanted: impl Fn(&Footprint) -> bool) -> Footprint {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = Footprint::of(service);
        if let Some(found) = found.as_ref().filter(|found| wanted(found)) {
            return found.clone();
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {found:#?}\n{}",
            service.command(["events"]).run().stdout
        );
    }
}

/// The places of an operation are dealt out to so many tests, so that none takes too long.
const PARTS: usize = 4;

/// An emulated machine takes many times longer; there `before` a step is left out, which is `after` the
/// one before it and its intention.
fn is_tried(point: &str) -> bool {
    !lane::promised() || !point.ends_with("/before")
}

fn die_at_each(kind: &str, victim: Victim, part: usize) {
    let packages = Packages::new();
    // What it is where nobody dies.
    let undisturbed = Service::start();
    let words = packages.prepare(&undisturbed, kind, false);
    let not_begun = settled(&undisturbed, "before", |_| true);
    undisturbed.json(&words);
    let complete = settled(&undisturbed, "after", |_| true);
    assert_ne!(not_begun, complete, "the test sees what the operation does");
    drop(undisturbed);
    let points: Vec<String> = points(kind).into_iter().filter(|point| is_tried(point)).collect();
    for point in points.iter().skip(part).step_by(PARTS) {
        let what = format!("{victim:?} at {point}");
        let undo = point.ends_with("/undo");
        // Its heart stands still while it is paused.
        let mut service = Service::with("heartbeat = \"60s\"");
        let words = packages.prepare(&service, kind, undo);
        // What prepares it must not be held itself.
        service.stop();
        service.set_environment("BULKHEAD_PAUSE_AT", point);
        service.run_again();
        let before = settled(&service, &what, |_| true);
        let archived = archive_of(&service);
        let had = (kind == "uninstall --preserve-data").then(|| Belongings::of(&service, "doc"));
        if undo && kind.starts_with("install") {
            spoil_log(&service);
        }
        let supervisor = service.supervisor();
        let asked = service.command(&words).start();
        wait_until_stopped(supervisor);
        match victim {
            Victim::Supervisor => kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap(),
            Victim::Launcher => {
                service.kill();
                service.wait_until_nothing_runs(supervisor);
                service.run_again();
            }
        }
        // Who asked has lost the answer, whatever was done.
        asked.wait().expect(1);
        if undo {
            settled(&service, &what, |found| *found == before);
            assert!(archive_of(&service) == archived, "{what}: the archive is another");
            continue;
        }
        assert_eq!(before, not_begun, "{what}");
        let found = settled(&service, &what, |found| *found == not_begun || *found == complete);
        if found == not_begun {
            service.json(&words);
            settled(&service, &what, |found| *found == complete);
        }
        if kind.starts_with("uninstall") {
            only_the_farewell_is_left(&service, &what);
        }
        match (kind, had) {
            (_, Some(had)) => check_archived(&service, &packages, &had, &what),
            ("install --restore", _) => {
                assert_eq!(Belongings::of(&service, "doc"), Belongings::furnished(), "{what}");
                assert!(archive_of(&service) == archived, "{what}: the archive is another");
            }
            _ => {}
        }
    }
}

/// The bytes of the one archive, if there is one.
fn archive_of(service: &Service) -> Option<Vec<u8>> {
    let archives = service.directory().join("state/supervisor/archives");
    let mut found = std::fs::read_dir(archives).unwrap();
    let archive = found.next()?.unwrap();
    assert!(found.next().is_none(), "there is more than one archive, or a draft");
    Some(std::fs::read(archive.path()).unwrap())
}

/// Of an uninstalled plugin the audit has one row with a content, whoever has finished the work.
fn only_the_farewell_is_left(service: &Service, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let audit = service.command(["audit", "--plugin", "doc", "--json"]).run().expect(0).stdout;
        let rows: Vec<Value> =
            audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (last, before) = rows.split_last().unwrap();
        let ended = (&last["action"], &last["outcome"]) == (&"uninstall".into(), &"ok".into());
        if ended && before.iter().all(|row| row["removed"] == true) {
            break;
        }
        assert!(Instant::now() < deadline, "{what}: {audit}");
    }
    service.json(["audit", "verify"]);
}

macro_rules! deaths {
    ($($name:ident: $kind:literal, $victim:ident;)*) => {$(
        mod $name {
            use super::{PARTS, Victim, die_at_each};

            const _: () = assert!(PARTS == 4, "a test for each part");

            #[test]
            fn at_each_step_it_was_not_begun_or_is_complete_first_quarter() {
                die_at_each($kind, Victim::$victim, 0);
            }

            #[test]
            fn at_each_step_it_was_not_begun_or_is_complete_second_quarter() {
                die_at_each($kind, Victim::$victim, 1);
            }

            #[test]
            fn at_each_step_it_was_not_begun_or_is_complete_third_quarter() {
                die_at_each($kind, Victim::$victim, 2);
            }

            #[test]
            fn at_each_step_it_was_not_begun_or_is_complete_last_quarter() {
                die_at_each($kind, Victim::$victim, 3);
            }
        }
    )*};
}

deaths! {
    the_supervisor_dies_in_an_installation: "install", Supervisor;
    the_launcher_dies_in_an_installation: "install", Launcher;
    the_supervisor_dies_in_an_enabling: "enable", Supervisor;
    the_launcher_dies_in_an_enabling: "enable", Launcher;
    the_supervisor_dies_in_an_enabling_of_two: "enable-with-base", Supervisor;
    the_launcher_dies_in_an_enabling_of_two: "enable-with-base", Launcher;
    the_supervisor_dies_in_a_disabling: "disable", Supervisor;
    the_launcher_dies_in_a_disabling: "disable", Launcher;
    the_supervisor_dies_in_an_upgrade: "upgrade", Supervisor;
    the_launcher_dies_in_an_upgrade: "upgrade", Launcher;
    the_supervisor_dies_in_a_rollback: "rollback", Supervisor;
    the_launcher_dies_in_a_rollback: "rollback", Launcher;
    the_supervisor_dies_in_an_uninstallation: "uninstall", Supervisor;
    the_launcher_dies_in_an_uninstallation: "uninstall", Launcher;
    the_supervisor_dies_where_data_are_kept: "uninstall --preserve-data", Supervisor;
    the_launcher_dies_where_data_are_kept: "uninstall --preserve-data", Launcher;
    the_supervisor_dies_where_data_come_back: "install --restore", Supervisor;
    the_launcher_dies_where_data_come_back: "install --restore", Launcher;
}
