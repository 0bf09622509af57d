//! The mission's document, sample by sample: each as an HTTP request of a host application, as a
//! command of an operator, and, where a plugin is asked, through the SDK.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::path::{Path, PathBuf};

use bulkhead_tests::admin::Admin;
use bulkhead_tests::package::Package;
use bulkhead_tests::plugin;
use bulkhead_tests::process::{Running, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::signing::{Signer, beside};
use serde_json::{Value, json};

const SCHEDULER: &str = "appointment-scheduler";

/// What the document calls `pluginService`.
trait PluginService {
    /// `installPlugin({ id, version, code, metadata: { permissions } })`
    fn install(&mut self, package: &Path, id: &str, version: &str, permissions: &[&str]) -> Value;
    /// `enablePlugin(id, { config })`; without a configuration it keeps what it has.
    fn enable(&mut self, id: &str, config: Option<&Value>) -> Result<Value, Value>;
    /// `disablePlugin(id, { saveState, timeout })`
    fn disable(&mut self, id: &str, save_state: bool, timeout_ms: u64) -> Value;
    /// `uninstallPlugin(id, { preserveData, force })`
    fn uninstall(&mut self, id: &str, preserve_data: bool, force: bool) -> Value;
    fn call(&mut self, id: &str, method: &str, argument: &Value) -> Value;
    fn state(&mut self, id: &str) -> Value;
}

/// A host application, in any language.
struct Http(Admin);

impl Http {
    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.0.ask(method, path, &text).unwrap();
        let body = serde_json::from_slice(&reply.body).unwrap();
        if (200..300).contains(&reply.status) { Ok(body) } else { Err(body) }
    }
}

impl PluginService for Http {
    fn install(&mut self, package: &Path, id: &str, version: &str, permissions: &[&str]) -> Value {
        let options = json!({ "id": id, "version": version, "permissions": permissions });
        let options = options.to_string();
        let code = std::fs::read(package).unwrap();
        let signature = std::fs::read(beside(package)).unwrap();
        let file = package.file_name().unwrap().to_str();
        let parts = [
            ("package", file, &code[..]),
            ("signature", None, &signature[..]),
            ("options", None, options.as_bytes()),
        ];
        self.0.upload("/v1/plugins", &parts).unwrap().json()
    }

    fn enable(&mut self, id: &str, config: Option<&Value>) -> Result<Value, Value> {
        let body = config.map_or(Value::Null, |config| json!({ "config": config }));
        self.ask("POST", &format!("/v1/plugins/{id}/enable"), &body)
    }

    fn disable(&mut self, id: &str, save_state: bool, timeout_ms: u64) -> Value {
        let body = json!({ "saveState": save_state, "timeout": timeout_ms });
        self.ask("POST", &format!("/v1/plugins/{id}/disable"), &body).unwrap()
    }

    fn uninstall(&mut self, id: &str, preserve_data: bool, force: bool) -> Value {
        let path = format!("/v1/plugins/{id}?preserveData={preserve_data}&force={force}");
        self.ask("DELETE", &path, &Value::Null).unwrap()
    }

    fn call(&mut self, id: &str, method: &str, argument: &Value) -> Value {
        self.ask("POST", &format!("/v1/plugins/{id}/call/{method}"), argument).unwrap()
    }

    fn state(&mut self, id: &str) -> Value {
        self.ask("GET", &format!("/v1/plugins/{id}/state"), &Value::Null).unwrap()
    }
}

/// An operator at a terminal.
struct Command<'a>(&'a Service);

impl PluginService for Command<'_> {
    fn install(&mut self, package: &Path, id: &str, version: &str, permissions: &[&str]) -> Value {
        let mut words = vec!["install", package.to_str().unwrap()];
        for permission in permissions {
            words.extend(["--grant", permission]);
        }
        let installed = self.0.json(&words);
        // The command line has the name and the version from the package's own name.
        assert_eq!((&installed["id"], &installed["version"]), (&json!(id), &json!(version)));
        installed
    }

    fn enable(&mut self, id: &str, config: Option<&Value>) -> Result<Value, Value> {
        let mut words = vec!["enable", id, "--json"];
        if config.is_some() {
            words.extend(["--config", "-"]);
        }
        let input = config.map(Value::to_string).unwrap_or_default();
        let outcome = self.0.command(&words).input(input).run();
        let parse = |text: &str| serde_json::from_str(text).unwrap();
        if outcome.code() == 0 { Ok(parse(&outcome.stdout)) } else { Err(parse(&outcome.stderr)) }
    }

    fn disable(&mut self, id: &str, save_state: bool, timeout_ms: u64) -> Value {
        let timeout = format!("{timeout_ms}ms");
        let mut words = vec!["disable", id, "--timeout", &timeout];
        words.extend((!save_state).then_some("--no-save-state"));
        self.0.json(&words)
    }

    fn uninstall(&mut self, id: &str, preserve_data: bool, force: bool) -> Value {
        let mut words = vec!["uninstall", id];
        words.extend(preserve_data.then_some("--preserve-data"));
        words.extend(force.then_some("--force"));
        self.0.json(&words)
    }

    fn call(&mut self, id: &str, method: &str, argument: &Value) -> Value {
        self.0.json(["call", id, method, &argument.to_string()])
    }

    fn state(&mut self, id: &str) -> Value {
        self.0.json(["state", id])
    }
}

/// What the document calls `pluginService.on(event, …)`.
struct Listener(Running);

impl Listener {
    fn new(service: &Service) -> Self {
        Self(service.command(["events", "--follow", "--json"]).start())
    }

    /// The next event of that name about that plugin; those before it are passed over.
    fn on(&mut self, name: &str, plugin: &str) -> Value {
        let wanted = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["event"] == name && event["pluginId"] == plugin
        };
        serde_json::from_str(&self.0.stdout.line(wanted)).unwrap()
    }
}

/// An example as its author signs and ships it.
fn package(service: &Service, signer: &Signer, name: &str) -> PathBuf {
    let directory = plugin::example(service.directory(), name);
    let package = service.directory().join(format!("{name}-0.1.0.plugin"));
    bulkhead(["pack"]).arg(directory).arg("-o").arg(&package).run().expect(0);
    signer.sign(&package);
    package
}

/// The five samples of the life of `appointment-scheduler`, and the events that each causes.
fn lifecycle(plugins: &mut dyn PluginService, service: &Service, packages: &[PathBuf; 2]) {
    let permissions = ["read:appointments", "write:appointments"];
    let [appointments, scheduler] = packages;
    plugins.install(appointments, "appointments", "0.1.0", &permissions);
    let mut events = Listener::new(service);

    // 1. Installation
    let installation = plugins.install(scheduler, SCHEDULER, "0.1.0", &permissions);
    assert_eq!(installation["state"], "disabled");
    assert_eq!(installation["permissions"], json!(permissions));
    for name in ["plugin:installing", "plugin:installed"] {
        assert_eq!(events.on(name, SCHEDULER)["version"], "0.1.0", "{name}");
    }

    // 2. Initialization
    let config = json!({
        "defaultDuration": 60,
        "timezone": "America/New_York",
        "workingHours": { "start": "09:00", "end": "17:00" },
    });
    let enabled = plugins.enable(SCHEDULER, Some(&config)).unwrap();
    assert_eq!(enabled["state"], "enabled");
    assert_eq!(enabled["plugin"]["config"], config);
    events.on("plugin:enabling", SCHEDULER);
    events.on("plugin:enabled", SCHEDULER);

    // 3. Execution: it calls the plugin that it depends on, and what it uses is told.
    let booked = json!({ "patient": "p1", "practitioner": "dr-lee", "start": "2026-03-09T10:00" });
    let booked = plugins.call(SCHEDULER, "book", &booked);
    assert_eq!(booked["start"], "2026-03-09T10:00:00-04:00", "{booked}");
    assert_eq!(booked["end"], "2026-03-09T11:00:00-04:00", "the default duration: {booked}");
    let usage = events.on("plugin:resource:usage", SCHEDULER);
    for metric in ["memory", "cpu", "storage", "network"] {
        let metrics = usage["metrics"].as_object().unwrap();
        assert!(metrics.contains_key(metric), "no {metric}: {usage}");
    }

    // 4. Deactivation
    let disabled = plugins.disable(SCHEDULER, true, 5000);
    assert_eq!((&disabled["state"], &disabled["stateSaved"]), (&json!("disabled"), &json!(true)));
    assert_eq!(disabled["budgetMs"], 5000);
    events.on("plugin:disabling", SCHEDULER);
    assert_eq!(events.on("plugin:disabled", SCHEDULER)["stop"]["budgetMs"], 5000);

    // 5. Uninstallation
    plugins.uninstall(SCHEDULER, false, false);
    events.on("plugin:uninstalling", SCHEDULER);
    assert_eq!(events.on("plugin:uninstalled", SCHEDULER)["version"], "0.1.0");
    plugins.uninstall("appointments", false, false);
}

#[test]
fn the_life_of_a_plugin() {
    let service = Service::with("usage_interval = \"200ms\"");
    let signer = Signer::trusted(&service, &["appointments", SCHEDULER]);
    let packages = ["appointments", SCHEDULER].map(|name| package(&service, &signer, name));
    lifecycle(&mut Http(service.admin()), &service, &packages);
    lifecycle(&mut Command(&service), &service, &packages);
    assert_eq!(service.remains(), [""; 0]);
}

/// `plugin.setState` and `plugin.getState`: the plugin's side is the SDK's `host.state()`, in
/// `tests/plugins/witness`.
#[test]
fn state_persists_across_restarts() {
    let service = Service::start();
    service.install(&Package::witness("keeper", ""));
    let state = json!({
        "lastSync": "2026-03-09T10:00:00Z",
        "preferences": { "notifications": true, "theme": "dark" },
    });
    let mut http = Http(service.admin());
    let clients: [&mut dyn PluginService; 2] = [&mut http, &mut Command(&service)];
    for (round, plugins) in (1_u64..).zip(clients) {
        plugins.enable("keeper", None).unwrap();
        let version = plugins.call("keeper", "set-state", &state);
        assert_eq!(version, round, "each write is a version");
        plugins.disable("keeper", true, 5000);
        plugins.enable("keeper", None).unwrap();
        assert_eq!(plugins.call("keeper", "get-state", &Value::Null), state);
        let kept = plugins.state("keeper");
        assert_eq!(kept["entries"][0]["value"], state, "{kept}");
        assert_eq!(kept["entries"][0]["version"], version, "{kept}");
        plugins.disable("keeper", true, 5000);
    }
}

/// The document's `switch (error.code)`.
#[test]
fn errors_have_codes_and_details() {
    let service = Service::start();
    service.install(&Package::hostile("broken", "crash-in-init", ""));
    service.install(&Package::hostile("lonely", "well", "[dependencies]\nappointments = \"^1.0\""));
    service.install(&Package::hostile("greedy", "well", "[limits]\nmemory = \"8000G\""));
    service.install(&Package::hostile("other", "well", "[config.schema]\nrequired = [\"key\"]"));
    let mut http = Http(service.admin());
    let clients: [&mut dyn PluginService; 2] = [&mut http, &mut Command(&service)];
    for plugins in clients {
        let told = ["broken", "lonely", "greedy", "other"].map(|id| {
            let error = plugins.enable(id, None).unwrap_err();
            // RFC 9457 calls `detail` what the command line calls `message`.
            let message = error.get("detail").or(error.get("message")).unwrap();
            let message = message.as_str().unwrap();
            match error["code"].as_str().unwrap() {
                "INITIALIZATION_FAILED" => format!("failed to initialize: {message}"),
                "DEPENDENCY_MISSING" => {
                    format!("missing dependency: {}", error["details"]["dependency"])
                }
                "RESOURCE_EXHAUSTED" => {
                    format!("insufficient resources: {}", error["details"]["resource"])
                }
                other => format!("unknown error: {other}"),
            }
        });
        assert!(told[0].starts_with("failed to initialize: the plugin died at init"), "{told:?}");
        assert_eq!(
            told[1..],
            [
                "missing dependency: \"appointments\"",
                "insufficient resources: \"memory\"",
                "unknown error: CONFIG_INVALID",
            ]
        );
    }
}
