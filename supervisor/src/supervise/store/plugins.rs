//! The registry: which plugins are installed, and what the operator wants of each.

use std::fmt;

use rusqlite::{OptionalExtension, Row, params};
use semver::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Store;
use super::audit::{self, NewAuditRow};
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::supervise::registry::Grant;

/// As [`read`] takes them.
const COLUMNS: &str = "id, version, digest, config, enabled, installed_at, last_exit, previous, \
                       granted, last_usage";

/// An installed plugin. A journalled operation carries it as JSON.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PluginRow {
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    /// As the operator gave it: an object, without the manifest's defaults.
    pub(crate) config: Value,
    /// What the operator wants; what is may differ for a while.
    pub(crate) enabled: bool,
    /// RFC 3339, UTC.
    pub(crate) installed_at: String,
    /// How it ended the last time it ran.
    pub(crate) last_exit: Option<Value>,
    /// What the operator lets it do. None: it was installed before grants were kept, and has all
    /// that its manifest asks for.
    pub(crate) granted: Option<Grant>,
    /// What it had used when it was last stopped: an object, with `time`.
    pub(crate) last_usage: Option<Value>,
    /// The version before, which a rollback returns to.
    pub(crate) previous: Option<Previous>,
}

/// Without the configuration, which can have secrets.
impl fmt::Debug for PluginRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PluginRow");
        shown.field("id", &self.id).field("version", &self.version).field("digest", &self.digest);
        shown.field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// A version that a plugin had, its tree kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Previous {
    #[schema(value_type = String)]
    pub(crate) version: Version,
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
    /// RFC 3339, UTC.
    pub(crate) installed_at: String,
    /// What the operator let it do; null: all that it asked for.
    #[schema(value_type = Option<Object>)]
    pub(crate) granted: Option<Grant>,
}

impl Store {
    pub(crate) async fn plugins(&self) -> Result<Vec<PluginRow>, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM plugin ORDER BY id"))?
                .query_map([], read)?
                .collect()
        })
        .await
    }

    pub(crate) async fn plugin_ids(&self) -> Result<Vec<PluginId>, Failure> {
        self.run(|connection| {
            connection
                .prepare_cached("SELECT id FROM plugin")?
                .query_map([], |row| parse(row, 0))?
                .collect()
        })
        .await
    }

    pub(crate) async fn plugin(&self, id: PluginId) -> Result<Option<PluginRow>, Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM plugin WHERE id = ?1"))?
                .query_row([id.as_str()], read)
                .optional()
        })
        .await
    }

    /// Adds a plugin, or replaces the row of an older version of it.
    pub(crate) async fn put_plugin(&self, row: PluginRow) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO plugin (id, version, digest, config, enabled, installed_at, previous,
                                         granted)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (id) DO UPDATE SET version = ?2, digest = ?3, config = ?4,
                                                    enabled = ?5, installed_at = ?6,
                                                    previous = ?7, granted = ?8",
                )?
                .execute(params![
                    row.id.as_str(),
                    row.version.to_string(),
                    row.digest.to_string(),
                    row.config.to_string(),
                    row.enabled,
                    row.installed_at,
                    row.previous.as_ref().map(|previous| json!(previous).to_string()),
                    row.granted.as_ref().map(|granted| json!(granted).to_string())
                ])
                .map(drop)
        })
        .await
    }

    pub(crate) async fn set_enabled(&self, id: PluginId, enabled: bool) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE plugin SET enabled = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), enabled])
                .map(drop)
        })
        .await
    }

    /// What the operator wants of the plugin: whether it is to run, and with which configuration.
    pub(crate) async fn set_wanted(
        &self,
        id: PluginId,
        enabled: bool,
        config: Value,
    ) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE plugin SET enabled = ?2, config = ?3 WHERE id = ?1")?
                .execute(params![id.as_str(), enabled, config.to_string()])
                .map(drop)
        })
        .await
    }

    pub(crate) async fn set_config(&self, id: PluginId, config: Value) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE plugin SET config = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), config.to_string()])
                .map(drop)
        })
        .await
    }

    pub(crate) async fn set_granted(&self, id: PluginId, granted: &Grant) -> Result<(), Failure> {
        let granted = json!(granted).to_string();
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE plugin SET granted = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), granted])
                .map(drop)
        })
        .await
    }

    /// Keeps how the plugin ended; the launcher's record of it is acknowledged after this.
    /// So is what it had used. And the row that the audit has of it, if it was not asked for.
    pub(crate) async fn set_last_exit(
        &self,
        id: PluginId,
        exit: Value,
        usage: Value,
        died: Option<NewAuditRow>,
    ) -> Result<(), Failure> {
        let news = self.audited.clone();
        self.run(move |connection| {
            if let Some(row) = died {
                audit::append(connection, row, &news)?;
            }
            connection
                .prepare_cached("UPDATE plugin SET last_exit = ?2, last_usage = ?3 WHERE id = ?1")?
                .execute(params![id.as_str(), exit.to_string(), usage.to_string()])
                .map(drop)
        })
        .await
    }

    /// Removes the plugin and, with it, its state.
    pub(crate) async fn remove_plugin(&self, id: PluginId) -> Result<(), Failure> {
        self.run(move |connection| {
            connection
                .prepare_cached("DELETE FROM plugin WHERE id = ?1")?
                .execute([id.as_str()])
                .map(drop)
        })
        .await
    }
}

/// A column that does not parse is corruption: say which column.
pub(super) fn parse<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, error))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Text;
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}

fn read(row: &Row<'_>) -> rusqlite::Result<PluginRow> {
    /// A column of JSON that may be empty.
    fn object<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
        let text: Option<String> = row.get(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, error)))
            .transpose()
    }
    Ok(PluginRow {
        id: parse(row, 0)?,
        version: parse(row, 1)?,
        digest: parse(row, 2)?,
        config: parse(row, 3)?,
        enabled: row.get(4)?,
        installed_at: row.get(5)?,
        last_exit: object(row, 6)?,
        previous: object(row, 7)?,
        granted: object(row, 8)?,
        last_usage: object(row, 9)?,
    })
}
