//! The rows of the audit.
//!
//! Rows are only ever added at the end, in one transaction with the look at the row before, so that
//! the chain has no gap whatever fails. What is removed is the content of rows, when their plugin is
//! uninstalled, and whole rows at the beginning, when they are older than the retention.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::Store;
use crate::audit_chain::{Head, body};
use crate::failure::Failure;
use crate::id::{Digest, PluginId};

/// How many rows go in one transaction at the most, and at the least.
const PRUNED_AT_ONCE: i64 = 500;
const WORTH_PRUNING: i64 = 50;

/// A row as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditRow {
    pub(crate) sequence: u64,
    pub(crate) plugin: Option<PluginId>,
    /// The text that was hashed; none once it is removed.
    pub(crate) content: Option<String>,
    pub(crate) content_hash: Digest,
    pub(crate) previous: Digest,
    pub(crate) hash: Digest,
}

/// A row to add.
pub(crate) struct NewAuditRow {
    pub(crate) kind: Kind,
    pub(crate) plugin: Option<PluginId>,
    /// Makes the content of 16 random bytes in hexadecimal digits, which keep what is removed later
    /// from being guessed by its hash.
    pub(crate) content: Box<dyn FnOnce(&str) -> String + Send>,
}

/// What a row is added for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something that happened.
    Single,
    /// An operation has begun; it is open until its end is written.
    Begin,
    /// The end of the one that began with this row.
    End(u64),
    /// The same, and its plugin is uninstalled: the content of the plugin's other rows goes.
    Farewell(u64),
}

impl Store {
    pub(crate) async fn append_audit(&self, row: NewAuditRow) -> Result<Head, Failure> {
        let audited = self.audited.clone();
        self.run(move |connection| append(connection, row, &audited)).await
    }

    /// The rows after `sequence`, oldest first, at most `limit`; all, or those of a plugin.
    pub(crate) async fn audit_since(
        &self,
        sequence: u64,
        plugin: Option<PluginId>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, Failure> {
        self.run(move |connection| match plugin {
            None => rows(connection, sequence, limit),
            Some(plugin) => rows_of(connection, &plugin, sequence, limit),
        })
        .await
    }

    /// Up to where rows can go: they were written before a time (RFC 3339), or are more than `rows`.
    /// Never one after `anchored`, one of an operation that is open, or the newest. Only where many
    /// can go, as each removal adds a row.
    pub(crate) async fn audit_cut(
        &self,
        before: String,
        rows: u64,
        anchored: u64,
    ) -> Result<Option<Head>, Failure> {
        self.run(move |connection| cut(connection, &before, rows, anchored)).await
    }

    /// Removes all rows up to there, and adds the one that accounts for them.
    pub(crate) async fn prune_audit(
        &self,
        through: Head,
        accounting: NewAuditRow,
    ) -> Result<(), Failure> {
        let audited = self.audited.clone();
        self.run(move |connection| {
            append(connection, accounting, &audited)?;
            connection
                .prepare_cached("DELETE FROM audit WHERE sequence <= ?1")?
                .execute([through.sequence as i64])
                .map(drop)
        })
        .await
    }

    /// Tells of each row that is added.
    pub(crate) fn audited(&self) -> tokio::sync::watch::Receiver<u64> {
        self.audited.subscribe()
    }

    /// The operations that began and did not end, with the plugin and the content of the row that
    /// says so.
    pub(crate) async fn audit_open(&self) -> Result<Vec<(u64, Option<PluginId>, Value)>, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT open.sequence, plugin, content FROM audit_open AS open
                     LEFT JOIN audit USING (sequence) ORDER BY open.sequence",
                )?
                .query_map([], |row| {
                    let plugin = row.get::<_, Option<String>>(1)?.and_then(|id| id.parse().ok());
                    let content = row.get::<_, Option<String>>(2)?;
                    let content = content.and_then(|text| text.parse().ok()).unwrap_or_default();
                    Ok((row.get::<_, i64>(0)? as u64, plugin, content))
                })?
                .collect()
        })
        .await
    }
}

/// Adds a row within the transaction of the caller.
pub(super) fn append(
    connection: &Connection,
    row: NewAuditRow,
    audited: &tokio::sync::watch::Sender<u64>,
) -> rusqlite::Result<Head> {
    let NewAuditRow { kind, plugin, content } = row;
    let salt: String = connection
        .prepare_cached("SELECT lower(hex(randomblob(16)))")?
        .query_row([], |row| row.get(0))?;
    let content = content(&salt);
    let before = head(connection)?;
    let content_hash = Digest::of(content.as_bytes());
    let new = before.next(body(plugin.as_ref(), content_hash));
    let plugin = plugin.as_ref().map(PluginId::as_str);
    connection
        .prepare_cached(
            "INSERT INTO audit (sequence, plugin, content, content_hash, previous, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            new.sequence as i64,
            plugin,
            content,
            content_hash.as_bytes(),
            before.hash.as_bytes(),
            new.hash.as_bytes()
        ])?;
    match kind {
        Kind::Single => {}
        Kind::Begin => {
            connection
                .prepare_cached("INSERT INTO audit_open (sequence) VALUES (?1)")?
                .execute([new.sequence as i64])?;
        }
        Kind::End(begun) | Kind::Farewell(begun) => {
            connection
                .prepare_cached("DELETE FROM audit_open WHERE sequence = ?1")?
                .execute([begun as i64])?;
        }
    }
    if let Kind::Farewell(_) = kind {
        connection
            .prepare_cached("UPDATE audit SET content = NULL WHERE plugin = ?1 AND sequence < ?2")?
            .execute(params![plugin, new.sequence as i64])?;
    }
    // Before the commit: who listens asks the store again, and hears after it.
    audited.send_replace(new.sequence);
    Ok(new)
}

fn cut(
    connection: &Connection,
    before: &str,
    rows: u64,
    anchored: u64,
) -> rusqlite::Result<Option<Head>> {
    let (first, newest, open): (Option<i64>, Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(sequence) FROM audit), (SELECT max(sequence) FROM audit),
                    (SELECT min(sequence) FROM audit_open)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (Some(first), Some(newest)) = (first, newest) else { return Ok(None) };
    // The first row that is young enough; one whose content is gone is as old as those around it.
    let young: Option<i64> = connection
        .prepare_cached(
            "SELECT sequence FROM audit WHERE sequence < ?1 + ?2 AND content ->> 'time' >= ?3
             ORDER BY sequence LIMIT 1",
        )?
        .query_row(params![first, PRUNED_AT_ONCE, before], |row| row.get(0))
        .optional()?;
    let old = young.map_or(first + PRUNED_AT_ONCE - 1, |young| young - 1);
    let many = (newest - i64::try_from(rows).unwrap_or(i64::MAX)).min(first + PRUNED_AT_ONCE - 1);
    let last = old
        .max(many)
        .min(i64::try_from(anchored).unwrap_or(i64::MAX))
        .min(newest - 1)
        .min(open.map_or(i64::MAX, |open| open - 1));
    if last - first + 1 < WORTH_PRUNING {
        return Ok(None);
    }
    connection
        .prepare_cached("SELECT sequence, hash FROM audit WHERE sequence = ?1")?
        .query_row([last], |row| {
            Ok(Head { sequence: row.get::<_, i64>(0)? as u64, hash: digest(row, 1)? })
        })
        .optional()
}

/// The newest row's place; [`Head::START`] where there is none.
fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let newest = connection
        .prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(Head { sequence: row.get::<_, i64>(0)? as u64, hash: digest(row, 1)? })
        })
        .optional()?;
    Ok(newest.unwrap_or(Head::START))
}

/// The rows after `sequence`, oldest first, at most `limit`.
fn rows(connection: &Connection, sequence: u64, limit: usize) -> rusqlite::Result<Vec<AuditRow>> {
    connection
        .prepare_cached(
            "SELECT sequence, plugin, content, content_hash, previous, hash FROM audit
             WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?
        .query_map(params![super::beyond(sequence), limit as i64], read)?
        .collect()
}

fn rows_of(
    connection: &Connection,
    plugin: &PluginId,
    sequence: u64,
    limit: usize,
) -> rusqlite::Result<Vec<AuditRow>> {
    connection
        .prepare_cached(
            "SELECT sequence, plugin, content, content_hash, previous, hash FROM audit
             WHERE plugin = ?3 AND sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?
        .query_map(params![super::beyond(sequence), limit as i64, plugin.as_str()], read)?
        .collect()
}

/// Whatever somebody has written into a row is read, so that the check can say that it is wrong.
fn read(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let text = |column: usize| -> rusqlite::Result<Option<String>> {
        let bytes = row.get_ref(column)?.as_bytes_or_null();
        Ok(bytes.unwrap_or_default().map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    };
    Ok(AuditRow {
        sequence: row.get::<_, i64>(0)? as u64,
        plugin: text(1)?.and_then(|id| id.parse().ok()),
        content: text(2)?,
        content_hash: digest(row, 3)?,
        previous: digest(row, 4)?,
        hash: digest(row, 5)?,
    })
}

/// What is no hash is that of nothing.
fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let bytes: Vec<u8> = row.get(column)?;
    Ok(Digest::new(bytes.try_into().unwrap_or([0; 32])))
}
