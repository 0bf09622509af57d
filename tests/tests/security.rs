//! `docs/security.md` held against what is: the unit's exposure, the tests that it names, the privilege that each
//! process has.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_tests::package::Package;
use bulkhead_tests::process::Program;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/security.md")).unwrap()
}

/// The cells of the table that begins with this line of heads.
fn table(heads: &str) -> Vec<Vec<String>> {
    let page = page();
    let rows: Vec<Vec<String>> = page
        .lines()
        .skip_while(|line| *line != heads)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let line = line.replace("\\|", "\u{1}");
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "docs/security.md has no table {heads:?}");
    rows
}

#[test]
fn what_systemd_counts_of_the_unit_is_little_and_each_point_has_its_reason() {
    if !lane::program(test_name!(), "systemd-analyze") {
        return;
    }
    let unit = root().join("packaging/bulkhead.service");
    let analyze = |option: &str| {
        Program::new("systemd-analyze").args(["security", "--offline=yes", option]).arg(&unit).run()
    };
    // Ten times the exposure.
    let outcome = analyze("--threshold=35");
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    // The control: it is counted, and no unit is without any.
    assert_ne!(analyze("--threshold=1").code(), 0);
    let points: Value = serde_json::from_str(&analyze("--json=short").expect(0).stdout).unwrap();
    let reasons: BTreeMap<String, String> = table("| setting | why |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    for point in points.as_array().unwrap() {
        let counts = point["exposure"].as_str().is_some_and(|text| text.parse() != Ok(0.0));
        let name = point["name"].as_str().unwrap();
        assert!(
            !counts || reasons.get(name).is_some_and(|reason| !reason.is_empty()),
            "docs/security.md does not say why {name} stays: {point}"
        );
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut pending: Vec<PathBuf> =
        ["sandbox", "supervisor", "tests", "ipc-protocol", "ipc-driver", "plugin-sdk"]
            .map(|directory| root().join(directory))
            .to_vec();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                sources.entry(stem).or_default().push_str(&text);
            }
        }
    }
    let page = page();
    let named: Vec<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 50, "{} tests are named", named.len());
    for (file, test) in named {
        let found = sources.get(file).is_some_and(|text| text.contains(&format!("fn {test}(")));
        assert!(found, "docs/security.md names {file}::{test}, which does not exist");
    }
}

#[test]
fn each_process_has_the_privilege_that_is_written_and_no_other() {
    if !lane::root(test_name!()) {
        return;
    }
    let service = Service::start();
    service.enable(&Package::witness("guest", ""));
    let status = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    let set = |status: &str, name: &str| u64::from_str_radix(&field(status, name), 16).unwrap();
    let kept = table("| capability | number | why |")
        .iter()
        .fold(0_u64, |kept, row| kept | 1 << row[1].parse::<u32>().unwrap());
    // The control: whoever started it has more.
    assert_ne!(set(&status(std::process::id() as i32), "CapEff") & !kept, 0);
    let launcher = status(service.pid());
    assert_eq!(set(&launcher, "CapPrm"), kept);
    assert_eq!(set(&launcher, "CapEff"), kept);
    assert_eq!(set(&launcher, "CapBnd"), kept);
    assert_eq!(field(&launcher, "NoNewPrivs"), "1");
    let supervisor = status(service.supervisor());
    let plugins = service.plugin_processes();
    assert!(!plugins.is_empty());
    for (whose, status) in std::iter::once(("supervisor", supervisor))
        .chain(plugins.iter().map(|pid| ("plugin", status(*pid))))
    {
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(set(&status, name), 0, "{name} of the {whose}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{whose}");
        assert_eq!(field(&status, "Seccomp"), "2", "{whose}");
        assert!(!field(&status, "Uid").split('\t').any(|uid| uid == "0"), "{whose}");
    }
}

#[test]
fn the_supervisor_tells_the_compartment_that_it_measured() {
    let service = Service::start();
    let machine = service.admin().ask("GET", "/v1/machine", "").unwrap().json();
    let layers = machine["supervisor"]["layers"].as_array().unwrap().clone();
    let enforced = |name: &str| {
        let found = layers.iter().find(|layer| layer["layer"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {layers:?}"))["enforced"] == true
    };
    for layer in ["capabilities", "no-new-privs"] {
        assert!(enforced(layer), "{layers:?}");
    }
    for layer in ["landlock-files", "seccomp"] {
        assert_eq!(enforced(layer), lane::layer_state(layer) == "enforced", "{layers:?}");
    }
    let doctor = service.command(["doctor", "--json"]).run();
    let doctor: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(doctor["supervisor"], machine["supervisor"]);
    // The control: without a service there is none to tell of.
    let socket = service.directory().join("nobody.sock");
    let doctor = Program::new(bulkhead_tests::program::bulkhead())
        .arg("--socket")
        .arg(socket)
        .args(["doctor", "--json"])
        .run();
    let doctor: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert!(doctor["supervisor"].is_null(), "{doctor}");
}
