//! Secrets and payloads are where they must be, and nowhere else.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::path::{Path, PathBuf};

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

const SCHEMA: &str = r#"
[lifecycle.restart]
policy = "never"
[config.schema]
type = "object"
[config.schema.properties.url]
type = "string"
[config.schema.properties.password]
type = "string"
secret = true
minLength = 8
"#;

/// The files below `directory` that hold `text`.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

/// All that the service tells those who ask.
fn told(service: &Service) -> String {
    let mut told = String::new();
    for verb in [
        &["ls", "--json"][..],
        &["inspect", "victim"],
        &["inspect", "victim", "--json"],
        &["config", "victim", "--json"],
        &["events", "--json"],
        &["logs", "victim", "--json"],
        &["audit", "--json"],
    ] {
        let outcome = service.command(verb).run().expect(0);
        told = format!("{told}\n{}{}", outcome.stdout, outcome.stderr);
    }
    told
}

fn configure(service: &Service, config: &Value) -> PathBuf {
    let path = service.directory().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[test]
fn a_secret_reaches_the_plugin_and_the_store_and_nobody_else() {
    let mut service = Service::start();
    let package = Package::hostile("victim", "well", SCHEMA);
    service.install(&package);
    let config = configure(&service, &json!({ "url": "db.example", "password": "canary-inline" }));
    service.json(["enable".as_ref(), "victim".as_ref(), "--config".as_ref(), config.as_os_str()]);
    std::fs::remove_file(&config).unwrap();
    let given = service.json(["call", "victim", "config"]);
    assert_eq!(given, json!({ "url": "db.example", "password": "canary-inline" }));
    let shown = service.json(["inspect", "victim"])["config"].clone();
    assert_eq!(shown, json!({ "url": "db.example", "password": "<redacted>" }));
    // What was shown can be given back, and the secret stays what it is.
    service.json(["disable", "victim"]);
    let config = configure(&service, &json!({ "url": "other.example", "password": "<redacted>" }));
    service.json(["enable".as_ref(), "victim".as_ref(), "--config".as_ref(), config.as_os_str()]);
    let given = service.json(["call", "victim", "config"]);
    assert_eq!(given, json!({ "url": "other.example", "password": "canary-inline" }));
    assert!(!told(&service).contains("canary-inline"));
    let written = service.stop();
    assert!(!written.stderr.contains("canary-inline") && !written.stdout.contains("canary-inline"));
    let database = service.directory().join("state/supervisor/bulkhead.db");
    let holders = files_with(service.directory(), "canary-inline");
    assert!(!holders.is_empty(), "the control: it is in the store");
    for holder in holders {
        let name = holder.display().to_string();
        assert!(name.starts_with(&database.display().to_string()), "it is in {name}");
    }
}

#[test]
fn a_credential_is_read_at_each_start_and_stored_nowhere() {
    let mut service = Service::start();
    let credentials = service.directory().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let file = credentials.join("db-password");
    std::fs::write(&file, "canary-credential\n").unwrap();
    service.install(&Package::hostile("victim", "well", SCHEMA));
    let named = json!({ "password": { "credential": "db-password" } });
    let config = configure(&service, &named);
    service.json(["enable".as_ref(), "victim".as_ref(), "--config".as_ref(), config.as_os_str()]);
    let given = service.json(["call", "victim", "config"]);
    assert_eq!(given, json!({ "password": "canary-credential" }));
    assert_eq!(service.json(["inspect", "victim"])["config"], named, "its name is no secret");
    assert!(!told(&service).contains("canary-credential"));
    // A new one is there after the next start; one that does not fit or is gone is told.
    service.json(["disable", "victim"]);
    std::fs::write(&file, "short").unwrap();
    let error = service.error(["enable", "victim"]);
    assert_eq!(
        (&error["code"], &error["details"]["path"]),
        (&json!("CONFIG_INVALID"), &json!("password"))
    );
    assert!(!error.to_string().contains("short"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = service.error(["enable", "victim"]);
    assert_eq!(
        (&error["code"], &error["details"]["what"]),
        (&json!("NOT_FOUND"), &json!("credential"))
    );
    let written = service.stop();
    assert!(!written.stderr.contains("canary-credential"));
    assert_eq!(files_with(service.directory(), "canary-credential"), Vec::<PathBuf>::new());
}

#[test]
fn no_error_quotes_a_secret_even_where_the_plugin_does() {
    let mut service = Service::start();
    service.install(&Package::hostile("victim", "quote-config", SCHEMA));
    let bad = configure(&service, &json!({ "password": ["canary-misfit"] }));
    let enable = |config: &Path| {
        service.error([
            "enable".as_ref(),
            "victim".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
        ])
    };
    let error = enable(&bad);
    assert_eq!(
        (&error["code"], &error["details"]["path"]),
        (&json!("CONFIG_INVALID"), &json!("password"))
    );
    assert!(!error.to_string().contains("canary"), "{error}");
    let config = configure(&service, &json!({ "url": "plain-word", "password": "canary-quoted" }));
    let error = enable(&config);
    assert!(error.to_string().contains("plain-word"), "the control: it quotes the rest: {error}");
    assert!(!error.to_string().contains("canary-quoted"), "{error}");
    let events = service.command(["events", "--json"]).run().expect(0).stdout;
    assert!(events.contains("plain-word") && !events.contains("canary-quoted"), "{events}");
    let written = service.stop();
    assert!(!written.stderr.contains("canary-quoted"), "{}", written.stderr);
}

#[test]
fn what_is_said_in_calls_is_written_nowhere() {
    let mut service = Service::with("[audit]\ncalls = \"all\"");
    service.enable(&Package::hostile("victim", "well", ""));
    let argument = json!({ "patient": "canary-payload" }).to_string();
    let call = |method: &str| {
        let call = ["call", "victim", method, &argument, "--on-behalf-of", "dr.smith", "--json"];
        service.command(call).run()
    };
    assert!(
        call("echo").expect(0).stdout.contains("canary-payload"),
        "the control: it went through"
    );
    assert_eq!(call("no-such-method").code(), 1);
    service.json(["disable", "victim"]);
    assert_eq!(call("echo").code(), 1, "and one to a plugin that does not run");
    service.json(["uninstall", "victim"]);
    service.enable(&Package::hostile("victim", "crash-after 0", ""));
    assert_eq!(call("echo").code(), 1, "it dies of it");
    let said = told(&service);
    assert!(said.contains("dr.smith") && !said.contains("canary-payload"), "{said}");
    let written = service.stop();
    assert!(!written.stderr.contains("canary-payload"), "{}", written.stderr);
    let place = service.directory();
    assert_eq!(files_with(&place.join("state"), "canary-payload"), Vec::<PathBuf>::new());
}
