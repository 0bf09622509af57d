//! What a plugin used in the past.

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Server, id};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::TimeSpan;
use crate::supervise::store::{Step, Used};

/// How far back a client is shown that does not say.
const SINCE: &str = "1h";
/// How many points a client gets at the most.
const MAX_POINTS: usize = 3000;

/// Which part of the history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// From when on: RFC 3339, or how long ago, as `90m` or `7d`; `1h` if not given.
    since: Option<String>,
    /// The time that a point stands for: `1m` (the default) or `15m`.
    step: Option<String>,
}

/// What a plugin used.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageHistory {
    #[schema(value_type = String)]
    plugin: PluginId,
    /// `1m` or `15m`.
    step: &'static str,
    /// Oldest first; of more than 3000 the newest. There is none of a time in which it did not run.
    points: Vec<UsagePoint>,
}

/// What a plugin used in a minute, or in a quarter of an hour; null where it could not be observed.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsagePoint {
    /// When it begins: RFC 3339, UTC.
    time: String,
    /// In how much of that time the plugin was looked at.
    seconds: u64,
    /// The mean.
    memory_bytes: Option<u64>,
    /// The most that was seen.
    memory_peak_bytes: Option<u64>,
    /// Of one CPU.
    cpu_percent: Option<f64>,
    /// The share of the time in which it was held back, as its CPU time had run out.
    cpu_throttled_percent: Option<f64>,
    /// The most that were seen: processes and threads.
    pids: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    /// What was seen last: in `/data`, and in its state.
    storage_bytes: Option<u64>,
    network_received_bytes: Option<u64>,
    network_sent_bytes: Option<u64>,
}

impl From<Used> for UsagePoint {
    fn from(used: Used) -> Self {
        // Microseconds of milliseconds, in hundredths of a percent.
        let percent = |usec: Option<u64>| {
            let covered = Some(used.covered_ms).filter(|covered| *covered > 0)? as f64;
            usec.map(|usec| (usec as f64 / covered * 10.0).round() / 100.0)
        };
        Self {
            time: Timestamp::from_second(used.time).unwrap_or_default().to_string(),
            seconds: (used.covered_ms + 500) / 1000,
            memory_bytes: used.memory_bytes,
            memory_peak_bytes: used.memory_peak_bytes,
            cpu_percent: percent(used.cpu_usec),
            cpu_throttled_percent: percent(used.throttled_usec),
            pids: used.pids,
            io_read_bytes: used.io_read_bytes,
            io_written_bytes: used.io_written_bytes,
            storage_bytes: used.storage_bytes,
            network_received_bytes: used.network_received_bytes,
            network_sent_bytes: used.network_sent_bytes,
        }
    }
}

/// What a plugin used
///
/// The history in points of a minute or of a quarter of an hour. A minute is written when it is over; what is
/// used now is in the event `plugin:resource:usage`.
#[utoipa::path(get, path = "/v1/plugins/{id}/usage", operation_id = "usage", tag = "plugins",
    params(("id" = String, Path, description = "The plugin"), UsageQuery),
    responses((status = 200, description = "The points.", body = UsageHistory)),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn history(
    State(registry): Server,
    Path(text): Path<String>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageHistory>, Problem> {
    let plugin = id(&text)?;
    registry.get(&plugin)?;
    let step = step(query.step.as_deref())?;
    let since = since(query.since.as_deref().unwrap_or(SINCE), Timestamp::now())?;
    let rows = registry.store.usage(plugin.clone(), step, since, MAX_POINTS).await?;
    let points = rows.into_iter().map(UsagePoint::from).collect();
    Ok(Json(UsageHistory { plugin, step: step.name(), points }))
}

fn step(text: Option<&str>) -> Result<Step, Failure> {
    let Some(text) = text else { return Ok(Step::Minute) };
    Step::ALL.into_iter().find(|step| step.name() == text).ok_or_else(|| {
        let message = format!("step: {text:?} is not kept; ask for `1m` or `15m`");
        Failure::new(Code::InvalidRequest, message).with("parameter", "step").with("value", text)
    })
}

/// Seconds since the epoch.
fn since(text: &str, now: Timestamp) -> Result<i64, Failure> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let ago: TimeSpan = text.parse().map_err(|_| {
        let message = format!(
            "since: {text:?} is neither a time (RFC 3339, as `2026-01-31T09:00:00Z`) nor how long \
             ago (as `90m` or `7d`)"
        );
        Failure::new(Code::InvalidRequest, message).with("parameter", "since").with("value", text)
    })?;
    Ok(now.as_second().saturating_sub_unsigned(ago.duration().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_and_how_long_ago_are_understood() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        let of = |text| since(text, now);
        assert_eq!(of("1h30m"), Ok(now.as_second() - 5400));
        assert_eq!(of("2026-01-31T10:00:00+01:00"), Ok(now.as_second() - 3600));
        for wrong in ["", "yesterday", "90", "2026-01-31", "-1h"] {
            let failure = of(wrong).unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest);
            assert_eq!(failure.details["value"], wrong);
            assert!(failure.message.contains(&format!("{wrong:?}")), "{failure}");
        }
        assert_eq!(step(None), Ok(Step::Minute));
        assert_eq!(step(Some("15m")), Ok(Step::Quarter));
        assert_eq!(step(Some("5m")).unwrap_err().details["value"], "5m");
    }

    #[test]
    fn a_point_is_in_units_of_a_person() {
        let used = Used {
            time: 1_767_225_600,
            covered_ms: 59_960,
            cpu_usec: Some(29_980_000),
            throttled_usec: Some(0),
            memory_bytes: Some(7),
            ..Used::default()
        };
        let point = UsagePoint::from(used);
        assert_eq!((point.time.as_str(), point.seconds), ("2026-01-01T00:00:00Z", 60));
        assert_eq!((point.cpu_percent, point.cpu_throttled_percent), (Some(50.0), Some(0.0)));
        assert_eq!((point.memory_bytes, point.pids), (Some(7), None));
        // A share of no time at all is none.
        let empty = Used { covered_ms: 0, ..used };
        assert_eq!(UsagePoint::from(empty).cpu_percent, None);
    }
}
