//! Requests about plugins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bulkhead_ipc_protocol::{Call, Encoding, Payload, TraceContext};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::acting::Acting;
use super::problem::Problem;
use super::view;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::audit::{Action, Operation};
use crate::supervise::registry::{DisableRequest, Registry, Source};

/// The longest budget of a stop: a guarantee that is a day away is none.
const MAX_STOP_MS: u64 = 3_600_000;

type Server = State<Arc<Registry>>;

fn id(text: &str) -> Result<PluginId, Failure> {
    text.parse().map_err(|error: crate::id::BadPluginId| {
        Failure::new(Code::InvalidRequest, error.to_string()).with("id", text)
    })
}

/// A body that is JSON of that shape; an empty one is the shape's default.
fn body<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Code::InvalidRequest, format!("the request's body: {error}"))
            .with("line", error.line())
            .with("column", error.column())
    })
}

pub(super) async fn list(State(registry): Server) -> Json<Value> {
    let strict = registry.settings.strict;
    let mut plugins: Vec<Value> =
        registry.all().iter().map(|handle| view::plugin(handle, strict)).collect();
    plugins.extend(registry.all_broken().iter().map(view::broken));
    plugins.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
    Json(json!({ "plugins": plugins }))
}

pub(super) async fn inspect(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = id(&text)?;
    if let Some(broken) = registry.find_broken(&id) {
        return Ok(Json(view::broken(&broken)));
    }
    let handle = registry.get(&id)?;
    Ok(Json(view::plugin(&handle, registry.settings.strict)))
}

pub(super) async fn config(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(registry.get(&id(&text)?)?.view().config))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct InstallBody {
    directory: Option<PathBuf>,
}

pub(super) async fn install(
    State(registry): Server,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let InstallBody { directory } = body(&bytes)?;
    let directory = directory.ok_or_else(|| {
        Failure::new(Code::InvalidRequest, "the body must name the \"directory\" to install from")
    })?;
    if !directory.is_absolute() {
        let shown = directory.display();
        let message = format!("directory: {shown} is not an absolute path");
        return Err(Failure::new(Code::InvalidRequest, message).with("path", directory).into());
    }
    let handle = Operation::new(principal, Action::Install)
        .with("directory", &directory)
        .run(&registry, move |registry, _| async move {
            registry.install(Source::Directory(directory)).await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view::plugin(&handle, registry.settings.strict))))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EnableBody {
    config: Option<Value>,
}

pub(super) async fn enable(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let id = id(&text)?;
    let EnableBody { config } = body(&bytes)?;
    let (plugin, configured) = (id.clone(), config.is_some());
    let report = Operation::new(principal, Action::Enable)
        .about(&id)
        .with("configured", configured)
        .run(&registry, |registry, _| async move { registry.enable(&plugin, config).await })
        .await?;
    let handle = registry.get(&id)?;
    Ok(Json(json!({
        "id": id,
        "version": handle.manifest.version,
        "state": handle.view().state,
        "startedInMs": report.started_in.as_secs_f64() * 1e3,
        "plugin": view::plugin(&handle, registry.settings.strict),
    })))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DisableBody {
    save_state: Option<bool>,
    /// Milliseconds.
    timeout: Option<u64>,
}

pub(super) async fn disable(
    State(registry): Server,
    Path(text): Path<String>,
    Acting(principal): Acting,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let id = id(&text)?;
    let DisableBody { save_state, timeout } = body(&bytes)?;
    if let Some(timeout) = timeout.filter(|timeout| *timeout > MAX_STOP_MS) {
        let message = format!("timeout: {timeout} ms is more than the {MAX_STOP_MS} of an hour");
        return Err(Failure::new(Code::InvalidRequest, message)
            .with("limit", MAX_STOP_MS)
            .with("used", timeout)
            .into());
    }
    let request = DisableRequest {
        save_state: save_state.unwrap_or(true),
        timeout: timeout.map(Duration::from_millis),
        reason: "disable",
    };
    let plugin = id.clone();
    let report = Operation::new(principal, Action::Disable)
        .about(&id)
        .with("saveState", request.save_state)
        .with("timeoutMs", timeout)
        .run(&registry, |registry, _| async move { registry.disable(&plugin, request).await })
        .await?;
    let state = registry.get(&id)?.view().state;
    let mut reply = serde_json::to_value(report)
        .map_err(|e| Failure::internal(format!("a stop report cannot be shown: {e}")))?;
    reply["id"] = json!(id);
    reply["state"] = json!(state);
    Ok(Json(reply))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct UninstallQuery {
    #[serde(default)]
    preserve_data: bool,
    #[serde(default)]
    force: bool,
}

pub(super) async fn uninstall(
    State(registry): Server,
    Path(text): Path<String>,
    Query(query): Query<UninstallQuery>,
    Acting(principal): Acting,
) -> Result<Json<Value>, Problem> {
    let id = id(&text)?;
    if query.preserve_data {
        return Err(Failure::new(
            Code::InvalidRequest,
            "this version writes no archives: copy the plugin's data directory, and its state from \
             /v1/plugins/{id}/state, and uninstall without preserveData",
        )
        .with("parameter", "preserveData")
        .into());
    }
    let plugin = id.clone();
    Operation::new(principal, Action::Uninstall)
        .about(&id)
        .with("force", query.force)
        .run(
            &registry,
            move |registry, _| async move { registry.uninstall(&plugin, query.force).await },
        )
        .await?;
    Ok(Json(json!({ "id": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallQuery {
    /// Milliseconds.
    timeout: Option<u64>,
}

/// The body is the argument, as JSON; the reply's is the plugin's, as it gave it.
pub(super) async fn call(
    State(registry): Server,
    Path((text, method)): Path<(String, String)>,
    Query(query): Query<CallQuery>,
    Acting(principal): Acting,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let argument = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&argument) {
        let message = format!("the call's argument is not JSON: {error}");
        return Err(Failure::new(Code::InvalidRequest, message)
            .with("line", error.line())
            .with("column", error.column())
            .into());
    }
    let call = Call {
        timeout: query.timeout.map(Duration::from_millis),
        trace: trace(&headers)?,
        on_behalf_of: principal.on_behalf_of,
        ..Call::new(method, Payload::json_bytes(argument))
    };
    let reply = registry.call(&id, call).await?;
    let kind = match reply.encoding {
        Encoding::Json => "application/json",
        Encoding::Raw | Encoding::Bincode => "application/octet-stream",
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], reply.body).into_response())
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| {
        Failure::new(Code::InvalidRequest, format!("the header {name} is not visible ASCII"))
            .with("header", name)
    })
}

/// `traceparent` of W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`.
fn trace(headers: &HeaderMap) -> Result<Option<TraceContext>, Failure> {
    let Some(text) = text_header(headers, "traceparent")? else { return Ok(None) };
    parse_trace(text).map(Some).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            format!("traceparent {text:?} is not 00-<32 hex>-<16 hex>-<2 hex>"),
        )
        .with("header", "traceparent")
    })
}

fn parse_trace(text: &str) -> Option<TraceContext> {
    fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
        let digits = text.len() == 2 * N && text.bytes().all(|b| b.is_ascii_hexdigit());
        let mut bytes = [0; N];
        for (i, byte) in bytes.iter_mut().enumerate().filter(|_| digits) {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        digits.then_some(bytes)
    }
    let mut parts = text.split('-');
    let version: [u8; 1] = hex(parts.next()?)?;
    let trace = TraceContext {
        trace_id: hex(parts.next()?)?,
        span_id: hex(parts.next()?)?,
        flags: hex::<1>(parts.next()?)?[0],
    };
    (version == [0] && parts.next().is_none() && trace.trace_id != [0; 16]).then_some(trace)
}

/// What the plugin keeps. A value that is not JSON is shown as null, with its length.
pub(super) async fn state(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = id(&text)?;
    registry.get(&id)?;
    let mut entries = Vec::new();
    for (key, version, bytes) in registry.store.list_state(id.clone(), String::new()).await? {
        let entry = registry.store.state(id.clone(), key.clone()).await?;
        let value = entry.and_then(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
        entries.push(json!({ "key": key, "version": version, "bytes": bytes, "value": value }));
    }
    Ok(Json(json!({ "entries": entries })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_has_it() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = parse_trace(text).unwrap();
        assert_eq!(trace.trace_id[0], 0x0a);
        assert_eq!(trace.span_id[7], 0x31);
        assert_eq!(trace.flags, 1);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(parse_trace(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_empty_body_is_the_default_and_an_unknown_key_is_refused() {
        let body_of =
            |text: &'static str| body::<DisableBody>(&Bytes::from_static(text.as_bytes()));
        assert_eq!(body_of(" \n").unwrap().timeout, None);
        assert_eq!(body_of("{\"saveState\":false}").unwrap().save_state, Some(false));
        let failure = body_of("{\"save_state\":false}").err().unwrap();
        assert_eq!(failure.code, Code::InvalidRequest);
        assert!(failure.message.contains("save_state"), "{failure}");
    }
}
