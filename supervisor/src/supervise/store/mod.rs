//! The store: SQLite in WAL mode, behind one thread.
//!
//! Theory of operation. Every piece of work is a closure that gets a transaction. The thread takes
//! all that is queued, runs each in a savepoint of one transaction, commits once (`synchronous =
//! FULL`, so what is acknowledged survives a power cut) and only then answers. A closure that
//! fails rolls its own savepoint back and leaves its neighbours alone; a commit that fails fails
//! them all, and the file keeps what it had.

mod audit;
mod events;
mod extent;
#[cfg(test)]
mod golden_tests;
mod history;
#[cfg(test)]
mod history_tests;
mod journal;
#[cfg(test)]
mod journal_tests;
mod plugins;
mod reserve;
mod schedules;
mod share;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::failure::{Code, Failure};

pub(crate) use audit::{AuditRow, Kind, NewAuditRow};
pub(crate) use events::Recorded;
pub(crate) use extent::Extent;
pub(crate) use history::{Step, Used};
pub(crate) use journal::OpenOperation;
pub(crate) use plugins::{PluginRow, Previous};
use reserve::Reserve;
pub(crate) use schedules::{Run, RunEnd, RunOutcome, ScheduleKey};
pub(crate) use share::Share;
pub(crate) use state::{Page, Part};

/// The migrations, in order: the store is at version n after the n-th.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_v1.sql"),
    include_str!("schema_v2.sql"),
    include_str!("schema_v3.sql"),
    include_str!("schema_v4.sql"),
    include_str!("schema_v5.sql"),
    include_str!("schema_v6.sql"),
];
/// Why a write failed, in the failure's details.
const DISK_FULL: &str = "disk-full";
/// How many closures share one commit at the most.
const MAX_BATCH: usize = 256;

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Box<dyn Job>>,
    path: PathBuf,
    reserve: Reserve,
    /// How many calls of plugins may be under way.
    calls: Arc<Semaphore>,
    /// The newest row of the audit that was written since the start.
    audited: watch::Sender<u64>,
}

/// One closure with its answer, apart so that the answer is given after the commit.
trait Job: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), Failure>;
    fn answer(self: Box<Self>, committed: Result<(), Failure>);
}

struct Work<T, F> {
    function: Option<F>,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F> Job for Work<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), Failure> {
        if let Some(function) = self.function.take() {
            self.result = Some(function(connection)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Failure>) {
        let Self { result, answer, .. } = *self;
        let result =
            committed.and_then(|()| result.ok_or_else(|| Failure::internal("a job had no result")));
        // The asker may be gone; what it asked for is done all the same.
        let _ = answer.send(result);
    }
}

impl Store {
    /// Opens the store at `path`, making or migrating it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error| failed(path, &error);
        let mut connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch(
                // 512 KiB of page cache, not 2 MiB: what is read is small, and the kernel caches it too.
                // What a savepoint puts back, or a sort holds, is kept in memory: else SQLite makes a
                // file in /var/tmp or /tmp as soon as it is long, which our compartment forbids.
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA busy_timeout = 5000; PRAGMA secure_delete = ON;
                 PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;",
            )
            .map_err(failed)?;
        migrate(&mut connection, path, MIGRATIONS)?;
        let (jobs, queue) = mpsc::channel();
        let thread_path = path.to_owned();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&mut connection, &queue, &thread_path))
            .map_err(|e| Failure::internal(format!("the store's thread did not start: {e}")))?;
        let reserve = Reserve::open(path);
        let calls = Arc::new(Semaphore::new(share::OF_ALL));
        Ok(Self { jobs, path: path.to_owned(), reserve, calls, audited: watch::Sender::new(0) })
    }

    /// Whether it is worth to try again what failed so: the disk is full, and some room was kept for
    /// that. Only for what makes room, and only when nothing is left that would take it at once.
    pub(crate) fn has_made_room(&self, failure: &Failure) -> bool {
        failure.details["reason"] == DISK_FULL && self.reserve.release()
    }

    /// Keeps room again, where there is some.
    pub(crate) fn keep_room(&self) {
        self.reserve.refill();
    }

    /// Runs `work` and answers when it is committed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = self.path.clone();
        self.run_checked(move |connection| work(connection).map_err(|e| failed(&path, &e))).await
    }

    /// Like [`run`](Self::run), for work that may refuse for reasons of its own.
    async fn run_checked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || {
            Failure::new(Code::StorageFailed, "the store has stopped; see the log for why")
                .with("path", &self.path)
        };
        let job = Work { function: Some(work), result: None, answer };
        self.jobs.send(Box::new(job)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// A sequence number that a client names, as the store compares it: beyond all that it can give out,
/// where it is beyond.
fn beyond(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn failed(path: &Path, error: &rusqlite::Error) -> Failure {
    let remedy = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "free space there; what was stored before is kept",
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            "the file is left as it is: move it away, or restore a backup"
        }
        _ => "what was stored before is kept",
    };
    let failure = Failure::new(
        Code::StorageFailed,
        format!("the store {} failed: {error}; {remedy}", path.display()),
    )
    .with("path", path);
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => failure.with("reason", DISK_FULL),
        _ => failure,
    }
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), Failure> {
    let version: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(|e| failed(path, &e))? as usize;
    if version > migrations.len() {
        return Err(Failure::new(
            Code::StorageFailed,
            format!(
                "the store {} is of version {version}, newer than the {} that this bulkhead knows; \
                 install the newer bulkhead again, or restore a backup",
                path.display(),
                migrations.len()
            ),
        )
        .with("path", path));
    }
    for (index, migration) in migrations.iter().enumerate().skip(version) {
        step_up(connection, migration, index as i64 + 1).map_err(|e| failed(path, &e))?;
    }
    Ok(())
}

fn step_up(connection: &mut Connection, migration: &str, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// The store's thread: ends when the last handle is dropped.
fn serve(connection: &mut Connection, queue: &mpsc::Receiver<Box<dyn Job>>, path: &Path) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let mut results = Vec::with_capacity(batch.len());
        let committed = commit(connection, path, &mut batch, &mut results);
        for (job, result) in batch.into_iter().zip(results.into_iter().map(Some).chain(
            // A transaction that did not even begin has no results: all get its error.
            std::iter::repeat_with(|| None),
        )) {
            job.answer(match (&committed, result) {
                (Ok(()), Some(result)) => result,
                (Err(failure), _) => Err(failure.clone()),
                (Ok(()), None) => Err(Failure::internal("a job was not run")),
            });
        }
    }
}

fn commit(
    connection: &mut Connection,
    path: &Path,
    batch: &mut [Box<dyn Job>],
    results: &mut Vec<Result<(), Failure>>,
) -> Result<(), Failure> {
    let failed = |error: rusqlite::Error| failed(path, &error);
    let mut transaction = connection.transaction().map_err(failed)?;
    for job in batch {
        let savepoint = transaction.savepoint().map_err(failed)?;
        let result = job.run(&savepoint);
        if result.is_ok() {
            savepoint.commit().map_err(failed)?;
        } else {
            drop(savepoint);
        }
        if transaction.is_autocommit() {
            // A full disk or a failed read ends the whole transaction, with what the jobs before
            // this one did; those after it would run outside of any.
            return Err(result.err().unwrap_or_else(|| {
                Failure::internal("a job ended the transaction that it shares with others")
            }));
        }
        results.push(result);
    }
    transaction.commit().map_err(failed)
}
