use super::*;

#[test]
fn a_dependency_that_is_not_there_is_a_warning_that_says_what_to_do() {
    let dependency = |found: Option<&str>| {
        let found = found.map(|version| version.parse().unwrap());
        Dependency::new("a".parse().unwrap(), "^1".parse().unwrap(), found)
    };
    assert_eq!(dependency(Some("1.2.0")).warning(), None);
    assert!(dependency(None).warning().unwrap().contains("not installed"));
    assert!(dependency(Some("2.0.0")).warning().unwrap().contains("2.0.0 is installed"));
}

#[test]
fn a_plugin_for_another_protocol_is_refused() {
    let manifest = |api: &str| {
        let text = format!("id = 'a'\nversion = '1.0.0'\napi = '{api}'");
        Manifest::parse(text.as_bytes(), Path::new("plugin.toml")).unwrap()
    };
    check_protocol(&manifest("^1")).unwrap();
    let failure = check_protocol(&manifest("^9")).unwrap_err();
    assert_eq!(
        (failure.code, &failure.details["required"]),
        (Code::VersionIncompatible, &"^9".into())
    );
}

#[test]
fn a_bound_on_disks_that_this_machine_lacks_is_a_warning_to_who_asks_for_one() {
    let machine: Machine = serde_json::from_value(serde_json::json!({
        "kernel": "6.12", "architecture": "x86_64", "uid": 0, "landlock_abi": 6,
        "layers": [{ "layer": "io", "state": "missing", "detail": "no controller", "remedy": "boot" }],
    }))
    .unwrap();
    let told = |section: &str, strict| {
        let text = format!("id = 'a'\nversion = '1.0.0'\n{section}");
        let manifest = Manifest::parse(text.as_bytes(), Path::new("plugin.toml")).unwrap();
        unbounded(&machine, &manifest.policy(strict))
    };
    assert_eq!(told("", true), None);
    let asks = "[limits]\nio_write = '1M'";
    assert_eq!(
        told(asks, false).unwrap(),
        "it asks for a bound on disk bandwidth, and the layer io is missing, so it runs without \
         that: no controller; boot"
    );
    assert!(told(asks, true).unwrap().contains("it cannot be enabled"));
}

#[test]
fn findings_refuse_or_warn_as_configured() {
    let database = tempfile::tempdir().unwrap();
    let place = database.path().join("crates/x");
    std::fs::create_dir_all(&place).unwrap();
    let advisory = |number: u8, more: &str| {
        let text = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2020-000{number}\"\npackage = \"x\"\n{more}\n\
             [versions]\npatched = [\">=2\"]\n```\n# It is bad\n"
        );
        std::fs::write(place.join(format!("RUSTSEC-2020-000{number}.md")), text).unwrap();
    };
    let one = || crates::Crate { name: "x".into(), version: Version::new(1, 0, 0), public: true };
    let ask = |refuse: bool| {
        let advisories = Advisories { path: database.path().to_owned(), refuse };
        let mut warnings = Vec::new();
        consult(&advisories, &[one()], &mut warnings).map(|found| (found.len(), warnings.len()))
    };
    advisory(1, "informational = \"unmaintained\"");
    assert_eq!(ask(true).unwrap(), (1, 1), "what informs never refuses");
    advisory(2, "");
    assert_eq!(ask(false).unwrap(), (2, 2));
    let failure = ask(true).unwrap_err();
    assert_eq!(failure.code, Code::VulnerableDependency);
    assert_eq!(failure.details["advisories"], serde_json::json!(["RUSTSEC-2020-0002"]));
    // Not to know is a warning, or no leave.
    std::fs::remove_dir_all(database.path().join("crates")).unwrap();
    assert_eq!(ask(false).unwrap(), (0, 1));
    assert_eq!(ask(true).unwrap_err().code, Code::ConfigInvalid);
}
