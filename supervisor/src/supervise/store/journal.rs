//! The journal of operations: a step is intended here, and that is committed, before it is done.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::Store;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};

/// An operation that is not over, as the store knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenOperation {
    pub(crate) number: i64,
    pub(crate) plugin: PluginId,
    /// On whose word.
    pub(crate) principal: Value,
    /// The step that was intended last: whether it was done is not known.
    pub(crate) step: String,
    /// What was and what is to be.
    pub(crate) plan: Value,
    /// It failed: what was done is to be taken back, and nothing more is to be done.
    pub(crate) undoing: bool,
}

impl Store {
    /// Begins an operation; its number.
    pub(crate) async fn begin_operation(
        &self,
        plugin: PluginId,
        principal: Value,
        step: &'static str,
        plan: Value,
    ) -> Result<i64, Failure> {
        let started = crate::supervise::timestamp();
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO operation (plugin, principal, step, plan, started)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    plugin.as_str(),
                    principal.to_string(),
                    step,
                    plan.to_string(),
                    started
                ])?;
            Ok(connection.last_insert_rowid())
        })
        .await
    }

    /// The step that is done next.
    pub(crate) async fn intend_step(&self, number: i64, step: &'static str) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE operation SET step = ?2 WHERE number = ?1")?
                .execute(params![number, step])
                .map(drop)
        })
        .await
    }

    /// It failed: from here on it is only taken back.
    pub(crate) async fn begin_undo(&self, number: i64) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE operation SET undoing = 1 WHERE number = ?1")?
                .execute([number])
                .map(drop)
        })
        .await
    }

    /// The plugin was disabled while an operation on it is not over: whatever becomes of that, it stays
    /// so.
    pub(crate) async fn disable_operation(&self, plugin: PluginId) -> Result<(), Failure> {
        self.run(move |connection| {
            for statement in [
                "UPDATE plugin SET enabled = 0 WHERE id = ?1",
                // Where there is no such row in the plan nothing is added.
                "UPDATE operation SET plan = json_replace(plan, '$.from.enabled', json('false'),
                                                          '$.to.enabled', json('false'))
                 WHERE plugin = ?1",
            ] {
                connection.prepare_cached(statement)?.execute([plugin.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// The operation is over, done or undone.
    pub(crate) async fn close_operation(&self, number: i64) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("DELETE FROM operation WHERE number = ?1")?
                .execute([number])
                .map(drop)
        })
        .await
    }

    /// Whether there ever was an operation.
    pub(crate) async fn has_journalled(&self) -> Result<bool, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'operation')",
                )?
                .query_row([], |row| row.get(0))
        })
        .await
    }

    /// Those that are not over, oldest first.
    pub(crate) async fn open_operations(&self) -> Result<Vec<OpenOperation>, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT number, plugin, principal, step, plan, undoing FROM operation
                     ORDER BY number",
                )?
                .query_map([], |row| {
                    Ok(OpenOperation {
                        number: row.get(0)?,
                        plugin: super::plugins::parse(row, 1)?,
                        principal: super::plugins::parse(row, 2)?,
                        step: row.get(3)?,
                        plan: super::plugins::parse(row, 4)?,
                        undoing: row.get(5)?,
                    })
                })?
                .collect()
        })
        .await
    }

    /// Whether an installed plugin, in its present or its previous version, or an operation other
    /// than `except` has that tree.
    pub(crate) async fn has_use_for(&self, tree: Digest, except: i64) -> Result<bool, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT EXISTS (
                         SELECT 1 FROM plugin
                         WHERE digest = ?1 OR json_extract(previous, '$.digest') = ?1
                     ) OR EXISTS (
                         SELECT 1 FROM operation
                         WHERE number <> ?2 AND ?1 IN (
                             json_extract(plan, '$.from.digest'),
                             json_extract(plan, '$.from.previous.digest'),
                             json_extract(plan, '$.to.digest'))
                     )",
                )?
                .query_row(params![tree.to_string(), except], |row| row.get(0))
        })
        .await
    }

    /// Keeps the plugin's state as it is now, until it is restored or forgotten. One that is kept
    /// already stays: a step that is done again finds what the new version wrote.
    pub(crate) async fn keep_state(&self, plugin: PluginId) -> Result<(), Failure> {
        self.run(move |connection| {
            let kept = connection
                .prepare_cached("INSERT OR IGNORE INTO snapshot (plugin) VALUES (?1)")?
                .execute([plugin.as_str()])?;
            if kept == 0 {
                return Ok(());
            }
            connection
                .prepare_cached(
                    "INSERT INTO snapshot_entry (plugin, key, value, version)
                     SELECT plugin, key, value, version FROM state WHERE plugin = ?1",
                )?
                .execute([plugin.as_str()])
                .map(drop)
        })
        .await
    }

    /// Makes the plugin's state what was kept. Nothing is changed where nothing is kept.
    pub(crate) async fn restore_state(&self, plugin: PluginId) -> Result<(), Failure> {
        self.run(move |connection| {
            let kept: bool = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM snapshot WHERE plugin = ?1)")?
                .query_row([plugin.as_str()], |row| row.get(0))?;
            if !kept {
                return Ok(());
            }
            for statement in [
                "DELETE FROM state WHERE plugin = ?1",
                "INSERT INTO state (plugin, key, value, version)
                 SELECT plugin, key, value, version FROM snapshot_entry WHERE plugin = ?1",
            ] {
                connection.prepare_cached(statement)?.execute([plugin.as_str()])?;
            }
            forget(connection, &plugin)
        })
        .await
    }

    /// What was kept is not needed any more.
    pub(crate) async fn forget_kept_state(&self, plugin: PluginId) -> Result<(), Failure> {
        self.run(move |connection| forget(connection, &plugin)).await
    }
}

fn forget(connection: &Connection, plugin: &PluginId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM snapshot WHERE plugin = ?1")?
        .execute([plugin.as_str()])
        .map(drop)
}
