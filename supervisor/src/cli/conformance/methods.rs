//! The methods that the manifest declares: each is called once with `{}`, which it may refuse, with a
//! code, and must survive.

use hyper::Method;
use serde_json::{Value, json};

use super::checks::{Checks, methods, of_method};
use crate::cli::Ended;
use crate::cli::client::{Ask, Client, encode_segments};
use crate::cli::problem::Problem;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;

/// What no plugin has.
const UNKNOWN: &str = "bulkhead.test/no-such-method";

/// Which process answered for the plugin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Process(Value);

impl Process {
    pub(super) fn of(plugin: &Value) -> Self {
        let process = &plugin["process"];
        Self(json!([process["pid"], process["startedAt"]]))
    }
}

pub(super) async fn check(
    client: &Client,
    manifest: &Manifest,
    process: &Process,
    checks: &mut Checks,
) -> Result<(), Ended> {
    let id = &manifest.id;
    for method in methods(manifest) {
        let found = call(client, id, &method).await;
        checks.note(&of_method(&method), declared(&method, found))?;
    }
    let found = call(client, id, UNKNOWN).await;
    checks.note("unknown method", unknown(found))?;
    let found = steady(client, id, process).await;
    checks.note("steady", found)?;
    Ok(())
}

/// How a call with `{}` ended.
pub(in crate::cli) enum Found {
    Answered(usize),
    /// The plugin's own error.
    Refused(String, Problem),
    Lost(Problem),
}

pub(in crate::cli) async fn call(client: &Client, id: &PluginId, method: &str) -> Found {
    let path = format!("/v1/plugins/{id}/call/{}", encode_segments(method));
    match client.bytes(Ask::new(Method::POST, path).body(&json!({}))).await {
        Ok(reply) => Found::Answered(reply.len()),
        Err(problem) => match problem.details.get("pluginCode").and_then(Value::as_str) {
            Some(code) => Found::Refused(code.to_owned(), problem),
            None => Found::Lost(problem),
        },
    }
}

/// What is asked of a method that the manifest declares.
fn declared(method: &str, found: Found) -> Result<String, Problem> {
    match found {
        Found::Answered(bytes) => Ok(format!("it answers {{}} with {bytes} bytes")),
        Found::Refused(code, mut problem) if code == "METHOD_UNKNOWN" => {
            problem.message =
                format!("plugin.toml declares {method}, and the plugin does not know it");
            Err(problem)
        }
        Found::Refused(code, problem) if code == "PANIC" || code.trim().is_empty() => Err(problem),
        Found::Refused(code, _) => Ok(format!("it refuses {{}} with {code}")),
        Found::Lost(problem) => Err(problem),
    }
}

/// What is asked of any plugin that is called by a method which it does not have.
fn unknown(found: Found) -> Result<String, Problem> {
    match found {
        // Whoever answers everything has no methods that it does not know.
        Found::Answered(_) => Ok("it answers whatever it is asked".to_owned()),
        Found::Refused(code, problem) if code == "PANIC" || code.trim().is_empty() => Err(problem),
        Found::Refused(code, _) => Ok(format!("it refuses one that it does not have with {code}")),
        Found::Lost(problem) => Err(problem),
    }
}

/// That it is still the process that it was. The call before makes sure that whatever the plugin sent
/// until now has been read: a session is a stream.
async fn steady(client: &Client, id: &PluginId, process: &Process) -> Result<String, Problem> {
    if let Found::Lost(problem) = call(client, id, UNKNOWN).await {
        return Err(problem);
    }
    let plugin = client.json(Ask::get(format!("/v1/plugins/{id}"))).await?;
    let state = plugin["state"].as_str().unwrap_or_default();
    if state == "enabled" && Process::of(&plugin) == *process {
        return Ok("the process that was started has answered it all".to_owned());
    }
    let why = plugin["lastExit"]["explanation"].as_str();
    let why = why.or(plugin["lastError"]["message"].as_str()).unwrap_or("see its log");
    let message = match state {
        "enabled" => format!("it died and was started again: {why}"),
        _ => format!("it is {state}: {why}"),
    };
    Err(Failure::new(Code::PluginDied, message).with("state", state).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Found {
        Found::Refused(code.to_owned(), Problem::new(Code::CallFailed, "a: no"))
    }

    #[test]
    fn a_method_may_refuse_with_a_code_and_may_not_panic_or_be_unknown() {
        assert!(declared("s/m", Found::Answered(2)).is_ok());
        assert!(declared("s/m", refused("REQUEST_INVALID")).is_ok());
        for code in ["PANIC", "METHOD_UNKNOWN", " "] {
            assert!(declared("s/m", refused(code)).is_err(), "{code}");
        }
        let lost = || Found::Lost(Problem::new(Code::PluginDied, "gone"));
        assert_eq!(declared("s/m", lost()).unwrap_err().code, "PLUGIN_DIED");
        assert!(unknown(refused("METHOD_UNKNOWN")).is_ok());
        assert!(unknown(lost()).is_err() && unknown(refused("PANIC")).is_err());
    }
}
