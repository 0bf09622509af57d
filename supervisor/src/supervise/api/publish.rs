//! Events of the host application for plugins: what a user did, what another system says.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bulkhead_ipc_protocol::Payload;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::acting::Acting;
use super::call::trace;
use super::problem::Problem;
use super::request::{Server, json};
use crate::id::PluginId;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::registry::Delivery;

/// An event for plugins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PublishRequest)]
pub(super) struct PublishBody {
    /// Its topic: letters, digits, `-`, `_`, `.` and `:`, not beginning with `plugin:`.
    #[schema(example = "appointments.opened", max_length = 128)]
    name: String,
    /// Any JSON; plugins decode it.
    #[serde(default)]
    body: Value,
    /// Only these, if they subscribe to the topic.
    #[schema(value_type = Option<Vec<String>>)]
    plugins: Option<Vec<PluginId>>,
}

/// Tell plugins of an event
///
/// It goes to the enabled plugins whose manifests subscribe to its topic (`[events]`), once; whoever
/// is not enabled, or does not keep up, misses it. It is not kept, and not among `GET /v1/events`.
#[utoipa::path(post, path = "/v1/events", operation_id = "publishEvent", tag = "events",
    params(
        ("bulkhead-on-behalf-of" = Option<String>, Header,
            description = "The acting person, whom the audit is told"),
        ("traceparent" = Option<String>, Header,
            description = "The trace that the event belongs to (W3C Trace Context)"),
    ),
    request_body = PublishBody,
    responses((status = 202, description = "Who has it, and who does not.", body = Delivery)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "RESOURCE_EXHAUSTED"]))))]
pub(super) async fn publish(
    State(registry): Server,
    Acting(principal): Acting,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    let PublishBody { name, body, plugins } = json(&bytes, "the request's body")?;
    let trace = trace(&headers)?;
    let delivery = Operation::new(principal, Action::Publish)
        .with("topic", &name)
        .run(&registry, move |registry, _| async move {
            let payload = Payload::json_bytes(body.to_string());
            registry.announce(&name, &payload, trace, plugins.as_deref())
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(delivery)))
}
