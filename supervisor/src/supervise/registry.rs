//! All installed plugins, and the operations that concern more than one of them.
//!
//! Theory of operation. Each plugin is a task of its own; this is the table of their handles and
//! the order among them: dependencies are enabled first and dependents disabled first. What changes
//! which plugins there are is an [`operation`], journalled, with an undo for each step; one at a time on
//! each plugin.

mod admission;
mod broken;
mod configuring;
mod enabling;
mod guarding;
mod install;
mod leaving;
mod losses;
mod operation;
mod options;
mod order;
mod orphans;
mod permitting;
mod preserving;
mod publishing;
mod review;
mod routing;
mod source;
mod trees;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_sandbox::probe::Machine;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::archives::Archives;
use super::audit::Audit;
use super::denials::Denials;
use super::events::Events;
use super::launcher_link::Launcher;
use super::logs::{Book, Dropped, Journalled, Rate, Rules, finish_spools};
use super::metrics::Metrics;
use super::plugin::{
    self, Command, Context, Given, PluginHandle, StopOptions, StopReport, Stopping,
};
use super::schedule::Schedules;
use super::spans::Spans;
use super::store::{PluginRow, Store};
use crate::capacity::Demand;
use crate::exposure::Exposure;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::journal::Journal;
use crate::link::Settings;
use crate::manifest::Manifest;

pub(crate) use super::plugin::DisableRequest;
pub(crate) use broken::Broken;
pub(crate) use guarding::{at_its_end, tell_circuit};
pub(crate) use install::Installed;
#[cfg(debug_assertions)]
pub(crate) use operation::points;
pub(super) use operation::{DISABLE, Moment, WANT, pause};
pub(crate) use operation::{Recovered, Remainder, Resumed};
pub(crate) use options::InstallOptions;
pub(crate) use permitting::Permissions;
pub(crate) use publishing::Delivery;
pub(crate) use review::{Grant, Review};
#[cfg(any(test, fuzzing))]
pub(crate) use routing::refused;
pub(crate) use source::Source;

/// Something that must run inside the local set, where the plugins' tasks live.
pub(crate) type LocalJob = Box<dyn FnOnce() + Send>;

pub(crate) struct Registry {
    pub(crate) launcher: Launcher,
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) audit: Audit,
    pub(crate) settings: Arc<Settings>,
    /// What this machine was found to enforce.
    machine: Option<Machine>,
    /// What is counted and sampled.
    pub(crate) metrics: Metrics,
    pub(crate) schedules: Schedules,
    archives: Archives,
    journal: Option<Arc<Journal>>,
    pub(crate) spans: Spans,
    pub(crate) denials: Arc<Denials>,
    local: mpsc::UnboundedSender<LocalJob>,
    /// Events that did not arrive.
    losses: losses::Losses,
    plugins: Mutex<BTreeMap<PluginId, PluginHandle>>,
    /// Those that are installed and have no task.
    broken: Mutex<BTreeMap<PluginId, Broken>>,
    /// Those that are being started, by what they may use.
    admitted: Mutex<BTreeMap<PluginId, Demand>>,
    turns: Arc<operation::Turns>,
    /// Operations that could be neither done nor undone yet.
    unfinished: operation::Unfinished,
    trees: trees::HeldTrees,
    /// Plugins of which a process is still there that nobody manages: their start waits for its end.
    leaving: watch::Sender<BTreeSet<PluginId>>,
    closing: AtomicBool,
}

impl Registry {
    /// With systemd's journal, for what plugins write.
    pub(crate) fn with_journal(self, journal: Option<Arc<Journal>>) -> Self {
        Self { journal, ..self }
    }

    pub(crate) fn new(
        launcher: Launcher,
        store: Store,
        events: Events,
        settings: Arc<Settings>,
        archives: Archives,
        denials: Arc<Denials>,
        local: mpsc::UnboundedSender<LocalJob>,
    ) -> Self {
        let metrics = Metrics::default();
        Self {
            launcher,
            audit: Audit::new(store.clone()),
            store,
            events,
            machine: serde_json::from_value(settings.machine.clone()).ok(),
            spans: Spans::new(&settings.tracing),
            settings,
            schedules: Schedules::default(),
            archives,
            denials,
            local,
            losses: losses::Losses::new(metrics.clone()),
            metrics,
            journal: None,
            plugins: Mutex::default(),
            broken: Mutex::default(),
            admitted: Mutex::default(),
            turns: Arc::default(),
            unfinished: operation::Unfinished::default(),
            trees: trees::HeldTrees::default(),
            leaving: watch::Sender::default(),
            closing: AtomicBool::new(false),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<PluginId, PluginHandle>> {
        // Nothing that holds it can leave the table half changed.
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All plugins, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<PluginHandle> {
        self.table().values().cloned().collect()
    }

    pub(crate) fn find(&self, id: &PluginId) -> Option<PluginHandle> {
        self.table().get(id).cloned()
    }

    pub(crate) fn get(&self, id: &PluginId) -> Result<PluginHandle, Failure> {
        self.find(id).ok_or_else(|| match self.find_broken(id) {
            Some(broken) => broken.refusal(),
            None => not_installed(id),
        })
    }

    /// Makes the task of an installed plugin and puts it into the table.
    pub(crate) async fn register(
        self: &Arc<Self>,
        row: PluginRow,
        manifest: Arc<Manifest>,
        running: Option<u64>,
    ) -> Result<PluginHandle, Failure> {
        self.register_with(row, manifest, running, None).await
    }

    /// The same for a plugin whose log is open already.
    async fn register_with(
        self: &Arc<Self>,
        row: PluginRow,
        manifest: Arc<Manifest>,
        running: Option<u64>,
        book: Option<Book>,
    ) -> Result<PluginHandle, Failure> {
        let directory = self.log_directory(&row.id);
        let unusable = |error: std::io::Error| {
            Failure::new(
                Code::StorageFailed,
                format!("the log directory {} cannot be used: {error}", directory.display()),
            )
            .with("path", &directory)
        };
        let (book, fresh) = match book {
            Some(book) => (book, false),
            None => (Book::open(&directory, self.log_rules(&row.id)).map_err(unusable)?, true),
        };
        book.is_of(&row.version.to_string());
        if fresh {
            finish_spools(&book, running).map_err(unusable)?;
        }
        let context = Context {
            id: row.id.clone(),
            launcher: self.launcher.clone(),
            store: self.store.clone(),
            events: self.events.clone(),
            registry: Arc::clone(self),
            settings: Arc::clone(&self.settings),
            book,
            given: Given::default(),
        };
        let id = row.id.clone();
        let (made, making) = oneshot::channel();
        let job: LocalJob = Box::new(move || {
            let _ = made.send(plugin::spawn(context, row, manifest));
        });
        let ending = || Failure::new(Code::ShuttingDown, "the service is going down");
        self.local.send(job).map_err(|_| ending())?;
        let handle = making.await.map_err(|_| ending())?;
        self.table().insert(id.clone(), handle.clone());
        self.forget_broken(&id);
        Ok(handle)
    }

    pub(crate) fn log_directory(&self, id: &PluginId) -> std::path::PathBuf {
        self.settings.state.join("logs").join(id.as_str())
    }

    /// What the log of a plugin keeps, and who hears of a flood.
    fn log_rules(&self, id: &PluginId) -> Rules {
        let settings = self.settings.logs;
        let rate = Rate { lines: settings.lines_per_second, bytes: settings.bytes_per_second };
        let (events, flooding) = (self.events.clone(), id.clone());
        let on_flood = move |dropped: Dropped, limit: Rate| {
            let message = format!(
                "{flooding} writes more than its log keeps, {limit}: {} lines ({} bytes) were dropped so far; \
                 `bulkhead logs {flooding}` has what was kept, [logs] in bulkhead.toml the limit",
                dropped.lines, dropped.bytes
            );
            let body = json!({
                "code": "LOG_FLOOD",
                "message": message,
                "lines": dropped.lines,
                "bytes": dropped.bytes,
                "limit": { "linesPerSecond": limit.lines, "bytesPerSecond": limit.bytes },
            });
            events.emit("plugin:warning", &flooding, body);
        };
        Rules {
            rate: Some(rate),
            journal: self.journal.clone().map(|journal| Journalled::new(journal, id.as_str())),
            on_flood: Some(Box::new(on_flood)),
        }
    }

    /// How exposed the machine is to a plugin: measured if it runs, else expected.
    pub(crate) fn exposure(&self, handle: &PluginHandle) -> Exposure {
        match handle.view().process {
            Some(process) => {
                let granted = process.granted.manifest(&handle.manifest);
                Exposure::measured(&granted, &process.enforcement)
            }
            None => self.expected_exposure(&handle.view().granted.manifest(&handle.manifest)),
        }
    }

    /// The kernel's Landlock ABI, where it is known.
    pub(crate) fn landlock_abi(&self) -> Option<u32> {
        self.machine.as_ref().map(|machine| machine.landlock_abi)
    }

    fn expected_exposure(&self, manifest: &Manifest) -> Exposure {
        Exposure::expected(manifest, self.machine.as_ref())
    }

    /// The manifest of an installed plugin, from its tree in the store, with the administrator's limits.
    pub(crate) fn manifest(&self, row: &PluginRow) -> Result<Manifest, Failure> {
        let mut manifest = Manifest::load(&self.settings.store.join(row.digest.to_string()))?;
        if manifest.id != row.id || manifest.version != row.version {
            return Err(Failure::new(
                Code::IntegrityFailed,
                format!(
                    "the tree {} holds {} {}, not {} {} as installed; install it again",
                    row.digest, manifest.id, manifest.version, row.id, row.version
                ),
            )
            .with("expected", format!("{} {}", row.id, row.version))
            .with("found", format!("{} {}", manifest.id, manifest.version)));
        }
        self.settings.limits.fill(&mut manifest.limits);
        Ok(manifest)
    }

    fn check_open(&self) -> Result<(), Failure> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(Failure::new(Code::ShuttingDown, "the service is going down"));
        }
        Ok(())
    }

    pub(super) async fn disable_one(
        &self,
        handle: &PluginHandle,
        request: &DisableRequest,
        stays: bool,
    ) -> Result<StopReport, Failure> {
        let options = StopOptions::of(&self.settings, &handle.manifest, request);
        let stopping = Stopping::now(options);
        let (answer, answered) = oneshot::channel();
        let command = Command::Disable { stopping: stopping.clone(), stays, answer };
        handle.commands.send(command).map_err(|_| just_gone(handle))?;
        // Its task may be waiting for the disk, for which the deadline does not.
        if let Some(process) = handle.view().process {
            stopping.arm(&self.launcher, &handle.manifest.id, process.generation).await;
        }
        answered.await.map_err(|_| just_gone(handle))?
    }

    /// Disables all, dependents first, for the end of the service; what the operator wants stays.
    pub(crate) async fn shut_down(self: &Arc<Self>, budget: Duration) {
        self.closing.store(true, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + budget;
        for level in self.shutdown_levels() {
            let mut stops = tokio::task::JoinSet::new();
            for handle in level {
                let registry = Arc::clone(self);
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                stops.spawn(async move {
                    let orderly = DisableRequest::orderly("shutdown");
                    let request = DisableRequest { timeout: Some(left), ..orderly };
                    let id = handle.manifest.id.clone();
                    if let Err(failure) = registry.disable_one(&handle, &request, false).await {
                        tracing::error!(plugin = %id, %failure, "not stopped at the service's end");
                    }
                });
            }
            while stops.join_next().await.is_some() {}
        }
    }
}

async fn ask<T>(
    handle: &PluginHandle,
    command: Command,
    answered: oneshot::Receiver<Result<T, Failure>>,
) -> Result<T, Failure> {
    handle.commands.send(command).map_err(|_| just_gone(handle))?;
    answered.await.map_err(|_| just_gone(handle))?
}

/// Its task has ended.
fn just_gone(handle: &PluginHandle) -> Failure {
    let id = &handle.manifest.id;
    Failure::new(Code::NotFound, format!("{id} was just uninstalled"))
        .with("what", "plugin")
        .with("name", id)
}

/// There is no such plugin.
fn not_installed(id: &PluginId) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("no plugin {id} is installed; `bulkhead ls` shows those that are"),
    )
    .with("what", "plugin")
    .with("name", id)
}
