//! Schedules: up to when each is dealt with, and what its last runs came to.
//!
//! What is kept says when and how it ended, never what was said: no payload, no text of an error.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::Store;
use super::plugins::parse;
use crate::failure::Failure;
use crate::id::PluginId;

/// How many runs of each schedule are kept.
pub(crate) const KEPT_RUNS: i64 = 50;

/// How a run ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RunOutcome {
    Ok,
    Failed,
    /// The supervisor died while it ran: nobody knows how far it came.
    Interrupted,
    /// The one before still ran.
    SkippedOverlap,
    /// It was due while the plugin or the machine was down.
    Missed,
}

impl RunOutcome {
    const ALL: [Self; 5] =
        [Self::Ok, Self::Failed, Self::Interrupted, Self::SkippedOverlap, Self::Missed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::SkippedOverlap => "skipped-overlap",
            Self::Missed => "missed",
        }
    }
}

impl std::str::FromStr for RunOutcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        let mut all = Self::ALL.into_iter();
        all.find(|outcome| outcome.name() == text).ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no outcome of a run")]
pub(crate) struct UnknownOutcome(String);

/// A run of a schedule, or one that there was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) name: String,
    /// None: somebody asked for it.
    pub(crate) due: Option<Timestamp>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    /// None: it runs.
    pub(crate) outcome: Option<RunOutcome>,
    /// Of the failure.
    pub(crate) code: Option<String>,
    pub(crate) duration_ms: Option<u64>,
    /// How many due times it stands for.
    pub(crate) count: u64,
}

/// A schedule, by what it is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScheduleKey {
    pub(crate) plugin: PluginId,
    pub(crate) name: String,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunEnd {
    pub(crate) at: Timestamp,
    pub(crate) duration_ms: u64,
    /// None: it went well.
    pub(crate) code: Option<String>,
}

fn text(instant: Timestamp) -> String {
    format!("{instant:.3}")
}

impl Store {
    /// What distinguishes this machine's delays from those of others.
    pub(crate) async fn schedule_seed(&self) -> Result<[u8; 16], Failure> {
        self.run(|connection| {
            connection.query_row("SELECT seed FROM schedule_seed", [], |row| row.get(0))
        })
        .await
    }

    /// Up to when each of a plugin's schedules is dealt with. One that is new, or has another rule than
    /// it had, begins `now`; one that there is no more is forgotten, its runs are not.
    pub(crate) async fn adopt_schedules(
        &self,
        plugin: PluginId,
        rules: Vec<(String, String)>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Timestamp>, Failure> {
        self.run(move |connection| {
            let known: Vec<String> = connection
                .prepare_cached("SELECT name FROM schedule WHERE plugin = ?1")?
                .query_map([plugin.as_str()], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for name in known.iter().filter(|name| rules.iter().all(|(kept, _)| kept != *name)) {
                connection
                    .prepare_cached("DELETE FROM schedule WHERE plugin = ?1 AND name = ?2")?
                    .execute(params![plugin.as_str(), name])?;
            }
            for (name, rule) in rules {
                connection
                    .prepare_cached(
                        "INSERT INTO schedule (plugin, name, rule, accounted) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (plugin, name) DO UPDATE SET rule = ?3, accounted = ?4
                         WHERE rule != ?3",
                    )?
                    .execute(params![plugin.as_str(), name, rule, text(now)])?;
            }
            connection
                .prepare_cached("SELECT name, accounted FROM schedule WHERE plugin = ?1")?
                .query_map([plugin.as_str()], |row| Ok((row.get(0)?, parse(row, 1)?)))?
                .collect()
        })
        .await
    }

    /// Writes down that a run begins, and that all that was due until then is dealt with; its number.
    pub(crate) async fn begin_run(
        &self,
        key: ScheduleKey,
        due: Option<Timestamp>,
        started: Timestamp,
    ) -> Result<u64, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO schedule_run (plugin, name, due, started) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![key.plugin.as_str(), key.name, due.map(text), text(started)])?;
            let number = connection.last_insert_rowid();
            if let Some(due) = due {
                account(connection, &key, due)?;
            }
            forget_old(connection, &key)?;
            Ok(number as u64)
        })
        .await
    }

    /// Writes down what a run came to.
    pub(crate) async fn end_run(&self, number: u64, end: RunEnd) -> Result<(), Failure> {
        self.run(move |connection| {
            let outcome = if end.code.is_none() { RunOutcome::Ok } else { RunOutcome::Failed };
            connection
                .prepare_cached(
                    "UPDATE schedule_run SET ended = ?2, outcome = ?3, code = ?4, duration = ?5
                     WHERE number = ?1",
                )?
                .execute(params![
                    number as i64,
                    text(end.at),
                    outcome.name(),
                    end.code,
                    end.duration_ms as i64
                ])
                .map(drop)
        })
        .await
    }

    /// Writes down that so many due times, up to `due`, are dealt with without a run.
    pub(crate) async fn note_unrun(
        &self,
        key: ScheduleKey,
        due: Timestamp,
        count: u64,
        why: RunOutcome,
    ) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO schedule_run (plugin, name, due, outcome, count)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    key.plugin.as_str(),
                    key.name,
                    text(due),
                    why.name(),
                    count as i64
                ])?;
            account(connection, &key, due)?;
            forget_old(connection, &key)
        })
        .await
    }

    /// Ends what a supervisor before this one had begun: whether it was done nobody knows. Which.
    pub(crate) async fn interrupt_runs(&self) -> Result<Vec<(PluginId, Run)>, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached(&format!(
                    "UPDATE schedule_run SET outcome = 'interrupted' WHERE outcome IS NULL
                     RETURNING {COLUMNS}, plugin"
                ))?
                .query_map([], |row| Ok((parse(row, 9)?, read(row)?)))?
                .collect()
        })
        .await
    }

    /// The runs of a plugin that are kept, newest first.
    pub(crate) async fn runs(&self, plugin: PluginId) -> Result<Vec<Run>, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM schedule_run WHERE plugin = ?1 ORDER BY number DESC"
                ))?
                .query_map([plugin.as_str()], read)?
                .collect()
        })
        .await
    }

    /// Removes runs that ended, or were due and left out, before a time (RFC 3339), but never the newest
    /// of a schedule; at most `limit`. How many.
    pub(crate) async fn prune_runs(&self, before: String, limit: usize) -> Result<usize, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM schedule_run WHERE number IN (
                         SELECT number FROM schedule_run
                         WHERE outcome IS NOT NULL AND coalesce(ended, started, due) < ?1
                         AND number NOT IN (
                             SELECT max(number) FROM schedule_run GROUP BY plugin, name)
                         ORDER BY number LIMIT ?2)",
                )?
                .execute(params![before, limit as i64])
        })
        .await
    }
}

fn account(connection: &Connection, key: &ScheduleKey, due: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE schedule SET accounted = ?3 WHERE plugin = ?1 AND name = ?2")?
        .execute(params![key.plugin.as_str(), key.name, text(due)])
        .map(drop)
}

/// Those that run stay.
fn forget_old(connection: &Connection, key: &ScheduleKey) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM schedule_run WHERE outcome IS NOT NULL AND number IN (
                 SELECT number FROM schedule_run WHERE plugin = ?1 AND name = ?2
                 ORDER BY number DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute(params![key.plugin.as_str(), key.name, KEPT_RUNS])
        .map(drop)
}

/// As [`read`] takes them.
const COLUMNS: &str = "number, name, due, started, ended, outcome, code, duration, count";

fn read(row: &Row<'_>) -> rusqlite::Result<Run> {
    fn given<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let text: Option<String> = row.get(column)?;
        text.map(|_| parse(row, column)).transpose()
    }
    Ok(Run {
        number: row.get::<_, i64>(0)? as u64,
        name: row.get(1)?,
        due: given(row, 2)?,
        started: given(row, 3)?,
        ended: given(row, 4)?,
        outcome: given(row, 5)?,
        code: row.get(6)?,
        duration_ms: row.get::<_, Option<i64>>(7)?.map(|ms| ms as u64),
        count: row.get::<_, i64>(8)? as u64,
    })
}

#[cfg(test)]
#[path = "schedules_tests.rs"]
mod tests;
