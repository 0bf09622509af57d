//! Calls between the host application and plugins, and among plugins.

use std::time::Duration;

use bulkhead_ipc_driver::IncomingCall;
use bulkhead_ipc_protocol::{Call, CallError, CallFailure, EndReason, Payload};
use serde_json::Value;
use tokio::time::Instant;

use super::Registry;
use super::permitting::remedy;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Permission;
use crate::nesting::is_too_deep;
use crate::refusal::{Barrier, Refused};
use crate::supervise::audit::{Action, Entry, Outcome};
use crate::supervise::denials::Denials;
use crate::supervise::plugin::{PluginHandle, ProcessView, StartPlan};
use crate::supervise::principal::Principal;

impl Registry {
    /// Calls a method of a plugin for the host application.
    pub(crate) async fn call(&self, id: &PluginId, mut call: Call) -> Result<Payload, Failure> {
        let handle = self.get(id)?;
        let timing = self.metrics.call(&handle.manifest, &call.method);
        let span = self.spans.begin(&handle, &call.method, None, &mut call.trace);
        let answer = self.call_of(&handle, call).await;
        timing.end(&answer);
        span.end(&answer);
        answer
    }

    async fn call_of(&self, handle: &PluginHandle, mut call: Call) -> Result<Payload, Failure> {
        let id = &handle.manifest.id;
        let limit = call.timeout.unwrap_or(handle.manifest.lifecycle.call_timeout.duration());
        let asked = Instant::now();
        let process = handle.up(limit).await.map_err(|state| {
            Failure::new(Code::Conflict, format!("{id} is {state}, so it takes no calls"))
                .with("state", state)
        })?;
        call.timeout = Some(limit.saturating_sub(asked.elapsed()));
        let method = call.method.clone();
        match process.peer.call(call).await {
            Ok(reply) => Ok(reply),
            Err(CallFailure::Ended(end)) => Err(died(id, &method, end, &process).await),
            Err(failure) => Err(explain(handle, &method, limit, failure)),
        }
    }

    /// Calls a service's method for another plugin: the caller must depend on the provider, and
    /// have the permission that the method needs.
    pub(crate) async fn call_between(
        &self,
        caller: &StartPlan,
        mut call: IncomingCall,
    ) -> Result<Payload, Failure> {
        let (provider, permission) = self.provider(caller, &call.method)?;
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timing = self.metrics.call(&provider.manifest, &call.method).within(left);
        let span = self.spans.begin(&provider, &call.method, Some(&caller.id), &mut call.trace);
        let answer = self.call_provided(caller, &provider, permission, call).await;
        timing.end(&answer);
        span.end(&answer);
        answer
    }

    async fn call_provided(
        &self,
        caller: &StartPlan,
        provider: &PluginHandle,
        permission: Option<Permission>,
        call: IncomingCall,
    ) -> Result<Payload, Failure> {
        if let Some(permission) = permission
            && !self.may(&caller.id, &permission)
        {
            self.metrics.refused(&caller.id, "call");
            let remedy = remedy(&caller.manifest, &permission);
            self.audit.refused(not_granted(caller, &call, &permission, &remedy)).await;
            let refused = Refused::by_grant(format!("call {}", call.method), Some(remedy.clone()));
            Denials::refused(self, &caller.id, refused);
            return Err(Failure::new(
                Code::PermissionDenied,
                format!(
                    "{} may not call {}: it needs the permission {permission}, {}; what would \
                     permit it: {remedy}",
                    caller.id,
                    call.method,
                    if caller.manifest.permissions.contains(&permission) {
                        "which it asks for and the operator has withheld"
                    } else {
                        "which it does not ask for"
                    }
                ),
            )
            .with("permission", permission)
            .with("method", call.method)
            .with("layer", Barrier::GRANT)
            .with("remedy", remedy));
        }
        let id = &provider.manifest.id;
        let planned = provider.manifest.lifecycle.call_timeout.duration();
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.unwrap_or(planned).min(planned);
        let asked = Instant::now();
        let process = provider.up(limit).await.map_err(|state| {
            Failure::new(
                Code::DependencyMissing,
                format!("{id}, which provides {}, is {state}", call.method),
            )
            .with("dependency", id)
            .with("required", self.requirement(&caller.id, id))
            .with("found", Value::Null)
            .with("state", state)
        })?;
        let admitted = self.admit_call(provider, &call.method, limit)?;
        let method = call.method;
        let onward = Call {
            method: method.clone(),
            payload: call.payload,
            timeout: Some(limit.saturating_sub(asked.elapsed())),
            trace: call.trace,
            on_behalf_of: call.on_behalf_of,
        };
        let result = process.peer.call(onward).await;
        admitted.end(&result);
        result.map_err(|failure| explain(provider, &method, limit, failure))
    }

    /// Which of the caller's dependencies provides a method, and the permission that it needs.
    fn provider(
        &self,
        caller: &StartPlan,
        method: &str,
    ) -> Result<(PluginHandle, Option<Permission>), Failure> {
        let unknown = |why: String| {
            Failure::new(Code::NotFound, why).with("what", "method").with("name", method)
        };
        let (service, name) = method.split_once('/').ok_or_else(|| {
            unknown(format!("{method:?} is not service/method, as calls to other plugins are"))
        })?;
        for dependency in caller.manifest.dependencies.keys() {
            let Some(handle) = self.find(dependency) else { continue };
            let provided = handle.manifest.provides.iter().find(|(s, _)| s.as_str() == service);
            let Some((_, provided)) = provided else { continue };
            let methods = &provided.methods;
            let Some((_, found)) = methods.iter().find(|(m, _)| m.as_str() == name) else {
                return Err(unknown(format!("{dependency} provides {service}, but no {name}")));
            };
            let permission = found.permission.clone();
            return Ok((handle, permission));
        }
        let absent: Vec<String> = caller
            .manifest
            .dependencies
            .keys()
            .filter(|dependency| self.find(dependency).is_none())
            .map(ToString::to_string)
            .collect();
        let message = if absent.is_empty() {
            format!(
                "no plugin that {} depends on provides {service}; name the provider in plugin.toml, \
                 [dependencies]",
                caller.id
            )
        } else {
            format!(
                "no plugin that {} depends on provides {service}, and of those these are not installed: {}; install them",
                caller.id,
                absent.join(", ")
            )
        };
        Err(Failure::new(Code::DependencyMissing, message)
            .with("dependency", service)
            .with("required", Value::Null)
            .with("found", Value::Null))
    }
}

/// The audit's entry for a call without the permission that it needs.
fn not_granted(
    caller: &StartPlan,
    call: &IncomingCall,
    permission: &Permission,
    remedy: &str,
) -> Entry {
    let principal = Principal::plugin(&caller.id, call.on_behalf_of.clone());
    Entry::new(principal, Action::Denied, Outcome::Failed(Code::PermissionDenied))
        .about(&caller.id)
        .with("method", &call.method)
        .with("permission", permission)
        .with("layer", Barrier::GRANT)
        .with("remedy", remedy)
}

/// A call that its plugin did not survive, as an operator is told. Another plugin hears of no exit.
async fn died(id: &PluginId, method: &str, end: EndReason, process: &ProcessView) -> Failure {
    let Some(exited) = process.exited_soon().await else { return lost(id, method, &end) };
    let exit = &exited.exit.0;
    let explanation = exit.explain();
    let failure = match end {
        // A process that died says nothing more than that its session closed.
        EndReason::Closed | EndReason::Stream(_) => Failure::new(
            Code::PluginDied,
            format!("{id} died while it worked on {method}: {explanation}"),
        )
        .with("method", method),
        end => lost(id, method, &end),
    };
    let failure = failure.with("exit", exit).with("explanation", explanation);
    Barrier::explain_death(exit, failure)
}

fn lost(id: &PluginId, method: &str, end: &EndReason) -> Failure {
    let message = format!("{id} was lost while it worked on {method}: {end}");
    Failure::new(Code::PluginDied, message).with("method", method)
}

/// A call that the plugin answered with an error.
pub(crate) fn refused(id: &PluginId, method: &str, error: CallError) -> Failure {
    // A failure that the plugin only passes on keeps its code; but a plugin's own word is no defect of ours.
    let code = serde_json::from_value(Value::String(error.code.clone()))
        .ok()
        .filter(|code| *code != Code::Internal)
        .unwrap_or(Code::CallFailed);
    let details = error
        .details
        .as_deref()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        // One that is deeper could not be read where it is told.
        .filter(|details| details.is_object() && !is_too_deep(details));
    let failure = Failure {
        code,
        message: format!("{id}: {}", error.message),
        details: details.unwrap_or_else(|| serde_json::json!({})),
    };
    failure.with("plugin", id).with("method", method).with("pluginCode", error.code)
}

/// A call that did not succeed, as its caller is told.
fn explain(handle: &PluginHandle, method: &str, limit: Duration, failure: CallFailure) -> Failure {
    let id = &handle.manifest.id;
    match failure {
        CallFailure::Remote(error) => refused(id, method, error),
        CallFailure::Timeout { .. } => Failure::new(
            Code::Timeout,
            format!("{id} did not answer {method} within {} ms", limit.as_millis()),
        )
        .with("stage", "call")
        .with("budgetMs", limit.as_millis() as u64),
        CallFailure::Exhausted { resource, limit, used } => Failure::new(
            Code::ResourceExhausted,
            format!(
                "too much waits for {id} already ({resource}); try again when it has caught up"
            ),
        )
        .with("resource", resource)
        .with("limit", limit)
        .with("used", used),
        CallFailure::TooLong { part, length, limit } => Failure::new(
            Code::InvalidRequest,
            format!("the {part} has {length} bytes; at most {limit} are allowed"),
        )
        .with("limit", limit)
        .with("used", length),
        CallFailure::Draining => {
            Failure::new(Code::Conflict, format!("{id} is being disabled, so it takes no calls"))
                .with("state", "disabling")
        }
        CallFailure::Ended(end) => lost(id, method, &end),
    }
}
