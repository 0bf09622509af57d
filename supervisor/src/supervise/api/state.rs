//! What a plugin keeps.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use super::request::{Server, id};

/// The saved state of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct SavedState {
    /// In the order of their keys.
    entries: Vec<StateEntry>,
}

/// One entry of it.
#[derive(Serialize, ToSchema)]
pub(super) struct StateEntry {
    key: String,
    /// Grows by one with every change, from 1.
    version: u64,
    /// How long the value is.
    bytes: u64,
    /// Any JSON; null where it is not JSON.
    value: Value,
}

/// Show what a plugin keeps
#[utoipa::path(get, path = "/v1/plugins/{id}/state", operation_id = "getState", tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "All entries.", body = SavedState)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn show(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<SavedState>, Problem> {
    let id = id(&text)?;
    registry.get(&id)?;
    let mut entries = Vec::new();
    for (key, version, bytes) in registry.store.list_state(id.clone(), String::new()).await? {
        let entry = registry.store.state(id.clone(), key.clone()).await?;
        let value = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        entries.push(StateEntry { key, version, bytes, value: value.unwrap_or_default() });
    }
    Ok(Json(SavedState { entries }))
}
