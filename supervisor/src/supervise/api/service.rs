//! Requests about the service itself.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::openapi;
use super::request::Server;

/// The service answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
    /// The version of the supervisor that answers.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The supervisor's process; another one after its restart.
    pid: u32,
    /// How many plugins are installed.
    plugins: usize,
}

/// Is the service there?
#[utoipa::path(get, path = "/v1/health", operation_id = "health", tag = "service",
    responses((status = 200, description = "It is.", body = Health)))]
pub(super) async fn health(State(registry): Server) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        plugins: registry.all().len() + registry.all_broken().len(),
    })
}

/// What this machine enforces, and what it lacks
///
/// As `bulkhead doctor --json` shows it. `supervisor` is the compartment that the supervisor has made around
/// itself, as it was measured.
#[utoipa::path(get, path = "/v1/machine", operation_id = "machine", tag = "service",
    responses((status = 200, description = "The layers, each with its state.", body = Object)))]
pub(super) async fn machine(State(registry): Server) -> Json<Value> {
    Json(registry.settings.machine.clone())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(super) async fn document() -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], openapi::text())
}
