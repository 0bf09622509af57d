//! The admin API: HTTP/1.1 and JSON on a Unix socket.
//!
//! Theory of operation. The launcher made the socket and handed us the listener, so nothing can
//! squat its name while no supervisor is there. Each connection is asked once who is behind it
//! (SO_PEERCRED, SO_PEERGROUPS); that decides what its requests may do. Handlers parse, ask the
//! [`Registry`], and render: no decision is made here. Every error is a problem document
//! (RFC 9457) with the stable `code` and its `details`. The table of routes is here; what each takes
//! and gives are types of its own file, from which the API's OpenAPI document is made.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

mod acting;
mod archives;
mod audit;
mod call;
mod caller;
mod config;
mod connection;
mod events;
mod install;
mod lifecycle;
mod listener;
mod logs;
mod metrics;
mod openapi;
mod permissions;
mod plugins;
mod problem;
mod publish;
mod request;
mod route;
mod schedules;
mod service;
mod state;
mod upgrade;
mod upload;
mod usage;
mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};

use super::registry::Registry;
use crate::failure::{Code, Failure};
use listener::AdminListener;
pub(crate) use logs::SEQUENCE as LOG_SEQUENCE;
use problem::Problem;
use route::Route;

/// The longest request body: a configuration, or the argument of a call.
const MAX_BODY: usize = 1 << 20;

/// Serves the API on the listener. Must be called inside the runtime.
pub(crate) fn serve(
    listener: OwnedFd,
    registry: Arc<Registry>,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let roles = caller::Roles::new(&registry.settings);
    let listener = AdminListener::new(listener, roles, registry.audit.clone())?;
    let router = router(registry);
    Ok(async move {
        loop {
            let (stream, caller, place) = listener.accept().await;
            let router = router.clone();
            tokio::spawn(async move {
                connection::serve(stream, router, caller).await;
                drop(place);
            });
        }
    })
}

/// All that can be asked for. Each is described in [`openapi`].
fn routes() -> Vec<Route> {
    vec![
        Route::reading(Method::GET, "/openapi.json", service::document),
        Route::reading(Method::GET, "/metrics", metrics::scrape),
        Route::reading(Method::GET, "/v1/health", service::health),
        Route::reading(Method::GET, "/v1/machine", service::machine),
        Route::reading(Method::GET, "/v1/events", events::stream),
        Route::ruling(Method::POST, "/v1/events", publish::publish),
        Route::reading(Method::GET, "/v1/archives", archives::list),
        Route::ruling(Method::DELETE, "/v1/archives/{name}", archives::remove),
        Route::reading(Method::GET, "/v1/plugins", plugins::list),
        Route::ruling(Method::POST, "/v1/plugins", install::install),
        Route::reading(Method::GET, "/v1/plugins/{id}", plugins::inspect),
        Route::ruling(Method::DELETE, "/v1/plugins/{id}", install::uninstall),
        Route::ruling(Method::POST, "/v1/plugins/{id}/upgrade", upgrade::upgrade),
        Route::ruling(Method::POST, "/v1/plugins/{id}/rollback", upgrade::rollback),
        Route::ruling(Method::POST, "/v1/plugins/{id}/enable", lifecycle::enable),
        Route::ruling(Method::POST, "/v1/plugins/{id}/disable", lifecycle::disable),
        Route::ruling(Method::POST, "/v1/plugins/{id}/call/{*method}", call::call),
        Route::reading(Method::GET, "/v1/plugins/{id}/schedules", schedules::list),
        Route::ruling(Method::POST, "/v1/plugins/{id}/schedules/{name}/run", schedules::run),
        Route::reading(Method::GET, "/v1/plugins/{id}/config", config::show),
        Route::ruling(Method::PUT, "/v1/plugins/{id}/config", config::replace),
        Route::reading(Method::GET, "/v1/plugins/{id}/permissions", permissions::show),
        Route::ruling(Method::PUT, "/v1/plugins/{id}/permissions", permissions::replace),
        Route::reading(Method::GET, "/v1/plugins/{id}/usage", usage::history),
        // State and logs can hold what only an admin may see.
        Route::ruling(Method::GET, "/v1/plugins/{id}/state", state::show),
        Route::ruling(Method::GET, "/v1/plugins/{id}/logs", logs::read),
        // Who did what is for those who may do it.
        Route::ruling(Method::GET, "/v1/audit", audit::list),
        Route::ruling(Method::GET, "/v1/audit/verify", audit::verify),
    ]
}

fn router(registry: Arc<Registry>) -> Router {
    let audit = &registry.audit;
    let router =
        routes().into_iter().fold(Router::new(), |router, route| route.join(router, audit.clone()));
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(problem::coded))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&registry), metrics::count))
        .with_state(registry)
}

/// All of it as one meets it who may do all, without a socket.
#[cfg(any(test, fuzzing))]
pub(super) fn of_an_admin(registry: Arc<Registry>) -> Router {
    let admin = caller::Caller { uid: 0, pid: 1, role: caller::Role::Admin };
    router(registry).layer(axum::Extension(axum::extract::ConnectInfo(admin)))
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
