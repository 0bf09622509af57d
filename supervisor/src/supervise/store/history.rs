//! What each plugin used, in rows of a minute and of a quarter of an hour.
//!
//! Theory of operation. What was used in a minute is added to its row and, in the same transaction, to
//! that of the quarter of an hour that it is in: so no row waits to be rolled up, and a supervisor that
//! dies leaves both in step. Adding is one rule for all ([`Used::and`]): amounts are summed, the most is
//! kept, and a mean weighs by the time that each part covers.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::Store;
use crate::failure::Failure;
use crate::id::PluginId;

/// The time that one row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Minute,
    Quarter,
}

impl Step {
    pub(crate) const ALL: [Self; 2] = [Self::Minute, Self::Quarter];

    pub(crate) fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Quarter => 900,
        }
    }

    /// As a client writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::Quarter => "15m",
        }
    }

    /// When the row begins that a moment (seconds since the epoch) is in.
    pub(crate) fn beginning(self, seconds: i64) -> i64 {
        seconds - seconds.rem_euclid(self.seconds())
    }
}

/// What a plugin used in some time; `None` where it could not be observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Used {
    /// Seconds since the epoch.
    pub(crate) time: i64,
    /// In how much of that time it was looked at.
    pub(crate) covered_ms: u64,
    /// The mean.
    pub(crate) memory_bytes: Option<u64>,
    /// The most that was seen.
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) cpu_usec: Option<u64>,
    /// How long it was held back because its CPU time had run out.
    pub(crate) throttled_usec: Option<u64>,
    /// The most that were seen.
    pub(crate) pids: Option<u64>,
    pub(crate) io_read_bytes: Option<u64>,
    pub(crate) io_written_bytes: Option<u64>,
    /// What was seen last.
    pub(crate) storage_bytes: Option<u64>,
    pub(crate) network_received_bytes: Option<u64>,
    pub(crate) network_sent_bytes: Option<u64>,
}

impl Used {
    /// Together with what is used later.
    pub(crate) fn and(self, later: &Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| either(one, other, u64::saturating_add);
        let weigh = |one: u64, other: u64| {
            let (ours, theirs) = (u128::from(self.covered_ms), u128::from(later.covered_ms));
            let total = u128::from(one) * ours + u128::from(other) * theirs;
            // Where neither covers any time, the newer is as good as the mean.
            total.checked_div(ours + theirs).map_or(other, |mean| mean as u64)
        };
        Self {
            time: self.time,
            covered_ms: self.covered_ms.saturating_add(later.covered_ms),
            memory_bytes: either(self.memory_bytes, later.memory_bytes, weigh),
            memory_peak_bytes: self.memory_peak_bytes.max(later.memory_peak_bytes),
            cpu_usec: sum(self.cpu_usec, later.cpu_usec),
            throttled_usec: sum(self.throttled_usec, later.throttled_usec),
            pids: self.pids.max(later.pids),
            io_read_bytes: sum(self.io_read_bytes, later.io_read_bytes),
            io_written_bytes: sum(self.io_written_bytes, later.io_written_bytes),
            storage_bytes: later.storage_bytes.or(self.storage_bytes),
            network_received_bytes: sum(self.network_received_bytes, later.network_received_bytes),
            network_sent_bytes: sum(self.network_sent_bytes, later.network_sent_bytes),
        }
    }
}

/// Both together, or the one that there is.
fn either(one: Option<u64>, other: Option<u64>, both: impl Fn(u64, u64) -> u64) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

/// As [`read`] takes them.
const COLUMNS: &str =
    "time, covered, memory, memory_peak, cpu, throttled, pids, io_read, io_written,
                       storage, network_received, network_sent";

impl Store {
    /// Adds what plugins used to the rows that its time is in. What a plugin used that there is no
    /// more is left out.
    pub(crate) async fn add_usage(&self, all: Vec<(PluginId, Used)>) -> Result<(), Failure> {
        self.run(move |connection| {
            let mut known = connection.prepare_cached("SELECT 1 FROM plugin WHERE id = ?1")?;
            for (plugin, used) in &all {
                if known.exists([plugin.as_str()])? {
                    for step in Step::ALL {
                        add(connection, plugin, step, used)?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// What a plugin used from `since` (seconds since the epoch) on, oldest first. Of more than
    /// `limit` rows the newest.
    pub(crate) async fn usage(
        &self,
        plugin: PluginId,
        step: Step,
        since: i64,
        limit: usize,
    ) -> Result<Vec<Used>, Failure> {
        self.run(move |connection| {
            let mut rows: Vec<Used> = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM usage
                     WHERE plugin = ?1 AND step = ?2 AND time >= ?3 ORDER BY time DESC LIMIT ?4"
                ))?
                .query_map(params![plugin.as_str(), step.seconds(), since, limit as i64], read)?
                .collect::<rusqlite::Result<_>>()?;
            rows.reverse();
            Ok(rows)
        })
        .await
    }

    /// Removes rows that began before a time (seconds since the epoch), at most `limit`. How many.
    pub(crate) async fn prune_usage(
        &self,
        step: Step,
        before: i64,
        limit: usize,
    ) -> Result<usize, Failure> {
        self.run(move |connection| {
            // From plugin to plugin, as the rows of each are in order and those of all are not.
            connection
                .prepare_cached(
                    "DELETE FROM usage WHERE (plugin, step, time) IN (
                         SELECT old.plugin, old.step, old.time
                         FROM plugin CROSS JOIN usage AS old ON old.plugin = plugin.id
                         WHERE old.step = ?1 AND old.time < ?2 LIMIT ?3)",
                )?
                .execute(params![step.seconds(), before, limit as i64])
        })
        .await
    }
}

fn add(
    connection: &Connection,
    plugin: &PluginId,
    step: Step,
    used: &Used,
) -> rusqlite::Result<()> {
    let used = Used { time: step.beginning(used.time), ..*used };
    let kept = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM usage WHERE plugin = ?1 AND step = ?2 AND time = ?3"
        ))?
        .query_row(params![plugin.as_str(), step.seconds(), used.time], read)
        .optional()?;
    let mut row = kept.map_or(used, |kept| kept.and(&used));
    // The clock may have been set back, or go a little slower than the one of the samples.
    row.covered_ms = row.covered_ms.min(step.seconds() as u64 * 1000);
    let number = |value: Option<u64>| value.map(|value| value as i64);
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO usage (plugin, step, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        ))?
        .execute(params![
            plugin.as_str(),
            step.seconds(),
            row.time,
            row.covered_ms as i64,
            number(row.memory_bytes),
            number(row.memory_peak_bytes),
            number(row.cpu_usec),
            number(row.throttled_usec),
            number(row.pids),
            number(row.io_read_bytes),
            number(row.io_written_bytes),
            number(row.storage_bytes),
            number(row.network_received_bytes),
            number(row.network_sent_bytes),
        ])
        .map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Used> {
    let number = |column: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(|value| value as u64))
    };
    Ok(Used {
        time: row.get(0)?,
        covered_ms: row.get::<_, i64>(1)? as u64,
        memory_bytes: number(2)?,
        memory_peak_bytes: number(3)?,
        cpu_usec: number(4)?,
        throttled_usec: number(5)?,
        pids: number(6)?,
        io_read_bytes: number(7)?,
        io_written_bytes: number(8)?,
        storage_bytes: number(9)?,
        network_received_bytes: number(10)?,
        network_sent_bytes: number(11)?,
    })
}
