//! Plugins as the API shows them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bulkhead_sandbox::{Enforcement, Policy};
use semver::{Version, VersionReq};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

use crate::clock::Monotonic;
use crate::exposure::Exposure;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::manifest::secrets::blank;
use crate::manifest::{Limits, Line, Permission, ServiceName};
use crate::supervise::denials::Counted as Denial;
use crate::supervise::plugin::{Enforced, Kept, PluginHandle, STATES};
use crate::supervise::registry::{Broken, Registry, Remainder};
use crate::supervise::store::Previous;
use crate::supervise::usage::{self, LimitEvents, Stalls, Usage};

/// A plugin with all that is known of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    #[schema(value_type = String, example = "appointment-scheduler")]
    id: PluginId,
    #[schema(value_type = String, example = "1.0.0")]
    version: Version,
    #[schema(value_type = String)]
    name: Line,
    #[schema(value_type = String)]
    description: Line,
    #[schema(value_type = String)]
    author: Line,
    #[schema(value_type = String)]
    homepage: Line,
    #[schema(schema_with = states)]
    state: &'static str,
    /// What the operator wants: `enabled` or `disabled`.
    desired: &'static str,
    /// The SHA-256 that names its tree in the store.
    #[schema(value_type = String)]
    digest: Digest,
    /// RFC 3339, UTC.
    installed_at: String,
    /// The version before, which a rollback returns to.
    previous: Option<Previous>,
    /// What it asks for.
    #[schema(value_type = Vec<String>)]
    permissions: Vec<Permission>,
    /// What of that it may do.
    #[schema(value_type = Vec<String>)]
    granted: Vec<Permission>,
    /// The plugins that it needs, each with the versions that will do.
    #[schema(value_type = BTreeMap<String, String>)]
    dependencies: BTreeMap<PluginId, VersionReq>,
    /// The services that it provides.
    #[schema(value_type = Vec<String>)]
    provides: Vec<ServiceName>,
    /// What the operator gave, without the manifest's defaults.
    #[schema(value_type = Object)]
    config: Value,
    /// `[limits]` of the manifest; of disks the administrator's where it has none.
    #[schema(value_type = Object)]
    limits: Limits,
    /// The compartment as it is asked for: by the process that runs, else by the next one.
    #[schema(value_type = Object)]
    policy: Policy,
    process: Option<Process>,
    /// The compartment as it was measured after the start; null if nothing runs.
    #[schema(value_type = Option<Object>)]
    enforcement: Option<Enforcement>,
    /// How exposed the machine is to it, and why.
    exposure: Exposure,
    usage: Option<Usage>,
    /// What its limits did to it.
    limit_events: Option<LimitEvents>,
    /// How long its processes waited for what there was too little of.
    pressure: Option<Stalls>,
    /// What it keeps on disk now, of the `storage` of its limits; null in a list.
    storage: Option<Storage>,
    /// What it had used when it was last stopped: as `usage`, with the `time`.
    #[schema(value_type = Option<Object>)]
    last_usage: Option<Value>,
    /// Deaths and failed restarts in the restart policy's window.
    failures: usize,
    /// Health checks in a row that failed.
    failed_checks: u32,
    /// Whether other plugins' calls go to it.
    call_circuit: CallCircuit,
    /// How it last ended: `time`, `exit` with what it used at most, `explanation` with the setting that
    /// would change it, and `lastLogLines`, without secrets; or `lastLogLinesWithheld`, why there are none.
    #[schema(value_type = Option<Object>)]
    last_exit: Option<Value>,
    last_error: Option<Failure>,
    /// What seccomp, Landlock and the service itself refused to it under this supervisor, the last first;
    /// empty in a list.
    denials: Vec<Denial>,
    /// Why that cannot be told here of what runs, and what would make it so; null in a list.
    denials_unobservable: Option<String>,
    /// The plugins that depend on it and are not at rest; empty in a list.
    dependents: Vec<String>,
    /// An operation that could be neither done nor undone yet, and is tried again; null in a list.
    unfinished: Option<Remainder>,
}

/// A plugin that cannot be managed: what the store knows of it, and why.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokenPlugin {
    #[schema(value_type = String)]
    id: PluginId,
    #[schema(value_type = String)]
    version: Version,
    #[schema(schema_with = broken)]
    state: &'static str,
    /// What the operator wants: `enabled` or `disabled`.
    desired: &'static str,
    #[schema(value_type = String)]
    digest: Digest,
    /// RFC 3339, UTC.
    installed_at: String,
    /// What the operator gave, without the manifest's defaults.
    #[schema(value_type = Object)]
    config: Value,
    /// Always null: it does not run.
    process: Option<Process>,
    /// How it last ended: `time`, `exit` with what it used at most, `explanation` with the setting that
    /// would change it, and `lastLogLines`, without secrets; or `lastLogLinesWithheld`, why there are none.
    #[schema(value_type = Option<Object>)]
    last_exit: Option<Value>,
    /// Why it is broken; null while it is being uninstalled and nothing has failed.
    last_error: Option<Failure>,
}

/// A plugin, or what is known of one that is broken.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AnyPlugin)]
pub(super) enum Listed {
    Managed(Box<Plugin>),
    Broken(Box<BrokenPlugin>),
}

/// What a plugin keeps on disk.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storage {
    /// How the limit is enforced.
    enforcement: Enforced,
    /// The lower of its manifest's limit and the hard one.
    limit_bytes: u64,
    #[serde(flatten)]
    kept: Kept,
}

/// The circuit breaker before a plugin that others call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallCircuit {
    #[schema(schema_with = circuit_states)]
    state: &'static str,
    /// Calls in a row that were not answered; null once they have opened it.
    failures: Option<u32>,
    /// How long calls are refused at the most before one tries again; null while it is closed.
    retry_after_ms: Option<u64>,
}

impl CallCircuit {
    fn new(handle: &PluginHandle) -> Self {
        let circuit = handle.circuit();
        let wait = circuit.closed_to_calls(Monotonic::now());
        Self {
            state: circuit.name(),
            failures: circuit.failures(),
            retry_after_ms: wait.map(|wait| wait.as_millis() as u64),
        }
    }
}

/// The process of a plugin.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    /// Names this start, for ever.
    generation: u64,
    pid: i32,
    #[schema(value_type = Option<String>)]
    cgroup: Option<PathBuf>,
    /// RFC 3339, UTC; for a process that was taken over by a new supervisor, when it was.
    started_at: String,
    uptime_ms: u64,
}

impl Plugin {
    pub(super) fn new(handle: &PluginHandle, registry: &Registry) -> Self {
        let strict = registry.settings.strict;
        let (manifest, view) = (&handle.manifest, handle.view());
        let process = view.process.as_ref();
        let cgroup = process.and_then(|process| process.cgroup.as_deref());
        Self {
            id: view.id,
            version: manifest.version.clone(),
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            author: manifest.author.clone(),
            homepage: manifest.homepage.clone(),
            state: view.state,
            desired: if view.enabled { "enabled" } else { "disabled" },
            digest: view.digest,
            installed_at: view.installed_at,
            previous: view.previous,
            permissions: manifest.permissions.clone(),
            policy: process
                .map_or(&view.granted, |process| &process.granted)
                .policy(manifest, strict),
            granted: view.granted.permissions,
            dependencies: manifest.dependencies.clone(),
            provides: manifest.provides.keys().cloned().collect(),
            config: manifest.config.redacted(&view.config),
            limits: manifest.limits.clone(),
            process: process.map(|process| Process {
                generation: process.generation,
                pid: process.pid,
                cgroup: process.cgroup.clone(),
                started_at: process.started_at.clone(),
                uptime_ms: process.started.until(Monotonic::now()).as_millis() as u64,
            }),
            exposure: registry.exposure(handle),
            enforcement: process.map(|process| Enforcement::clone(&process.enforcement)),
            usage: cgroup.map(usage::read),
            limit_events: cgroup.map(LimitEvents::read),
            pressure: cgroup.map(Stalls::read),
            storage: None,
            last_usage: view.last_usage,
            failures: view.failures,
            failed_checks: view.failed_checks,
            call_circuit: CallCircuit::new(handle),
            last_exit: view.last_exit,
            last_error: view.last_failure,
            denials: Vec::new(),
            denials_unobservable: None,
            dependents: Vec::new(),
            unfinished: None,
        }
    }
}

impl Plugin {
    /// With what it keeps on disk, where that can be told.
    pub(super) async fn measured(handle: &PluginHandle, registry: &Registry) -> Self {
        let (id, limit) = (&handle.manifest.id, handle.manifest.limits.storage.bytes());
        let kept = Kept::measure(&registry.launcher, &registry.store, id).await;
        let storage = kept.ok().map(|kept| {
            let (enforcement, limit_bytes) = kept.bound(limit);
            Storage { enforcement, limit_bytes, kept }
        });
        let unfinished = registry.remainder(id);
        let shown = Self::new(handle, registry);
        let denials = registry.denials.of(id);
        let runs = shown.process.is_some();
        let denials_unobservable =
            runs.then(|| registry.denials.unobservable(id, registry.landlock_abi())).flatten();
        let dependents = registry.enabled_dependents(id);
        Self { storage, denials, denials_unobservable, dependents, unfinished, ..shown }
    }
}

impl BrokenPlugin {
    pub(super) fn new(broken: &Broken) -> Self {
        let row = broken.row.clone();
        Self {
            id: row.id,
            version: row.version,
            state: broken.state(),
            desired: if row.enabled { "enabled" } else { "disabled" },
            digest: row.digest,
            installed_at: row.installed_at,
            config: blank(&row.config),
            process: None,
            last_exit: row.last_exit,
            last_error: broken.failure.clone(),
        }
    }
}

impl Listed {
    pub(super) fn id(&self) -> &PluginId {
        match self {
            Self::Managed(plugin) => &plugin.id,
            Self::Broken(plugin) => &plugin.id,
        }
    }
}

impl From<Plugin> for Listed {
    fn from(plugin: Plugin) -> Self {
        Self::Managed(Box::new(plugin))
    }
}

impl From<BrokenPlugin> for Listed {
    fn from(plugin: BrokenPlugin) -> Self {
        Self::Broken(Box::new(plugin))
    }
}

/// The names of the states, as a schema.
pub(super) fn states() -> RefOr<Schema> {
    one_of("Where it is in its life.", &STATES)
}

fn circuit_states() -> RefOr<Schema> {
    one_of("What becomes of a call.", &["closed", "open", "half-open"])
}

fn broken() -> RefOr<Schema> {
    one_of("Its task could not be made.", &["broken", "uninstalling"])
}

fn one_of(description: &str, names: &[&str]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .description(Some(description))
        .enum_values(Some(names.iter().copied()))
        .into()
}
