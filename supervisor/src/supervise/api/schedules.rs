//! The schedules of a plugin: when each is due next, and what its last runs came to.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id};
use crate::failure::{Code, Failure};
use crate::manifest::{Missed, Overlap, Schedule, TimeSpan};
use crate::supervise::schedule::Standing;
use crate::supervise::store::{Run, RunOutcome};

/// The schedules of a plugin.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleList {
    /// In the order of the manifest.
    schedules: Vec<Scheduled>,
}

/// A schedule, how it stands, and its history.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scheduled {
    name: String,
    #[schema(example = "30 2 * * 1-5")]
    cron: String,
    #[schema(example = "America/New_York")]
    timezone: String,
    /// What is called.
    method: String,
    /// `skip`, `queue` or `allow`.
    #[schema(value_type = String)]
    overlap: Overlap,
    /// `skip` or `once`.
    #[schema(value_type = String)]
    missed: Missed,
    /// How much later than due a run may begin.
    jitter_ms: u64,
    /// The deadline of a run.
    timeout_ms: u64,
    /// When it is due next (RFC 3339); null while the plugin is not enabled.
    next_due: Option<String>,
    /// When that run begins: then, or later by what the jitter has drawn for it.
    next_start: Option<String>,
    /// How many run now.
    running: usize,
    /// The last ones, newest first.
    runs: Vec<RunRecord>,
}

/// A run, or one that there was not.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunRecord {
    /// Counts the runs of all plugins.
    number: u64,
    /// When it was due (RFC 3339); null where somebody asked for it.
    due: Option<String>,
    /// Null where it did not run.
    started: Option<String>,
    /// Null while it runs, and where nobody knows.
    ended: Option<String>,
    /// Null while it runs.
    outcome: Option<RunOutcome>,
    /// The code of the failure.
    code: Option<String>,
    duration_ms: Option<u64>,
    /// How many due times it stands for, of which `due` is the last: those that were missed in a row
    /// are one. It is counted up to 1000.
    count: u64,
}

/// What a run that was asked for came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunDone {
    /// Its number in the history.
    number: u64,
    duration_ms: u64,
}

fn text(instant: Timestamp) -> String {
    format!("{instant:.3}")
}

impl Scheduled {
    fn new(
        schedule: &Schedule,
        call_timeout: TimeSpan,
        standing: Option<&Standing>,
        runs: Vec<RunRecord>,
    ) -> Self {
        Self {
            name: schedule.name().to_owned(),
            cron: schedule.cron.to_string(),
            timezone: schedule.timezone.as_str().to_owned(),
            method: schedule.method.to_string(),
            overlap: schedule.overlap,
            missed: schedule.missed,
            jitter_ms: schedule.jitter.millis(),
            timeout_ms: schedule.timeout.unwrap_or(call_timeout).millis(),
            next_due: standing.and_then(|standing| standing.due).map(text),
            next_start: standing.and_then(|standing| standing.start).map(text),
            running: standing.map_or(0, |standing| standing.running),
            runs,
        }
    }
}

impl From<Run> for RunRecord {
    fn from(run: Run) -> Self {
        Self {
            number: run.number,
            due: run.due.map(text),
            started: run.started.map(text),
            ended: run.ended.map(text),
            outcome: run.outcome,
            code: run.code,
            duration_ms: run.duration_ms,
            count: run.count,
        }
    }
}

/// Show the schedules of a plugin
///
/// With when each is due next, and the history that is kept.
#[utoipa::path(get, path = "/v1/plugins/{id}/schedules", operation_id = "listSchedules",
    tag = "plugins",
    params(("id" = String, Path, description = "The plugin")),
    responses((status = 200, description = "All that its manifest has.", body = ScheduleList)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn list(
    State(registry): Server,
    Path(text): Path<String>,
) -> Result<Json<ScheduleList>, Problem> {
    let id = id(&text)?;
    let handle = registry.get(&id)?;
    let standing = registry.schedules.show(id.clone()).await;
    let mut runs: BTreeMap<String, Vec<RunRecord>> = BTreeMap::new();
    for run in registry.store.runs(id).await? {
        runs.entry(run.name.clone()).or_default().push(run.into());
    }
    let call_timeout = handle.manifest.lifecycle.call_timeout;
    let scheduled = |schedule: &Schedule| {
        let name = schedule.name();
        let runs = runs.remove(name).unwrap_or_default();
        Scheduled::new(schedule, call_timeout, standing.get(name), runs)
    };
    Ok(Json(ScheduleList { schedules: handle.manifest.schedule.iter().map(scheduled).collect() }))
}

/// Run a schedule now
///
/// What is due by the clock stays due. It is answered when the run has ended; one that fails is
/// answered with that, and in the history like any other.
#[utoipa::path(post, path = "/v1/plugins/{id}/schedules/{name}/run", operation_id = "runSchedule",
    tag = "plugins",
    params(
        ("id" = String, Path, description = "The plugin"),
        ("name" = String, Path, description = "The schedule"),
        ("bulkhead-on-behalf-of" = Option<String>, Header,
            description = "The acting person, whom the plugin and the audit are told"),
    ),
    responses((status = 200, description = "It went well.", body = RunDone)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT",
        "RESOURCE_EXHAUSTED", "CALL_FAILED", "PLUGIN_DIED", "TIMEOUT", "STORAGE_FAILED"]))))]
pub(super) async fn run(
    State(registry): Server,
    Path((text, name)): Path<(String, String)>,
    Acting(principal): Acting,
) -> Result<Json<RunDone>, Problem> {
    let id = id(&text)?;
    let handle = registry.get(&id)?;
    if handle.manifest.schedule.iter().all(|schedule| schedule.name() != name) {
        let message = format!("{id} has no schedule {name}; `bulkhead schedules {id}` lists them");
        let failure = Failure::new(Code::NotFound, message);
        return Err(failure.with("what", "schedule").with("name", name).into());
    }
    let ran = registry.schedules.run_now(id, name, principal).await?;
    Ok(Json(RunDone { number: ran.number, duration_ms: ran.duration_ms }))
}
