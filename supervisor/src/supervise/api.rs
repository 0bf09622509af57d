//! The admin API: HTTP/1.1 and JSON on a Unix socket.
//!
//! Theory of operation. The launcher made the socket and handed us the listener, so nothing can
//! squat its name while no supervisor is there. Each connection is asked once who is behind it
//! (SO_PEERCRED, SO_PEERGROUPS); that decides what its requests may do. Handlers parse, ask the
//! [`Registry`], and render: no decision is made here. Every error is a problem document
//! (RFC 9457) with the stable `code` and its `details`.

mod acting;
mod caller;
mod events;
mod listener;
mod logs;
mod plugins;
mod problem;
mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::registry::Registry;
use crate::failure::{Code, Failure};
use caller::Caller;
use listener::AdminListener;
use problem::Problem;

/// The longest request body: a configuration, or the argument of a call.
const MAX_BODY: usize = 1 << 20;

/// Serves the API on the listener. Must be called inside the runtime.
pub(crate) fn serve(
    listener: OwnedFd,
    registry: Arc<Registry>,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let roles = caller::Roles::new(&registry.settings);
    let listener = AdminListener::new(listener, roles)?;
    let service = router(registry).into_make_service_with_connect_info::<Caller>();
    Ok(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the admin API ends");
        }
    })
}

fn router(registry: Arc<Registry>) -> Router {
    let reading = Router::new()
        .route("/v1/health", get(health))
        .route("/v1/machine", get(machine))
        .route("/v1/events", get(events::stream))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{id}", get(plugins::inspect))
        .route("/v1/plugins/{id}/config", get(plugins::config))
        .route_layer(axum::middleware::from_fn(caller::require_reader));
    // State and logs can hold what only an admin may see.
    let ruling = Router::new()
        .route("/v1/plugins", post(plugins::install))
        .route("/v1/plugins/{id}", delete(plugins::uninstall))
        .route("/v1/plugins/{id}/enable", post(plugins::enable))
        .route("/v1/plugins/{id}/disable", post(plugins::disable))
        .route("/v1/plugins/{id}/call/{*method}", post(plugins::call))
        .route("/v1/plugins/{id}/state", get(plugins::state))
        .route("/v1/plugins/{id}/logs", get(logs::read))
        .route_layer(axum::middleware::from_fn(caller::require_admin));
    reading
        .merge(ruling)
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::map_response(problem::coded))
        .with_state(registry)
}

async fn health(State(registry): State<Arc<Registry>>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "plugins": registry.all().len() + registry.all_broken().len(),
    }))
}

async fn machine(State(registry): State<Arc<Registry>>) -> Json<Value> {
    Json(registry.settings.machine.clone())
}

async fn unknown_path(uri: Uri) -> Problem {
    Failure::new(Code::NotFound, format!("this API has no {}", uri.path()))
        .with("what", "path")
        .with("name", uri.path())
        .into()
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{} cannot be asked for with {method}", uri.path());
    Failure::new(Code::InvalidRequest, message).with("method", method.as_str()).into()
}
