//! One operation, from its request to its record.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use super::entry::{Action, Entry, Outcome};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::plugin::PluginHandle;
use crate::supervise::principal::Principal;
use crate::supervise::registry::Registry;
use crate::supervise::store::Kind;

/// How long after its end what has a deadline waits for its record.
const FOR_THE_RECORD: Duration = Duration::from_secs(10);

/// An operation that somebody asks for.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    entry: Entry,
}

impl Operation {
    pub(crate) fn new(principal: Principal, action: Action) -> Self {
        Self { entry: Entry::new(principal, action, Outcome::Begun) }
    }

    /// The plugin that it is about, where that is known beforehand.
    pub(crate) fn about(self, plugin: &PluginId) -> Self {
        Self { entry: self.entry.about(plugin) }
    }

    /// Adds a detail: never a payload, a value of a configuration, or a secret.
    pub(crate) fn with(self, key: &str, value: impl Serialize) -> Self {
        Self { entry: self.entry.with(key, value) }
    }

    /// Carries it out, to its end even if the client that asked for it goes away meanwhile.
    ///
    /// STORAGE_FAILED: the audit cannot be written, so it was not begun; or it was done, which the
    /// message then says.
    pub(crate) async fn run<T, F>(
        self,
        registry: &Arc<Registry>,
        work: impl FnOnce(Arc<Registry>, Principal) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.run_about(registry, work, |_| None).await
    }

    /// The same, where only the result says which plugin it was about.
    pub(crate) async fn run_about<T, F>(
        self,
        registry: &Arc<Registry>,
        work: impl FnOnce(Arc<Registry>, Principal) -> F,
        about: impl FnOnce(&T) -> Option<Subject> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.run_unless(registry, work, about, std::future::pending()).await
    }

    /// Carries it out for as long as whoever asked is there: a call that nobody waits for is given up.
    pub(crate) async fn run_while_wanted<T, F>(
        self,
        registry: &Arc<Registry>,
        work: impl FnOnce(Arc<Registry>, Principal) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        // Dropped with the request.
        let (_wanted, unwanted) = oneshot::channel::<()>();
        let given_up = async { unwanted.await.unwrap_or_default() };
        self.run_unless(registry, work, |_| None, given_up).await
    }

    async fn run_unless<T, F>(
        self,
        registry: &Arc<Registry>,
        work: impl FnOnce(Arc<Registry>, Principal) -> F,
        about: impl FnOnce(&T) -> Option<Subject> + Send + 'static,
        given_up: impl Future<Output = ()> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let urgent = self.entry.action == Action::Disable;
        let begun = if urgent { None } else { self.begin(registry).await? };
        let work = work(Arc::clone(registry), self.entry.principal.clone());
        let registry = Arc::clone(registry);
        let task = tokio::spawn(async move {
            if urgent {
                return self.run_beside_its_record(registry, work).await;
            }
            tokio::select! {
                result = work => {
                    let subject = result.as_ref().ok().and_then(about);
                    let recorded = self.record(&registry, begun, subject, Outcome::of(&result)).await;
                    told(self.entry.action, result, recorded)
                }
                () = given_up => Err(self.cancel(&registry, begun).await),
            }
        });
        task.await
            .unwrap_or_else(|error| Err(Failure::internal(format!("an operation ended: {error}"))))
    }

    /// Carries out what has a deadline: it waits for no disk, and its answer not for ever. What is not
    /// recorded by then is once it can be.
    async fn run_beside_its_record<T>(
        self,
        registry: Arc<Registry>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let action = self.entry.action;
        let path = registry.settings.state.clone();
        let (over, outcome) = oneshot::channel();
        let recording = tokio::spawn(async move {
            let begun = self.begin(&registry).await?;
            match outcome.await {
                Ok(outcome) => self.record(&registry, begun, None, outcome).await,
                // Its task was ended, as that of the supervisor's end is.
                Err(_) => Ok(()),
            }
        });
        let result = work.await;
        let _ = over.send(Outcome::of(&result));
        let recorded = match tokio::time::timeout(FOR_THE_RECORD, recording).await {
            Ok(recorded) => recorded.unwrap_or_else(|error| Err(Failure::internal(error))),
            Err(_) => Err(Failure::new(
                Code::StorageFailed,
                format!(
                    "the disk has not taken it within {} s; see what else writes there. It is recorded \
                     once it can be",
                    FOR_THE_RECORD.as_secs()
                ),
            )
            .with("path", path)),
        };
        told(action, result, recorded)
    }

    /// Nobody is left to be answered.
    async fn cancel(self, registry: &Registry, begun: Option<u64>) -> Failure {
        let end = Entry { outcome: Outcome::Cancelled, begun, ..self.entry };
        let kind = begun.map_or(Kind::Single, Kind::End);
        if let Err(failure) = registry.store.append_audit(end.row(kind)).await {
            tracing::error!(%failure, "a call that was given up is not in the audit");
        }
        Failure::new(Code::Conflict, "whoever asked has gone away")
    }

    async fn begin(&self, registry: &Registry) -> Result<Option<u64>, Failure> {
        let action = self.entry.action;
        let mut begun = registry.store.append_audit(self.entry.clone().row(Kind::Begin)).await;
        // A plugin that is to be disabled may still fill the disk: what is kept is for afterwards.
        if let Err(failure) = &begun
            && makes_room(action)
            && action != Action::Disable
            && registry.store.has_made_room(failure)
        {
            begun = registry.store.append_audit(self.entry.clone().row(Kind::Begin)).await;
        }
        match begun {
            Ok(head) => Ok(Some(head.sequence)),
            // A store that cannot be written must not keep a plugin running: it may be the very
            // plugin that filled the disk. Nor what could be removed to make room again.
            Err(failure) if matches!(action, Action::Disable | Action::RemoveArchive) => {
                tracing::error!(%failure, ?action, "it is done without a record of who asked");
                Ok(None)
            }
            Err(failure) => Err(Failure {
                message: format!(
                    "not done, as it could not be recorded in the audit: {}",
                    failure.message
                ),
                ..failure
            }),
        }
    }

    /// Writes down how it came out.
    async fn record(
        &self,
        registry: &Registry,
        begun: Option<u64>,
        subject: Option<Subject>,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let action = self.entry.action;
        let done = outcome == Outcome::Done;
        let mut end = Entry { outcome, begun, ..self.entry.clone() };
        if let Some(Subject { plugin, version, granted }) = subject {
            end = end.about(&plugin).with("version", version).with("granted", granted);
        }
        let kind = match begun {
            None => Kind::Single,
            Some(begun) if action == Action::Uninstall && done => Kind::Farewell(begun),
            Some(begun) => Kind::End(begun),
        };
        let mut recorded = registry.store.append_audit(end.clone().row(kind)).await;
        if let Err(failure) = &recorded
            && makes_room(action)
            && registry.store.has_made_room(failure)
        {
            recorded = registry.store.append_audit(end.row(kind)).await;
        }
        recorded.map(drop)
    }
}

/// What whoever asked is told.
fn told<T>(
    action: Action,
    result: Result<T, Failure>,
    recorded: Result<(), Failure>,
) -> Result<T, Failure> {
    match (result, recorded) {
        (result, Ok(())) => result,
        (Err(failure), Err(unrecorded)) => {
            tracing::error!(?action, failure = %unrecorded, "its end is not in the audit");
            Err(failure)
        }
        (Ok(_), Err(failure)) => Err(Failure {
            message: format!(
                "done, but its end could not be recorded in the audit: {}",
                failure.message
            ),
            ..failure
        }),
    }
}

/// Whether it frees what a full disk needs.
fn makes_room(action: Action) -> bool {
    matches!(action, Action::Disable | Action::Uninstall | Action::RemoveArchive)
}

/// What an operation turned out to be about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    plugin: PluginId,
    version: String,
    granted: Vec<String>,
}

impl Subject {
    pub(crate) fn of(handle: &PluginHandle) -> Self {
        let granted = handle.view().granted.permissions;
        Self {
            plugin: handle.manifest.id.clone(),
            version: handle.manifest.version.to_string(),
            granted: granted.iter().map(ToString::to_string).collect(),
        }
    }
}
