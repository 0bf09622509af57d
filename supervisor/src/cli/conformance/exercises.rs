//! What the manifest declares that can be tried: each method is called once with `{}`, and each schedule
//! is run once. The plugin may refuse, with a code, and must survive.

use std::fmt;

use hyper::Method;
use serde_json::{Value, json};

use super::checks::Checks;
use crate::cli::Ended;
use crate::cli::client::{Ask, Client, encode_segments};
use crate::cli::problem::Problem;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;

/// Which process answered for the plugin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Process(Value);

impl Process {
    pub(super) fn of(plugin: &Value) -> Self {
        let process = &plugin["process"];
        Self(json!([process["pid"], process["startedAt"]]))
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Exercise {
    /// With its service: `appointments/book`.
    Method(String),
    /// By its name.
    Schedule(String),
}

impl Exercise {
    /// All that the manifest declares.
    pub(in crate::cli) fn all(manifest: &Manifest) -> impl Iterator<Item = Self> {
        let methods = manifest.provides.iter().flat_map(|(service, provided)| {
            let methods = provided.methods.keys();
            methods.map(move |method| Self::Method(format!("{service}/{method}")))
        });
        let schedules = manifest.schedule.iter();
        methods.chain(schedules.map(|schedule| Self::Schedule(schedule.name().to_owned())))
    }

    /// A method that no plugin has.
    fn unknown() -> Self {
        Self::Method("bulkhead.test/no-such-method".to_owned())
    }

    pub(in crate::cli) async fn of(&self, client: &Client, id: &PluginId) -> Found {
        let plugin = format!("/v1/plugins/{id}");
        let ask = match self {
            Self::Method(method) => {
                Ask::new(Method::POST, format!("{plugin}/call/{}", encode_segments(method)))
                    .body(&json!({}))
            }
            Self::Schedule(name) => {
                Ask::new(Method::POST, format!("{plugin}/schedules/{}/run", encode_segments(name)))
            }
        };
        match client.bytes(ask).await {
            Ok(_) => Found::Answered,
            Err(problem) => match problem.details.get("pluginCode").and_then(Value::as_str) {
                Some(code) => Found::Refused(code.to_owned(), problem),
                None => Found::Lost(problem),
            },
        }
    }

    /// In a sentence: how it was well.
    pub(in crate::cli) fn answered(&self) -> String {
        match self {
            Self::Method(_) => "it answers {}".to_owned(),
            Self::Schedule(_) => "it runs".to_owned(),
        }
    }

    /// In a sentence: how it was refused.
    pub(in crate::cli) fn refused(&self, code: &str) -> String {
        match self {
            Self::Method(_) => format!("it refuses {{}} with {code}"),
            Self::Schedule(_) => format!("it refuses to run with {code}"),
        }
    }
}

/// As its check is called.
impl fmt::Display for Exercise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "method {method}"),
            Self::Schedule(name) => write!(f, "schedule {name}"),
        }
    }
}

pub(super) async fn check(
    client: &Client,
    manifest: &Manifest,
    process: &Process,
    checks: &mut Checks,
) -> Result<(), Ended> {
    let id = &manifest.id;
    for exercise in Exercise::all(manifest) {
        let found = exercise.of(client, id).await;
        checks.note(&exercise.to_string(), declared(&exercise, found))?;
    }
    let found = Exercise::unknown().of(client, id).await;
    checks.note("unknown method", unknown(found))?;
    let found = steady(client, id, process).await;
    checks.note("steady", found)?;
    Ok(())
}

/// How one ended.
pub(in crate::cli) enum Found {
    Answered,
    /// The plugin's own error.
    Refused(String, Problem),
    Lost(Problem),
}

/// What is asked of what the manifest declares.
fn declared(exercise: &Exercise, found: Found) -> Result<String, Problem> {
    match found {
        Found::Answered => Ok(exercise.answered()),
        Found::Refused(code, mut problem) if code == "METHOD_UNKNOWN" => {
            problem.message = match exercise {
                Exercise::Method(method) => {
                    format!("plugin.toml declares {method}, and the plugin does not know it")
                }
                Exercise::Schedule(name) => {
                    format!("the plugin does not know the method of the schedule {name}")
                }
            };
            Err(problem)
        }
        Found::Refused(code, problem) if code == "PANIC" || code.trim().is_empty() => Err(problem),
        Found::Refused(code, _) => Ok(exercise.refused(&code)),
        Found::Lost(problem) => Err(problem),
    }
}

/// What is asked of any plugin that is called by a method which it does not have.
fn unknown(found: Found) -> Result<String, Problem> {
    match found {
        // Whoever answers everything has no methods that it does not know.
        Found::Answered => Ok("it answers whatever it is asked".to_owned()),
        Found::Refused(code, problem) if code == "PANIC" || code.trim().is_empty() => Err(problem),
        Found::Refused(code, _) => Ok(format!("it refuses one that it does not have with {code}")),
        Found::Lost(problem) => Err(problem),
    }
}

/// That it is still the process that it was. The call before makes sure that whatever the plugin sent
/// until now has been read: a session is a stream.
async fn steady(client: &Client, id: &PluginId, process: &Process) -> Result<String, Problem> {
    if let Found::Lost(problem) = Exercise::unknown().of(client, id).await {
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
    fn what_is_declared_may_refuse_with_a_code_and_may_not_panic_or_be_unknown() {
        let lost = || Found::Lost(Problem::new(Code::PluginDied, "gone"));
        for exercise in [Exercise::Method("s/m".to_owned()), Exercise::Schedule("n".to_owned())] {
            assert!(declared(&exercise, Found::Answered).is_ok());
            assert!(declared(&exercise, refused("REQUEST_INVALID")).is_ok());
            for code in ["PANIC", "METHOD_UNKNOWN", " "] {
                assert!(declared(&exercise, refused(code)).is_err(), "{exercise} {code}");
            }
            assert_eq!(declared(&exercise, lost()).unwrap_err().code, "PLUGIN_DIED");
        }
        assert!(unknown(refused("METHOD_UNKNOWN")).is_ok());
        assert!(unknown(lost()).is_err() && unknown(refused("PANIC")).is_err());
    }
}
