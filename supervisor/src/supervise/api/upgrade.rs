//! Another version of an installed plugin, and the way back.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::acting::Acting;
use super::install::{InstallBody, InstalledPlugin, PackageForm};
use super::problem::Problem;
use super::request::{Server, id};
use super::upload::Upload;
use super::view::Plugin;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::registry::{Installed, Source};

/// Replace a plugin by another version of it
///
/// One that is enabled is drained and stopped, the new version is started on the same state and data,
/// and has to come up, pass its health check and stay up for the manifest's probation. If it does not,
/// the state is put back and the version before is started again. The same content again is answered
/// alike.
#[utoipa::path(post, path = "/v1/plugins/{id}/upgrade", operation_id = "upgradePlugin",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    request_body(content((InstallBody = "application/json"),
        (PackageForm = "multipart/form-data"))),
    responses((status = 200, body = InstalledPlugin,
        description = "It is the new version; after a dry run only what was found.")),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "ALREADY_EXISTS",
        "MANIFEST_INVALID", "CONFIG_INVALID", "ENTRY_INVALID", "VERSION_INCOMPATIBLE",
        "DEPENDENCY_MISSING", "DEPENDENCY_CYCLE", "INTEGRITY_FAILED", "SIGNATURE_INVALID",
        "PACKAGE_INVALID", "VULNERABLE_DEPENDENCY", "EXPOSURE_TOO_HIGH", "CONSENT_REQUIRED", "RESOURCE_EXHAUSTED", "INITIALIZATION_FAILED", "PROTOCOL_VIOLATION", "SANDBOX_UNAVAILABLE",
        "SANDBOX_FAILED", "TIMEOUT", "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn upgrade(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    Upload { source, options, place }: Upload,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let operation = Operation::new(principal, Action::Upgrade)
        .about(&id)
        .with("allowDowngrade", options.allow_downgrade);
    let operation = match &source {
        Source::Directory(directory) => operation.with("directory", directory),
        Source::Package { name, .. } => operation.with("package", name),
    };
    let Installed { plugin, review } = operation
        .run(&registry, move |registry, principal| async move {
            let upgraded = registry.upgrade(&id, source, &options, &principal).await;
            drop(place);
            upgraded
        })
        .await?;
    let Some(handle) = plugin else { return Ok(Json(review).into_response()) };
    let plugin = Plugin::new(&handle, &registry);
    Ok(Json(InstalledPlugin { plugin, review }).into_response())
}

/// Return to the version before
///
/// The same as an upgrade, backwards, with the state as it is now. The version that is left is then
/// the one before, so a second rollback undoes the first.
#[utoipa::path(post, path = "/v1/plugins/{id}/rollback", operation_id = "rollbackPlugin",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "It is the version before.", body = Plugin)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT", "MANIFEST_INVALID",
        "CONFIG_INVALID", "ENTRY_INVALID", "VERSION_INCOMPATIBLE", "DEPENDENCY_MISSING",
        "DEPENDENCY_CYCLE", "INTEGRITY_FAILED", "SIGNATURE_INVALID", "RESOURCE_EXHAUSTED",
        "INITIALIZATION_FAILED", "PROTOCOL_VIOLATION", "SANDBOX_UNAVAILABLE", "SANDBOX_FAILED",
        "TIMEOUT", "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn rollback(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
) -> Result<Json<Plugin>, Problem> {
    let id = id(&text)?;
    let handle = Operation::new(principal, Action::Rollback)
        .about(&id)
        .run(&registry, move |registry, principal| async move {
            registry.rollback(&id, &principal).await
        })
        .await?;
    Ok(Json(Plugin::new(&handle, &registry)))
}
