//! The API's own description, made from the handlers and the shapes of their requests and replies.
//!
//! Each handler names in `x-codes` the codes that it can refuse with. The statuses that go with them
//! are [`Code`]'s to say, so they are filled in here, and `x-codes` itself is not published.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use super::{
    archives, audit, call, config, events, install, lifecycle, logs, metrics, permissions, plugins,
    problem, publish, schedules, service, state, upgrade, usage,
};
use crate::failure::Code;

/// What a handler says of its refusals.
const CODES: &str = "x-codes";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Bulkhead admin API",
        description = "HTTP/1.1 and JSON on a Unix socket. Who may do what is decided by the peer's \
                       user and groups, as the kernel vouches for them. The guide is docs/api.md."
    ),
    servers((url = "http://bulkhead", description = "/run/bulkhead/admin.sock")),
    tags(
        (name = "lifecycle", description = "From installed to uninstalled"),
        (name = "plugins", description = "What there is"),
        (name = "archives", description = "What uninstalled plugins have left behind"),
        (name = "calls", description = "Talking to plugins"),
        (name = "events", description = "What happens"),
        (name = "audit", description = "Who did what"),
        (name = "service", description = "The service itself"),
    ),
    paths(
        service::health,
        service::machine,
        service::document,
        metrics::scrape,
        events::stream,
        publish::publish,
        plugins::list,
        plugins::inspect,
        archives::list,
        archives::remove,
        install::install,
        install::uninstall,
        upgrade::upgrade,
        upgrade::rollback,
        lifecycle::enable,
        lifecycle::disable,
        schedules::list,
        schedules::run,
        config::show,
        config::replace,
        permissions::show,
        permissions::replace,
        usage::history,
        state::show,
        logs::read,
        call::call,
        audit::list,
        audit::verify,
    ),
    components(schemas(problem::Document, events::Told, logs::LogLine, audit::AuditRow)),
    modifiers(&Refusals)
)]
struct Description;

/// The document.
pub(super) fn document() -> OpenApi {
    Description::openapi()
}

/// The document as JSON text, made once.
pub(super) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text =
            document().to_pretty_json().expect("it is made of strings, maps and numbers");
        text.push('\n');
        text
    })
}

/// Describes the refusals of every operation.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        for item in document.paths.paths.values_mut() {
            operations(item).for_each(refuse);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().filter_map(Option::as_mut)
}

fn refuse(operation: &mut Operation) {
    let named = operation.extensions.as_mut().and_then(|extensions| extensions.remove(CODES));
    let mut codes: Vec<Code> = named.map_or_else(Vec::new, |named| {
        serde_json::from_value(named)
            .expect("handlers name codes that there are; a test makes this")
    });
    codes.extend([Code::PermissionDenied, Code::Internal]);
    let mut statuses: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        let shown = format!("`{code}`");
        let group = statuses.entry(code.http_status()).or_default();
        if !group.contains(&shown) {
            group.push(shown);
        }
    }
    for (status, codes) in statuses {
        let response = refusal(&codes.join(", "));
        operation.responses.responses.insert(status.to_string(), response.into());
    }
    if operation.request_body.is_some() {
        // What is too long is refused before anybody reads it.
        let response = refusal(&format!("`{}`", Code::ResourceExhausted));
        operation.responses.responses.insert("413".to_owned(), response.into());
    }
}

fn refusal(codes: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(codes).content(problem::MEDIA_TYPE, problem).build()
}

#[cfg(test)]
mod tests;
