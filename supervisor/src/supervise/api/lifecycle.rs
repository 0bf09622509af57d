//! Enabling and disabling.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, body, id};
use super::view::Plugin;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::MAX_STOP;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::plugin::StopReport;
use crate::supervise::registry::DisableRequest;

/// How to enable.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EnableRequest)]
pub(super) struct EnableBody {
    /// The operator's configuration, which replaces the one before; the manifest's defaults lie
    /// under it. Without it the plugin keeps what it has.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// The plugin is up.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enabled {
    #[schema(value_type = String)]
    id: PluginId,
    #[schema(value_type = String)]
    version: Version,
    #[schema(schema_with = super::view::states)]
    state: &'static str,
    /// From the request to a plugin that is ready; 0 if it was enabled already.
    started_in_ms: f64,
    plugin: Plugin,
}

/// Start a plugin, those that it depends on first
///
/// Answered when it is ready: configuration checked, handshake, `init`, health.
#[utoipa::path(post, path = "/v1/plugins/{id}/enable", operation_id = "enablePlugin",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    request_body = Option<EnableBody>,
    responses((status = 200, description = "It is enabled.", body = Enabled)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "CONFIG_INVALID",
        "DEPENDENCY_MISSING", "DEPENDENCY_CYCLE", "VERSION_INCOMPATIBLE", "INTEGRITY_FAILED",
        "SIGNATURE_INVALID", "ENTRY_INVALID", "RESOURCE_EXHAUSTED", "EXPOSURE_TOO_HIGH", "INITIALIZATION_FAILED",
        "PROTOCOL_VIOLATION", "SANDBOX_UNAVAILABLE", "SANDBOX_FAILED", "TIMEOUT",
        "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn enable(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Enabled>, Problem> {
    let id = id(&text)?;
    let EnableBody { config } = body(&bytes)?;
    let (plugin, configured) = (id.clone(), config.is_some());
    let report = Operation::new(principal, Action::Enable)
        .about(&id)
        .with("configured", configured)
        .run(&registry, |registry, principal| async move {
            registry.enable(&plugin, config, &principal).await
        })
        .await?;
    let handle = registry.get(&id)?;
    Ok(Json(Enabled {
        id,
        version: handle.manifest.version.clone(),
        state: handle.view().state,
        started_in_ms: report.started_in.as_secs_f64() * 1e3,
        plugin: Plugin::new(&handle, &registry),
    }))
}

/// How to disable.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = DisableRequest)]
pub(super) struct DisableBody {
    /// Whether it is asked to save its state; true if not given.
    save_state: Option<bool>,
    /// The whole budget in milliseconds: at its end nothing of the plugin runs. The manifest's, or
    /// else the service's, if not given.
    #[schema(maximum = 3_600_000, example = 5000)]
    timeout: Option<u64>,
}

/// The plugin is stopped.
#[derive(Serialize, ToSchema)]
pub(super) struct Disabled {
    #[schema(value_type = String)]
    id: PluginId,
    #[schema(schema_with = super::view::states)]
    state: &'static str,
    #[serde(flatten)]
    report: StopReport,
}

/// Stop a plugin within its budget
///
/// Drain, saved state, SIGTERM, SIGKILL to all its processes. Refused while others that are enabled
/// depend on it. What enables, upgrades or rolls it back meanwhile is undone.
#[utoipa::path(post, path = "/v1/plugins/{id}/disable", operation_id = "disablePlugin",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    request_body = Option<DisableBody>,
    responses((status = 200, description = "Nothing of it runs.", body = Disabled)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT",
        "DEPENDENTS_ENABLED", "TIMEOUT", "STORAGE_FAILED"]))))]
pub(super) async fn disable(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Disabled>, Problem> {
    let id = id(&text)?;
    let DisableBody { save_state, timeout } = body(&bytes)?;
    let most = MAX_STOP.millis();
    if let Some(timeout) = timeout.filter(|timeout| *timeout > most) {
        let message = format!("timeout: {timeout} ms is more than the {most} of an hour");
        return Err(Failure::new(Code::InvalidRequest, message)
            .with("limit", most)
            .with("used", timeout)
            .into());
    }
    let request = DisableRequest {
        save_state: save_state.unwrap_or(true),
        timeout: timeout.map(Duration::from_millis),
        reason: "disable",
    };
    let plugin = id.clone();
    let report = Operation::new(principal, Action::Disable)
        .about(&id)
        .with("saveState", request.save_state)
        .with("timeoutMs", timeout)
        .run(&registry, |registry, _| async move { registry.disable(&plugin, request).await })
        .await?;
    let state = registry.get(&id)?.view().state;
    Ok(Json(Disabled { id, state, report }))
}
