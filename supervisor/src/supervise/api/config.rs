//! A plugin's configuration.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id, json};
use crate::id::PluginId;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::plugin::Applied;

/// Show a plugin's configuration
///
/// What the operator gave, without the manifest's defaults. In the place of a secret stands
/// `<redacted>`; given back, it stands for the secret that is there.
#[utoipa::path(get, path = "/v1/plugins/{id}/config", operation_id = "getConfig", tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "The operator's configuration.", body = Object)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND"]))))]
pub(super) async fn show(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let handle = registry.get(&id(&text)?)?;
    Ok(Json(handle.manifest.config.redacted(&handle.view().config)))
}

/// How to configure.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConfigureQuery {
    /// Restart a plugin that runs and does not take a configuration while it does.
    #[serde(default)]
    restart: bool,
}

/// The configuration is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct Configuration {
    #[schema(value_type = String)]
    id: PluginId,
    applied: Applied,
}

/// Replace a plugin's configuration
///
/// The body is the operator's whole configuration; the manifest's defaults lie under it. A plugin
/// that runs is asked: it takes it, or asks for a restart, or refuses it, and then nothing changes.
#[utoipa::path(put, path = "/v1/plugins/{id}/config", operation_id = "setConfig",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin"), ConfigureQuery),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "It is kept.", body = Configuration)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "CONFIG_INVALID",
        "CALL_FAILED", "PLUGIN_DIED", "PROTOCOL_VIOLATION", "INITIALIZATION_FAILED", "TIMEOUT",
        "DEPENDENTS_ENABLED", "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn replace(
    State(registry): Server,
    Path(text): Path<String>,
    Query(query): Query<ConfigureQuery>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Configuration>, Problem> {
    let id = id(&text)?;
    let config: Value = json(&bytes, "the request's body")?;
    let plugin = id.clone();
    let applied = Operation::new(principal, Action::Configure)
        .about(&id)
        .with("restart", query.restart)
        .run(&registry, move |registry, _| async move {
            registry.configure(&plugin, config, query.restart).await
        })
        .await?;
    Ok(Json(Configuration { id, applied }))
}
