//! The supervisor: every parser, policy and decision, and no privilege.
//!
//! Theory of operation. One thread runs everything but the store. At its start it hears from the
//! launcher what is already running ([`crate::link`]), opens the store, makes a task for each
//! installed plugin, takes over those that run and starts those that should; then it serves the
//! admin API. It can be killed at any moment: what it had promised is in the store, what it had
//! started is with the launcher.

mod api;
mod archives;
mod audit;
mod broker;
mod compartment;
mod denials;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod in_process;
mod launcher_link;
mod logs;
mod metrics;
mod plugin;
mod principal;
mod registry;
mod retention;
mod retry;
mod sampling;
mod schedule;
mod spans;
mod store;
mod usage;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use bulkhead_sandbox::descriptors::{ReceiveError, recv_with_fds};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clock::Monotonic;
use crate::config::Journald;
use crate::failure::Failure;
use crate::id::PluginId;
use crate::journal::{self, Journal};
use crate::link::{
    self, Adopted, Exited, LinkError, MAX_DESCRIPTORS, MAX_PACKET, Message, Request, Settings,
};
pub(crate) use api::LOG_SEQUENCE;
use archives::Archives;
use audit::{Action, Operation};
use denials::Denials;
use events::Events;
use launcher_link::Launcher;
use plugin::Command;
pub(crate) use plugin::files_of;
use principal::Principal;
#[cfg(debug_assertions)]
pub(crate) use registry::points as pause_points;
use registry::{LocalJob, Recovered, Registry, Resumed};
use store::Store;

/// Now, as RFC 3339 in UTC with milliseconds.
pub(crate) fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// How long a shutdown waits until what runs of schedules came to is written down.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(2);

/// Why the supervisor cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("the link to the launcher: {0}")]
    Link(#[from] LinkError),
    #[error("the runtime: {0}")]
    Runtime(#[from] std::io::Error),
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("the launcher began with {0}, not with a welcome")]
    NoWelcome(String),
    #[error(transparent)]
    Unconfined(#[from] compartment::Unconfined),
}

/// The role `bulkhead supervise`; `link` is its end of the link to the launcher. Called while the process has
/// one thread.
pub(crate) fn run(link: OwnedFd) -> ExitCode {
    // Each error is told while the link is open: the launcher kills a supervisor that has closed it.
    let outcome = welcomed(&link).inspect_err(Fatal::tell).and_then(|welcome| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Fatal::from).inspect_err(Fatal::tell)?;
        LocalSet::new().block_on(&runtime, async {
            let launcher = Launcher::new(link).map_err(Fatal::from).inspect_err(Fatal::tell)?;
            serve(launcher.clone(), welcome).await.inspect_err(Fatal::tell)
        })
    });
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Hears from the launcher what it needs to confine itself, and does. Only then is anything read that a
/// stranger wrote, and the runtime made, which has threads.
fn welcomed(link: &OwnedFd) -> Result<Welcome, Fatal> {
    let packet =
        recv_with_fds(link.as_fd(), MAX_PACKET, MAX_DESCRIPTORS).map_err(|error| match error {
            ReceiveError::Closed => LinkError::Closed,
            other => LinkError::Io(std::io::Error::other(other)),
        })?;
    let mut descriptors = packet.descriptors.into_iter();
    let (mut settings, listener) = match (link::decode(&packet.data)?, descriptors.next()) {
        (Message::Welcome(settings), Some(listener)) => (settings.0, listener),
        (other, _) => return Err(Fatal::NoWelcome(format!("{other:?}"))),
    };
    // No socket can be made for it afterwards.
    let journal = journal(settings.logs.journald);
    let compartment = compartment::enter(&settings)?;
    settings.machine["supervisor"] = serde_json::json!(compartment);
    let kernel_audit = descriptors.next();
    Ok(Welcome { settings: Arc::new(settings), listener, kernel_audit, journal })
}

/// systemd's journal, where what plugins write goes there too.
fn journal(wanted: Journald) -> Option<Arc<Journal>> {
    let wanted = match wanted {
        Journald::Auto => journal::has_our_output(),
        Journald::On => true,
        Journald::Off => false,
    };
    let opened = wanted.then(Journal::open)?;
    opened.inspect_err(|error| tracing::error!(%error, "no journal for plugins")).ok().map(Arc::new)
}

impl Fatal {
    fn tell(&self) {
        // Without a launcher nobody is left to be told.
        if !matches!(self, Fatal::Link(LinkError::Closed)) {
            tracing::error!(error = %self, "the supervisor ends");
        }
    }
}

/// What the launcher tells a supervisor that starts, first.
struct Welcome {
    settings: Arc<Settings>,
    listener: OwnedFd,
    kernel_audit: Option<OwnedFd>,
    journal: Option<Arc<Journal>>,
}

/// What there is already.
struct Inherited {
    running: BTreeMap<PluginId, (Box<Adopted>, Vec<OwnedFd>)>,
    exits: Vec<(Box<Exited>, Vec<OwnedFd>)>,
}

async fn serve(launcher: Launcher, welcome: Welcome) -> Result<(), Fatal> {
    let life = Monotonic::now();
    let inherited = inherit(&launcher).await?;
    let settings = welcome.settings;
    let _heart = tokio::task::spawn_local(beat(launcher.clone(), Arc::clone(&settings)));
    let store = Store::open(&settings.state.join("bulkhead.db"))?;
    let events = Events::new(store.clone());
    let (local, mut jobs) = mpsc::unbounded_channel::<LocalJob>();
    tokio::task::spawn_local(async move {
        while let Some(job) = jobs.recv().await {
            job();
        }
    });
    let archives = Archives::open(settings.state.join("archives"), settings.archives_limit)?;
    let registry = Registry::new(
        launcher.clone(),
        store,
        events,
        Arc::clone(&settings),
        archives,
        Denials::new(welcome.kernel_audit.is_some()),
        local,
    );
    let registry = Arc::new(registry.with_journal(welcome.journal));
    if let Some(stream) = welcome.kernel_audit {
        denials::listen(&registry, stream)?;
    }
    // From here on replies must be heard, so the link is listened to beside what follows.
    let (told, mut news) = mpsc::unbounded_channel();
    let listening = launcher.clone();
    tokio::task::spawn_local(async move {
        loop {
            let message = listening.next().await;
            let over = message.is_err();
            if told.send(message).is_err() || over {
                break;
            }
        }
    });
    let recovered = registry.recover().await?;
    let version = serde_json::json!({ "version": env!("CARGO_PKG_VERSION") });
    registry.audit.service(Action::ServiceStarted, version).await;
    let anchored = registry.audit.clone().keep_anchored(launcher.clone());
    tokio::spawn(anchored);
    tokio::spawn(registry.audit.clone().keep_trust_recorded(launcher.clone()));
    tokio::spawn(Arc::clone(&registry).keep_within_retention());
    let starting = take_over(&registry, recovered, inherited.running, inherited.exits).await?;
    tokio::spawn(api::serve(welcome.listener, Arc::clone(&registry))?);
    launcher.ask_done(Request::Ready).await?;
    let starter = Arc::clone(&registry);
    tokio::spawn(async move { starter.start_wanted(starting).await });
    tokio::spawn(sampling::run(Arc::clone(&registry), life));
    tokio::task::spawn_local(schedule::run(Arc::clone(&registry)));
    tokio::spawn(Arc::clone(&registry).pass_events_on());
    let (over, mut ended) = mpsc::channel(1);
    loop {
        let message = tokio::select! {
            message = news.recv() => message.unwrap_or(Err(LinkError::Closed))?,
            _ = ended.recv() => return Ok(()),
        };
        match message.value {
            Message::Exited(exited) => pass_on(&registry, exited, message.descriptors),
            Message::Shutdown { budget } => {
                let (registry, over) = (Arc::clone(&registry), over.clone());
                tokio::task::spawn_local(async move {
                    let budget_ms = serde_json::json!({ "budgetMs": budget.as_millis() as u64 });
                    // The budget has begun, whatever the disk takes.
                    tokio::join!(
                        registry.audit.service(Action::ServiceStopping, budget_ms),
                        registry.shut_down(budget)
                    );
                    // What ran was drained with its plugin.
                    let _ = tokio::time::timeout(SETTLING, registry.schedules.settle()).await;
                    registry.events.flush().await;
                    if let Err(failure) = registry.audit.anchor(&registry.launcher).await {
                        tracing::error!(%failure, "the end of the audit is not anchored");
                    }
                    if let Err(error) = registry.launcher.tell(Request::Bye).await {
                        tracing::warn!(%error, "the launcher did not hear the goodbye");
                    }
                    let _ = over.send(()).await;
                });
            }
            other => tracing::warn!(?other, "the launcher said what was not expected now"),
        }
    }
}

/// Hears what runs, up to [`Message::Current`].
async fn inherit(launcher: &Launcher) -> Result<Inherited, Fatal> {
    let mut inherited = Inherited { running: BTreeMap::new(), exits: Vec::new() };
    loop {
        let message = launcher.next().await?;
        match message.value {
            Message::Adopt(adopted) => {
                inherited.running.insert(adopted.id.clone(), (adopted, message.descriptors));
            }
            Message::Exited(exited) => inherited.exits.push((exited, message.descriptors)),
            Message::Current => return Ok(inherited),
            other => return Err(Fatal::NoWelcome(format!("{other:?}"))),
        }
    }
}

/// Tells the launcher that the loop turns; ends with the link.
async fn beat(launcher: Launcher, settings: Arc<Settings>) {
    let mut interval = tokio::time::interval(settings.heartbeat);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if launcher.tell(Request::Heartbeat).await.is_err() {
            return;
        }
    }
}

/// Makes the tasks of all installed plugins and gives each what was inherited for it. Returns
/// those that are wanted and do not run. One bad plugin does not keep the others from their start.
async fn take_over(
    registry: &Arc<Registry>,
    mut recovered: Recovered,
    mut running: BTreeMap<PluginId, (Box<Adopted>, Vec<OwnedFd>)>,
    exits: Vec<(Box<Exited>, Vec<OwnedFd>)>,
) -> Result<Vec<Start>, Failure> {
    let mut starting = Vec::new();
    registry.sweep().await?;
    for operation in recovered.removals() {
        if let Some(row) = &operation.plan.from {
            registry.show_uninstalling(row.clone(), None);
        }
    }
    for row in registry.store.plugins().await? {
        let removal = recovered.uninstall(&row.id);
        if removal.is_some_and(|operation| !operation.needs_task()) {
            // Its process, if any, is stopped below.
            continue;
        }
        let (id, wanted) = (row.id.clone(), row.enabled && removal.is_none());
        let enabling = recovered.is_enabling(&id);
        // What runs in another version is what an upgrade that is undone had started: it is not
        // heard any more, as what it writes is not to be kept, and is stopped below.
        let adopted = match running.remove(&id) {
            Some((adopted, _)) if adopted.digest != row.digest => {
                running.insert(id.clone(), (adopted, Vec::new()));
                None
            }
            other => other,
        };
        let generation = adopted.as_ref().map(|(adopted, _)| adopted.spawned.generation);
        let manifest = match registry.manifest(&row) {
            Ok(manifest) => Arc::new(manifest),
            Err(failure) => {
                registry.set_aside(row, failure);
                // Nobody could manage it: it is stopped below.
                running.extend(adopted.map(|adopted| (id, adopted)));
                continue;
            }
        };
        let handle = match registry.register(row.clone(), manifest, generation).await {
            Ok(handle) => handle,
            Err(failure) => {
                registry.set_aside(row, failure);
                running.extend(adopted.map(|adopted| (id, adopted)));
                continue;
            }
        };
        match adopted {
            Some((adopted, descriptors)) => {
                let again = adopted.stopping && wanted;
                let _ = handle.commands.send(Command::Adopt(adopted, descriptors));
                if again || enabling {
                    let how = if again { How::Again } else { How::Fresh };
                    starting.push(Start { resumed: recovered.take_enabling(&id), id, how });
                }
            }
            None if wanted || enabling => {
                let another = running.contains_key(&id);
                let how = if another { How::AfterAnother } else { How::Fresh };
                starting.push(Start { resumed: recovered.take_enabling(&id), id, how });
            }
            None => {}
        }
    }
    for (id, (adopted, _)) in running {
        tracing::error!(plugin = %id, "runs and cannot be managed; it is stopped");
        registry.expect_end(&id);
        let now = std::time::Duration::ZERO;
        let generation = adopted.spawned.generation;
        let stop = Request::Stop { id, generation, term_in: now, kill_in: now };
        registry.launcher.ask_done(stop).await?;
    }
    for (exited, descriptors) in exits {
        pass_on(registry, exited, descriptors);
    }
    registry.give_up_enabling(&mut recovered);
    registry.go_on_uninstalling(recovered);
    Ok(starting)
}

/// Gives an exit to its plugin's task; one that nobody waits for is acknowledged here.
fn pass_on(registry: &Arc<Registry>, exited: Box<Exited>, descriptors: Vec<OwnedFd>) {
    registry.note_end(&exited.id);
    if let Some(handle) = registry.find(&exited.id) {
        let _ = handle.commands.send(Command::Exited(exited, descriptors));
        return;
    }
    let registry = Arc::clone(registry);
    tokio::task::spawn_local(async move {
        let (id, generation) = (exited.id.clone(), exited.generation);
        let _ = registry.launcher.ask_done(Request::Acknowledge { id, generation }).await;
        registry.retry_unfinished(&exited.id);
    });
}

/// A plugin that is wanted and does not run, or not as it should.
struct Start {
    id: PluginId,
    how: How,
    /// What had begun to enable it.
    resumed: Option<Resumed>,
}

enum How {
    /// Nothing of it runs.
    Fresh,
    /// Another version of it is being stopped.
    AfterAnother,
    /// It runs and was asked to stop, by what is undone or was to start it again.
    Again,
}

impl Registry {
    /// Starts what the operator wants to be enabled.
    async fn start_wanted(self: Arc<Self>, wanted: Vec<Start>) {
        let mut starts = tokio::task::JoinSet::new();
        for Start { id, how, resumed } in wanted {
            let registry = Arc::clone(&self);
            starts.spawn(async move {
                match how {
                    How::Fresh => {}
                    How::AfterAnother => registry.wait_for_end(&id).await,
                    How::Again => registry.bring_down(&id).await,
                }
                if let Some(resumed) = resumed {
                    if let Err(failure) = registry.go_on_enabling(resumed).await {
                        tracing::error!(plugin = %id, %failure, "not enabled, and as it was before");
                    }
                    return;
                }
                registry.start_one(&id).await;
            });
        }
        while starts.join_next().await.is_some() {}
    }

    async fn start_one(self: &Arc<Self>, id: &PluginId) {
        let plugin = id.clone();
        let enabled = Operation::new(Principal::service(), Action::Enable)
            .about(id)
            .run(self, |registry, principal| async move {
                registry.enable(&plugin, None, &principal).await
            })
            .await;
        let Err(failure) = enabled else { return };
        tracing::error!(plugin = %id, %failure, "not started");
        // What was refused before it came to a start has been told to nobody yet.
        let told = self.find(id).and_then(|handle| handle.view().last_failure);
        if told.as_ref() != Some(&failure) {
            let body = serde_json::json!({ "error": failure });
            self.events.emit("plugin:error", id, body);
        }
    }
}
