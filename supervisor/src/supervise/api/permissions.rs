//! What a plugin is permitted.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id, json};
use crate::manifest::{HostPath, Permission};
use crate::supervise::audit::{Action, Operation};
use crate::supervise::plugin::{Wanted, without};
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
    /// Absent: as it is.
    #[schema(value_type = Option<Vec<String>>)]
    granted: Option<Vec<Permission>>,
    /// What it is permitted now, as the caller has seen it: where that is not so any more, nothing is
    /// changed.
    #[schema(value_type = Option<Vec<String>>)]
    expected: Option<Vec<Permission>>,
    /// All places of the machine that it is to have, from its next start on. Absent: as it is.
    #[schema(value_type = Option<Vec<String>>)]
    places: Option<Vec<HostPath>>,
    /// As `expected`, of the places.
    #[serde(rename = "expectedPlaces")]
    #[schema(value_type = Option<Vec<String>>)]
    expected_places: Option<Vec<HostPath>>,
}

/// Change what a plugin is permitted
///
/// A permission is in force with its next call and the next event; it is not restarted. A place of
/// the machine is mounted at its next start.
#[utoipa::path(put, path = "/v1/plugins/{id}/permissions", operation_id = "setPermissions",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    request_body = PermitBody,
    responses((status = 200, description = "It is granted.", body = Permissions)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "STORAGE_FAILED",
        "SHUTTING_DOWN"]))))]
pub(super) async fn replace(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Permissions>, Problem> {
    let id = id(&text)?;
    let PermitBody { granted, expected, places, expected_places } =
        json(&bytes, "the request's body")?;
    let plugin = id.clone();
    let before = registry.permissions(&id).ok();
    let mut operation = Operation::new(principal, Action::SetPermissions).about(&id);
    if let Some(granted) = &granted {
        let before = before.as_ref().map(|before| before.granted.as_slice()).unwrap_or_default();
        operation = operation
            .with("granted", granted)
            .with("added", without(granted, before))
            .with("removed", without(before, granted));
    }
    if let Some(places) = &places {
        let before = before.iter().flat_map(|before| &before.places).filter(|place| place.granted);
        let before: Vec<_> = before.map(|place| place.path.clone()).collect();
        operation = operation
            .with("places", places)
            .with("addedPlaces", without(places, &before))
            .with("removedPlaces", without(&before, places));
    }
    let permissions = granted.map(|granted| Wanted { granted, expected });
    let places = places.map(|granted| Wanted { granted, expected: expected_places });
    let permitted = operation
        .run(
            &registry,
            |registry, _| async move { registry.permit(&plugin, permissions, places).await },
        )
        .await?;
    Ok(Json(permitted))
}
