//! Events that belong into the audit too.

use serde_json::Value;

use super::entry::{Action, Entry, Outcome};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::principal::Principal;

/// The codes by which the launcher, or this supervisor, refuses to run something.
const REFUSALS: [Code; 4] = [
    Code::PermissionDenied,
    Code::SignatureInvalid,
    Code::IntegrityFailed,
    Code::SandboxUnavailable,
];

/// The entry for an event, if it is to have one: restarts, trips, recoveries, and what was refused.
pub(crate) fn of_event(name: &str, plugin: &PluginId, body: &Value) -> Option<Entry> {
    let entry = |action, outcome| Entry::new(Principal::service(), action, outcome).about(plugin);
    let with = |entry: Entry, keys: &[&str]| {
        keys.iter().fold(entry, |entry, key| entry.with(key, &body[*key]))
    };
    match name {
        "plugin:restarting" => {
            Some(with(entry(Action::Restarting, Outcome::Done), &["failures", "nextTryInMs"]))
        }
        "plugin:tripped" => {
            Some(with(entry(Action::Tripped, Outcome::Done), &["failures", "nextTryInMs"]))
        }
        "plugin:recovered" => Some(with(entry(Action::Recovered, Outcome::Done), &["version"])),
        "plugin:error" => {
            let failure: Failure = serde_json::from_value(body["error"].clone()).ok()?;
            if !REFUSALS.contains(&failure.code) {
                return None;
            }
            let refused = entry(Action::Denied, Outcome::Failed(failure.code));
            // Which rule it was; the rest of the details can quote a manifest.
            let rules = ["floor", "layer", "permission", "key", "reason", "remedy"];
            let given = rules.iter().filter(|rule| !failure.details[**rule].is_null());
            Some(given.fold(refused, |entry, rule| entry.with(rule, &failure.details[*rule])))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_and_restarts_are_recorded_and_the_rest_is_not() {
        let id: PluginId = "victim".parse().unwrap();
        let denied = Failure::new(Code::PermissionDenied, "no").with("floor", "syscall");
        let body = json!({ "error": denied.with("syscall", "ptrace") });
        let entry = of_event("plugin:error", &id, &body).unwrap();
        assert_eq!((entry.action, &entry.plugin), (Action::Denied, &Some(id.clone())));
        assert_eq!(entry.outcome, Outcome::Failed(Code::PermissionDenied));
        assert_eq!(Value::Object(entry.details), json!({ "floor": "syscall" }));
        let body = json!({ "failures": 2, "nextTryInMs": 100 });
        let entry = of_event("plugin:tripped", &id, &body).unwrap();
        assert_eq!((entry.action, Value::Object(entry.details)), (Action::Tripped, body));
        let failed = Failure::new(Code::InitializationFailed, "it said so");
        assert_eq!(of_event("plugin:error", &id, &json!({ "error": failed })), None);
        assert_eq!(of_event("plugin:enabled", &id, &json!({})), None);
        assert_eq!(of_event("plugin:error", &id, &json!({})), None);
    }
}
