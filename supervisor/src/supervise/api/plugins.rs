//! What there is: the list of plugins, and one of them.

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::{Caller, Shown};
use super::problem::Problem;
use super::request::{Server, id};
use super::view::{BrokenPlugin, Listed, Plugin};

/// The plugins that are installed.
#[derive(Serialize, ToSchema)]
pub(super) struct PluginList {
    /// In the order of their ids.
    plugins: Vec<Listed>,
}

/// List the plugins
#[utoipa::path(get, path = "/v1/plugins", operation_id = "listPlugins", tag = "plugins",
    responses((status = 200, description = "All that are installed.", body = PluginList)))]
pub(super) async fn list(
    State(registry): Server,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Json<Shown<PluginList>> {
    let managed = registry.all();
    let managed = managed.iter().map(|handle| Plugin::new(handle, &registry).into());
    let broken = registry.all_broken();
    let broken = broken.iter().map(|broken| BrokenPlugin::new(broken).into());
    let mut plugins: Vec<Listed> = managed.chain(broken).collect();
    plugins.sort_by(|one, other| one.id().cmp(other.id()));
    Json(caller.role.shown(PluginList { plugins }))
}

/// Show a plugin
#[utoipa::path(get, path = "/v1/plugins/{id}", operation_id = "inspectPlugin", tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "All that is known of it.", body = Listed)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND"]))))]
pub(super) async fn inspect(
    State(registry): Server,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(text): Path<String>,
) -> Result<Json<Shown<Listed>>, Problem> {
    let id = id(&text)?;
    let found: Listed = match registry.find_broken(&id) {
        Some(broken) => BrokenPlugin::new(&broken).into(),
        None => Plugin::measured(&registry.get(&id)?, &registry).await.into(),
    };
    Ok(Json(caller.role.shown(found)))
}
