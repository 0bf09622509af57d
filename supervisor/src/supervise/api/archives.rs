//! What uninstalled plugins have left behind.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::acting::Acting;
use super::problem::Problem;
use super::request::Server;
use crate::failure::{Code, Failure};
use crate::supervise::archives::{ArchiveName, BadArchiveName, Listed};
use crate::supervise::audit::{Action, Operation};

/// The archives that there are.
#[derive(Serialize, ToSchema)]
pub(super) struct ArchiveList {
    /// In the order of their names.
    archives: Vec<Listed>,
    /// What all take together.
    bytes: u64,
    /// What they may take.
    limit: u64,
}

/// List the archives
#[utoipa::path(get, path = "/v1/archives", operation_id = "listArchives", tag = "archives",
    responses((status = 200, description = "All that there are.", body = ArchiveList)),
    extensions(("x-codes" = json!(["STORAGE_FAILED"]))))]
pub(super) async fn list(State(registry): Server) -> Result<Json<ArchiveList>, Problem> {
    let (archives, limit) = registry.list_archives().await?;
    let bytes = archives.iter().map(|archive| archive.bytes).sum();
    Ok(Json(ArchiveList { archives, bytes, limit }))
}

/// An archive that was removed.
#[derive(Serialize, ToSchema)]
#[schema(as = RemovedArchive)]
pub(super) struct Removed {
    #[schema(value_type = String)]
    name: ArchiveName,
}

/// Remove an archive
#[utoipa::path(delete, path = "/v1/archives/{name}", operation_id = "removeArchive",
    tag = "archives", params(("name" = String, Path, description = "The archive")),
    responses((status = 200, description = "It is gone.", body = Removed)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn remove(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
) -> Result<Json<Removed>, Problem> {
    let name: ArchiveName = text.parse().map_err(|error: BadArchiveName| {
        Failure::new(Code::InvalidRequest, error.to_string()).with("name", text)
    })?;
    let named = name.clone();
    Operation::new(principal, Action::RemoveArchive)
        .with("archive", &name)
        .run(&registry, move |registry, _| async move { registry.remove_archive(&named) })
        .await?;
    Ok(Json(Removed { name }))
}
