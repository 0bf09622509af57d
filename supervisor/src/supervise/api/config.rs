//! A plugin's configuration.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;

use super::problem::Problem;
use super::request::{Server, id};

/// Show a plugin's configuration
///
/// What the operator gave, without the manifest's defaults.
#[utoipa::path(get, path = "/v1/plugins/{id}/config", operation_id = "getConfig", tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "The operator's configuration.", body = Object)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND"]))))]
pub(super) async fn show(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(registry.get(&id(&text)?)?.view().config))
}
