//! Who did what.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Server, at_most, id};
use crate::audit_chain::{BadHead, Head};
use crate::failure::{Code, Failure};
use crate::supervise::audit::{self, Verified};

/// How many rows a client gets that does not say.
const ROWS: usize = 100;
/// How many it can ask for.
const MAX_ROWS: usize = 1000;

/// Which rows.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Those about this plugin only.
    plugin: Option<String>,
    /// The last sequence number that the client has; 0 for all that are kept.
    #[serde(default)]
    since: u64,
    /// How many at the most; 100 if not given.
    #[param(maximum = 1000)]
    limit: Option<usize>,
}

/// A part of the audit.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditRows {
    /// Oldest first.
    #[schema(value_type = Vec<AuditRow>)]
    rows: Vec<Value>,
    /// `since` for the rows after these; null if there are none now.
    next: Option<u64>,
}

/// One row of the audit.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "it describes what a row is shown as")]
pub(super) struct AuditRow {
    /// 1, 2, 3, … without a gap.
    sequence: u64,
    /// The SHA-256 of this row and of that of the one before: see docs/audit.md.
    hash: String,
    plugin_id: Option<String>,
    /// RFC 3339, UTC.
    time: Option<String>,
    /// `uid`, `name`, and `onBehalfOf`: the person for whom the user said that it acted.
    principal: Option<Value>,
    /// `install`, `enable`, `denied`, `died`, …
    action: Option<String>,
    /// `begun`, `ok`, `cancelled`, `interrupted`, or the code of the failure.
    outcome: Option<String>,
    /// The row that says that it has begun.
    begun: Option<u64>,
    details: Option<Value>,
    /// The plugin is uninstalled, and what the row said is gone with it.
    removed: Option<bool>,
}

/// Who did what
#[utoipa::path(get, path = "/v1/audit", operation_id = "audit", tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "The rows.", body = AuditRows)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "STORAGE_FAILED"]))))]
pub(super) async fn list(
    State(registry): Server,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditRows>, Problem> {
    let plugin = query.plugin.as_deref().map(id).transpose()?;
    let limit = at_most(query.limit.unwrap_or(ROWS), MAX_ROWS)?;
    let rows = registry.audit.since(query.since, plugin, limit).await?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|row| row.sequence);
    Ok(Json(AuditRows { rows: rows.iter().map(audit::shown).collect(), next }))
}

/// What to hold it against.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyQuery {
    /// A place that was in the audit once, as `sequence:hash`.
    head: Option<String>,
}

/// Check that the audit is what was written
///
/// Every row is read. A row that was changed, removed, added in between or moved is refused as
/// `AUDIT_BROKEN` with its number and the reason, and so is an end that was cut off, as far as the
/// launcher or `head` knew it.
#[utoipa::path(get, path = "/v1/audit/verify", operation_id = "verifyAudit", tag = "audit",
    params(VerifyQuery),
    responses((status = 200, description = "It is.", body = Verified)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "AUDIT_BROKEN", "STORAGE_FAILED"]))))]
pub(super) async fn verify(
    State(registry): Server,
    Query(query): Query<VerifyQuery>,
) -> Result<Json<Verified>, Problem> {
    let known = query.head.as_deref().map(str::parse::<Head>).transpose();
    let known = known.map_err(|error: BadHead| {
        Failure::new(Code::InvalidRequest, format!("head: {error}")).with("parameter", "head")
    })?;
    Ok(Json(registry.audit.verify(&registry.launcher, known).await?))
}
