//! The event journal: numbered, so that a subscriber can go on where it was.

use rusqlite::params;
use serde_json::Value;

use super::Store;
use super::audit::{self, NewAuditRow};
use crate::failure::Failure;
use crate::id::PluginId;

/// How many events are kept. Older ones are removed as new ones come.
const KEPT: i64 = 10_000;

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// From 1; 0 for one that is only shown and not kept.
    pub(crate) sequence: u64,
    /// RFC 3339, UTC, milliseconds.
    pub(crate) time: String,
    pub(crate) name: String,
    pub(crate) plugin: Option<PluginId>,
    /// An object.
    pub(crate) body: Value,
}

impl Store {
    /// Appends an event, and what the audit has of it, and returns its sequence number: one more
    /// than that of the one before.
    pub(crate) async fn append_event(
        &self,
        time: String,
        name: String,
        plugin: Option<PluginId>,
        body: Value,
        audited: Option<NewAuditRow>,
    ) -> Result<u64, Failure> {
        let news = self.audited.clone();
        self.run(move |connection| {
            if let Some(row) = audited {
                audit::append(connection, row, &news)?;
            }
            connection
                .prepare_cached(
                    "INSERT INTO event (time, name, plugin, body) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![
                    time,
                    name,
                    plugin.as_ref().map(PluginId::as_str),
                    body.to_string()
                ])?;
            let sequence = connection.last_insert_rowid();
            connection
                .prepare_cached("DELETE FROM event WHERE sequence <= ?1")?
                .execute([sequence - KEPT])?;
            Ok(sequence as u64)
        })
        .await
    }

    /// Removes the oldest events: those told before a time (RFC 3339), and those by which the bodies
    /// of all take more than `bytes`; at most `limit` of either, and never the newest. How many.
    pub(crate) async fn prune_events(
        &self,
        before: String,
        bytes: u64,
        limit: usize,
    ) -> Result<usize, Failure> {
        self.run(move |connection| {
            let old = connection
                .prepare_cached(
                    "DELETE FROM event WHERE sequence IN (
                         SELECT sequence FROM event WHERE time < ?1
                         AND sequence < (SELECT max(sequence) FROM event)
                         ORDER BY sequence LIMIT ?2)",
                )?
                .execute(params![before, limit as i64])?;
            let kept: i64 = connection
                .prepare_cached("SELECT CAST(total(length(CAST(body AS BLOB))) AS INTEGER) FROM event")?
                .query_row([], |row| row.get(0))?;
            let Some(over) = (kept as u64).checked_sub(bytes).filter(|over| *over > 0) else {
                return Ok(old);
            };
            let large = connection
                .prepare_cached(
                    "DELETE FROM event WHERE sequence IN (
                         SELECT sequence FROM (
                             SELECT sequence, sum(length(CAST(body AS BLOB))) OVER (ORDER BY sequence)
                                 - length(CAST(body AS BLOB)) AS before_it
                             FROM event)
                         WHERE before_it < ?1 AND sequence < (SELECT max(sequence) FROM event)
                         ORDER BY sequence LIMIT ?2)",
                )?
                .execute(params![over as i64, limit as i64])?;
            Ok(old + large)
        })
        .await
    }

    /// The events after `sequence`, oldest first, at most `limit`.
    pub(crate) async fn events_since(
        &self,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT sequence, time, name, plugin, body FROM event
                     WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
                )?
                .query_map(params![super::beyond(sequence), limit as i64], |row| {
                    Ok(Recorded {
                        sequence: row.get::<_, i64>(0)? as u64,
                        time: row.get(1)?,
                        name: row.get(2)?,
                        plugin: row.get::<_, Option<String>>(3)?.and_then(|id| id.parse().ok()),
                        body: row
                            .get::<_, String>(4)?
                            .parse()
                            .unwrap_or_else(|_| Value::Object(serde_json::Map::new())),
                    })
                })?
                .collect()
        })
        .await
    }
}
