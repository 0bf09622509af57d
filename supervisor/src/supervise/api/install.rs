//! Installing and uninstalling.

use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id};
use super::upload::Upload;
use super::view::Plugin;
use crate::id::PluginId;
use crate::supervise::archives::ArchiveName;
use crate::supervise::audit::{Action, Operation, Subject};
use crate::supervise::registry::{InstallOptions, Installed, Review, Source};

/// What to install, and what the client wants to be held against it.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InstallRequest)]
pub(super) struct InstallBody {
    /// The absolute path of a directory with `plugin.toml` and the binary. Only where the service's
    /// configuration has `allow_directories`: nobody has signed it.
    #[schema(value_type = Option<String>, example = "/srv/plugins/appointment-scheduler")]
    pub(super) directory: Option<PathBuf>,
    #[serde(flatten)]
    pub(super) options: InstallOptions,
}

/// A package, as a form.
#[derive(ToSchema)]
#[schema(as = PackageUpload)]
#[expect(dead_code, reason = "it is a description; the form is read part by part")]
pub(super) struct PackageForm {
    /// The package. Its file name, where it has one, must be `<id>-<version>.plugin`.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    package: (),
    /// The text of its minisign signature.
    signature: String,
    /// As the other form of the request has them, without the directory.
    options: Option<InstallOptions>,
}

/// A plugin that was installed, and what was found about it.
#[derive(Serialize, ToSchema)]
#[schema(as = InstalledPlugin)]
pub(super) struct InstalledPlugin {
    #[serde(flatten)]
    pub(super) plugin: Plugin,
    pub(super) review: Review,
}

/// Install a plugin
///
/// Afterwards it is disabled. The same content again is already installed, and answered alike. With
/// `dryRun` nothing is installed, and what was found is answered.
#[utoipa::path(post, path = "/v1/plugins", operation_id = "installPlugin", tag = "lifecycle",
    request_body(content((InstallBody = "application/json"),
        (PackageForm = "multipart/form-data"))),
    responses((status = 200, description = "A dry run: what was found.", body = Review),
        (status = 201, description = "It is installed.", body = InstalledPlugin)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "ALREADY_EXISTS", "CONFLICT",
        "SIGNATURE_INVALID", "PACKAGE_INVALID", "INTEGRITY_FAILED", "TIMEOUT", "MANIFEST_INVALID",
        "ENTRY_INVALID", "VERSION_INCOMPATIBLE", "DEPENDENCY_MISSING", "VULNERABLE_DEPENDENCY", "EXPOSURE_TOO_HIGH",
        "CONSENT_REQUIRED", "CONFIG_INVALID", "RESOURCE_EXHAUSTED",
        "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn install(
    State(registry): Server,
    Acting(principal): Acting,
    Upload { source, options, place }: Upload,
) -> Result<Response, Problem> {
    let operation = Operation::new(principal, Action::Install);
    let operation = match &source {
        Source::Directory(directory) => operation.with("directory", directory),
        Source::Package { name, .. } => operation.with("package", name),
    };
    let Installed { plugin, review } = operation
        .run_about(
            &registry,
            |registry, principal| async move {
                let installed = registry.install(source, &options, &principal).await;
                drop(place);
                installed
            },
            |installed: &Installed| installed.plugin.as_ref().map(Subject::of),
        )
        .await?;
    let Some(handle) = plugin else { return Ok(Json(review).into_response()) };
    let plugin = Plugin::new(&handle, &registry);
    Ok((StatusCode::CREATED, Json(InstalledPlugin { plugin, review })).into_response())
}

/// How to uninstall.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct UninstallQuery {
    /// Keep its data in an archive.
    #[serde(default)]
    preserve_data: bool,
    /// Go on past a plugin that does not stop, and past others that need it.
    #[serde(default)]
    force: bool,
}

/// What was uninstalled.
#[derive(Serialize, ToSchema)]
pub(super) struct Uninstalled {
    #[schema(value_type = String)]
    id: PluginId,
    /// What was preserved, if that was asked for.
    #[schema(value_type = Option<String>)]
    archive: Option<ArchiveName>,
}

/// Remove a plugin and all that it had
///
/// A plugin that is enabled is disabled first.
#[utoipa::path(delete, path = "/v1/plugins/{id}", operation_id = "uninstallPlugin",
    tag = "lifecycle",
    params(("id" = String, Path, description = "The plugin"), UninstallQuery),
    responses((status = 200, description = "Nothing of it is left.", body = Uninstalled)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT",
        "DEPENDENTS_ENABLED", "TIMEOUT", "RESOURCE_EXHAUSTED", "STORAGE_FAILED", "SHUTTING_DOWN"]))))]
pub(super) async fn uninstall(
    State(registry): Server,
    Path(text): Path<String>,
    Query(query): Query<UninstallQuery>,
    Acting(principal): Acting,
) -> Result<Json<Uninstalled>, Problem> {
    let id = id(&text)?;
    let plugin = id.clone();
    let archive = Operation::new(principal, Action::Uninstall)
        .about(&id)
        .with("force", query.force)
        .with("preserveData", query.preserve_data)
        .run(&registry, move |registry, principal| async move {
            registry.uninstall(&plugin, query.preserve_data, query.force, &principal).await
        })
        .await?;
    Ok(Json(Uninstalled { id, archive }))
}
