//! What a plugin keeps.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Server, at_most, id};
use crate::supervise::store::{Page, Part};

/// How many entries a client gets at the most, whatever it says.
const MAX_ENTRIES: usize = 1000;
/// How many bytes they take together at the most, unless it is one.
const MAX_BYTES: usize = 4 << 20;

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StateQuery {
    /// The last key that the client has; none for the first part.
    #[serde(default)]
    after: String,
    /// How many at the most; 1000 if not given.
    #[param(maximum = 1000)]
    limit: Option<usize>,
}

/// The saved state of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct SavedState {
    /// In the order of their keys.
    entries: Vec<StateEntry>,
    /// `after` for the entries after these; null if there are none.
    next: Option<String>,
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
///
/// At most 1000 entries and 4 MiB of keys and values at a time: `next` says where to go on.
#[utoipa::path(get, path = "/v1/plugins/{id}/state", operation_id = "getState", tag = "plugins",
    params(("id" = String, Path, description = "The plugin"), StateQuery),
    responses((status = 200, description = "The entries.", body = SavedState)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn show(
    State(registry): Server,
    Path(text): Path<String>,
    Query(StateQuery { after, limit }): Query<StateQuery>,
) -> Result<Json<SavedState>, Problem> {
    let id = id(&text)?;
    registry.get(&id)?;
    let limit = at_most(limit.unwrap_or(MAX_ENTRIES), MAX_ENTRIES)?;
    let part = Part { prefix: String::new(), after, limit, bytes: MAX_BYTES };
    let Page { items, more } = registry.store.state_part(id, part).await?;
    let next = items.last().filter(|_| more).map(|(key, _)| key.clone());
    let entries = items.into_iter().map(|(key, entry)| StateEntry {
        key,
        version: entry.version,
        bytes: entry.value.len() as u64,
        value: serde_json::from_slice(&entry.value).unwrap_or_default(),
    });
    Ok(Json(SavedState { entries: entries.collect(), next }))
}
