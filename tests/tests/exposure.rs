//! How exposed the machine is to a plugin: shown, measured, and bounded.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::Write as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::Value;

const WIDE: &str = "[sandbox]\nprofile = \"program\"\nallow_syscalls = [\"getrusage\"]";

/// The score of a plugin that is only looked at.
fn expected(service: &Service, package: &Package) -> f64 {
    let path = package.path().to_str().unwrap();
    let review = service.json(["install", "--dry-run", path]);
    assert_eq!(review["exposure"]["measured"], false, "{review}");
    review["exposure"]["score"].as_f64().unwrap()
}

fn names(exposure: &Value) -> Vec<&str> {
    let reasons = exposure["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["name"].as_str().unwrap()).collect()
}

#[test]
fn it_is_expected_before_a_start_and_measured_after_it() {
    let service = Service::start();
    let (narrow, wide) =
        (Package::hostile("narrow", "well", ""), Package::hostile("wide", "well", WIDE));
    let grants = expected(&service, &wide) - expected(&service, &narrow);
    assert!((grants - 1.5).abs() < 0.01, "the profile and the call, {grants}");
    service.install(&wide);
    let before = service.json(["inspect", "wide"])["exposure"].clone();
    assert_eq!(before["measured"], false, "{before}");
    let after = service.enable(&wide)["plugin"]["exposure"].clone();
    assert_eq!(after["measured"], true, "{after}");
    assert_eq!((&before["score"], &before["reasons"]), (&after["score"], &after["reasons"]));
    assert!(names(&after).contains(&"profile") && names(&after).contains(&"syscall"), "{after}");
    let weights: Vec<f64> = after["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["weight"].as_f64().unwrap())
        .collect();
    assert!(weights.is_sorted_by(|one, next| one >= next), "{after}");
    let score = after["score"].as_f64().unwrap();
    assert!((weights.iter().sum::<f64>() - score).abs() < 0.01, "{after}");
    let listed = service.json(["ls"]);
    assert_eq!(listed["plugins"][0]["exposure"]["score"], after["score"], "{listed}");
    let metrics = service.command(["metrics"]).run().expect(0).stdout;
    let line = format!("bulkhead_exposure{{plugin=\"wide\"}} {score}\n");
    assert!(metrics.contains(&line), "{line} in {metrics}");
    let shown = service.command(["inspect", "wide"]).run().expect(0).stdout;
    assert!(shown.contains(&format!("exposure {score:.1} of 10, as measured")), "{shown}");
}

#[test]
fn a_bound_refuses_what_is_above_it_and_nothing_else() {
    let mut service = Service::start();
    let (narrow, wide) =
        (Package::hostile("narrow", "well", ""), Package::hostile("wide", "well", WIDE));
    let bound = expected(&service, &narrow);
    let install = |package: &Package, bound: f64| {
        let path = package.path().to_str().unwrap().to_owned();
        [
            "install".to_owned(),
            "--yes".to_owned(),
            "--max-exposure".to_owned(),
            format!("{bound:.1}"),
            path,
        ]
    };
    let refused = service.error(install(&wide, bound));
    assert_eq!(refused["code"], "EXPOSURE_TOO_HIGH", "{refused}");
    assert!(names(&refused["details"]).contains(&"profile"), "{refused}");
    assert_eq!(service.error(["inspect", "wide"])["code"], "NOT_FOUND");
    service.json(install(&narrow, bound));
    service.enable(&wide);

    // The service's own bound holds for what was installed before it was set.
    service.stop();
    let mut config = std::fs::File::options().append(true).open(service.config()).unwrap();
    writeln!(config, "[admission]\nmax_exposure = {bound:.1}").unwrap();
    service.run_again();
    // Nobody asked for this start, so it is told to all.
    let mut events = service.command(["events", "--follow", "--json"]).start();
    let told = events.stdout.line(|line| line.contains("EXPOSURE_TOO_HIGH"));
    assert!(told.contains("plugin:error") && told.contains("\"wide\""), "{told}");
    let refused = service.error(["enable", "wide"]);
    assert_eq!(refused["code"], "EXPOSURE_TOO_HIGH", "{refused}");
    assert_eq!(service.json(["inspect", "wide"])["state"], "disabled");
    assert_eq!(service.plugin_processes(), [0; 0]);
    let again = Package::hostile("another", "well", WIDE);
    let path = again.path().to_str().unwrap();
    assert_eq!(service.error(["install", "--yes", path])["code"], "EXPOSURE_TOO_HIGH");
    assert_eq!(service.json(["enable", "narrow"])["state"], "enabled");
}

#[test]
fn an_upgrade_that_would_be_above_the_bound_is_refused_and_the_version_before_runs_on() {
    let service = Service::start();
    let before = Package::revision("doc", "1.0.0", "well", "");
    let bound = expected(&service, &before);
    let pid = service.enable(&before)["plugin"]["process"]["pid"].clone();
    let upgrade = |package: &Package| {
        let path = package.path().to_str().unwrap().to_owned();
        let bound = format!("{bound:.1}");
        ["upgrade".to_owned(), "--yes".to_owned(), "--max-exposure".to_owned(), bound, path]
    };
    let refused = service.error(upgrade(&Package::revision("doc", "1.1.0", "well", WIDE)));
    assert_eq!(refused["code"], "EXPOSURE_TOO_HIGH", "{refused}");
    assert!(names(&refused["details"]).contains(&"profile"), "{refused}");
    let doc = service.json(["inspect", "doc"]);
    assert_eq!((&doc["version"], &doc["state"]), (&"1.0.0".into(), &"enabled".into()), "{doc}");
    assert_eq!(doc["process"]["pid"], pid);
    // The control: one that asks for no more is upgraded to under the same bound.
    service.json(upgrade(&Package::revision("doc", "1.1.0", "well", "")));
    assert_eq!(service.json(["inspect", "doc"])["version"], "1.1.0");
}
