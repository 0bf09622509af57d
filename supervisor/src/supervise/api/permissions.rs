//! What a plugin is permitted.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id, json};
use crate::manifest::Permission;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::registry::Permissions;

/// Show what a plugin is permitted
#[utoipa::path(get, path = "/v1/plugins/{id}/permissions", operation_id = "getPermissions",
    tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "What it asks for, and what of that it may do.",
        body = Permissions)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND"]))))]
pub(super) async fn show(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Permissions>, Problem> {
    Ok(Json(registry.permissions(&id(&text)?)?))
}

/// What a plugin is to be permitted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PermissionsRequest)]
pub(super) struct PermitBody {
    /// All of it: what is not listed is withheld. Only what the manifest asks for can be granted.
    #[schema(value_type = Vec<String>)]
    granted: Vec<Permission>,
    /// What it is permitted now, as the caller has seen it: where that is not so any more, nothing is
    /// changed.
    #[schema(value_type = Option<Vec<String>>)]
    expected: Option<Vec<Permission>>,
}

/// Change what a plugin is permitted
///
/// In force with its next call and the next event; it is not restarted.
#[utoipa::path(put, path = "/v1/plugins/{id}/permissions", operation_id = "setPermissions",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    request_body = PermitBody,
    responses((status = 200, description = "It is in force.", body = Permissions)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "STORAGE_FAILED",
        "SHUTTING_DOWN"]))))]
pub(super) async fn replace(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Permissions>, Problem> {
    let id = id(&text)?;
    let PermitBody { granted, expected } = json(&bytes, "the request's body")?;
    let plugin = id.clone();
    let before = registry.permissions(&id).map(|before| before.granted).unwrap_or_default();
    let changed = |one: &[Permission], other: &[Permission]| -> Vec<Permission> {
        one.iter().filter(|permission| !other.contains(permission)).cloned().collect()
    };
    let permitted = Operation::new(principal, Action::SetPermissions)
        .about(&id)
        .with("granted", &granted)
        .with("added", changed(&granted, &before))
        .with("removed", changed(&before, &granted))
        .run(
            &registry,
            |registry, _| async move { registry.permit(&plugin, granted, expected).await },
        )
        .await?;
    Ok(Json(permitted))
}
