//! What Prometheus scrapes, and the counting of requests for it.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::request::Server;
use crate::supervise::metrics::MEDIA_TYPE;
use crate::supervise::registry::Registry;

/// Metrics for Prometheus
///
/// The text exposition format 0.0.4. What plugins use is what the last sampling found.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service",
    responses((status = 200, description = "All metrics.", body = String,
        content_type = "text/plain")))]
pub(super) async fn scrape(State(registry): Server) -> impl IntoResponse {
    let kind = HeaderValue::from_static(MEDIA_TYPE);
    ([(header::CONTENT_TYPE, kind)], registry.metrics.text(&registry))
}

/// Counts what is answered, by the route as the table has it.
pub(super) async fn count(
    State(registry): State<Arc<Registry>>,
    request: Request,
    next: Next,
) -> Response {
    let method = name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // As the description of the API has it.
    let route = route.map_or("none".to_owned(), |route| route.as_str().replace("{*", "{"));
    registry.metrics.answered(method, route, response.status().as_u16());
    response
}

/// A client can write any word for a method; these are those that the API has.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
