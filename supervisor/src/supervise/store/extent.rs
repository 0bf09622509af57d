//! How much there is in the store.

use std::path::Path;

use super::Store;
use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The number of the newest event.
    pub(crate) events: u64,
    /// The number of the newest row of the audit.
    pub(crate) audit_rows: u64,
    /// Of its files on disk.
    pub(crate) bytes: u64,
}

impl Store {
    pub(crate) async fn extent(&self) -> Result<Extent, Failure> {
        let path = self.path.clone();
        self.run(move |connection| {
            let newest = |query: &str| -> rusqlite::Result<u64> {
                let number: i64 =
                    connection.prepare_cached(query)?.query_row([], |row| row.get(0))?;
                Ok(number as u64)
            };
            Ok(Extent {
                // That of the row that was made last, whatever was removed since.
                events: newest(
                    "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'",
                )?,
                audit_rows: newest("SELECT coalesce(max(sequence), 0) FROM audit")?,
                bytes: bytes(&path),
            })
        })
        .await
    }
}

/// The database and its write-ahead log.
fn bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [path, Path::new(&log)]
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum()
}
