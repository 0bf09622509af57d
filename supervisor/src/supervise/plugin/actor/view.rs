//! What others may see of a plugin.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_ipc_driver::Peer;
use bulkhead_sandbox::Enforcement;
use serde_json::Value;

use super::super::machine::State;
use super::super::plan::granted;
use super::super::process::{Exits, Process, exited_soon};
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::link::Exited;
use crate::manifest::Manifest;
use crate::supervise::registry::Grant;
use crate::supervise::store::{PluginRow, Previous};

/// A copy of what the plugin's task knows, as of its last step.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) id: PluginId,
    pub(crate) digest: Digest,
    pub(crate) installed_at: String,
    /// What a rollback returns to.
    pub(crate) previous: Option<Previous>,
    /// See [`State::name`](super::super::machine::State::name).
    pub(crate) state: &'static str,
    /// What the operator wants.
    pub(crate) enabled: bool,
    /// What the operator gave.
    pub(crate) config: Value,
    /// What the operator lets it do.
    pub(crate) granted: Grant,
    /// What it had used when it was last stopped.
    pub(crate) last_usage: Option<Value>,
    /// Deaths and failed restarts of the policy's window.
    pub(crate) failures: usize,
    /// Failed health checks in a row.
    pub(crate) failed_checks: u32,
    pub(crate) process: Option<ProcessView>,
    pub(crate) last_exit: Option<Value>,
    pub(crate) last_failure: Option<Failure>,
}

#[derive(Clone)]
pub(crate) struct ProcessView {
    pub(crate) generation: u64,
    pub(crate) pid: i32,
    pub(crate) started: Monotonic,
    pub(crate) started_at: String,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) enforcement: Arc<Enforcement>,
    /// What it was started with; for one that was taken over, what is granted since.
    pub(crate) granted: Arc<Grant>,
    pub(crate) peer: Peer,
    exits: Exits,
}

impl View {
    pub(super) fn new(row: &PluginRow, manifest: &Manifest) -> Self {
        Self {
            id: row.id.clone(),
            digest: row.digest,
            installed_at: row.installed_at.clone(),
            previous: row.previous.clone(),
            state: "disabled",
            enabled: row.enabled,
            config: row.config.clone(),
            granted: granted(row, manifest),
            last_usage: row.last_usage.clone(),
            failures: 0,
            failed_checks: 0,
            process: None,
            last_exit: row.last_exit.clone(),
            last_failure: None,
        }
    }

    /// The process, if the plugin is enabled.
    pub(super) fn up(&self) -> Option<&ProcessView> {
        self.process.as_ref().filter(|_| self.state == State::Enabled.name())
    }
}

impl ProcessView {
    pub(super) fn new(process: &Process) -> Self {
        Self {
            generation: process.generation,
            pid: process.pid,
            started: process.started,
            started_at: process.started_at.clone(),
            cgroup: process.cgroup.clone(),
            enforcement: Arc::clone(&process.enforcement),
            granted: Arc::clone(&process.granted),
            peer: process.peer.clone(),
            exits: process.exits.clone(),
        }
    }

    /// How the process ended whose session just did; none if it is still there after a while.
    pub(crate) async fn exited_soon(&self) -> Option<Arc<Exited>> {
        exited_soon(self.exits.clone(), self.generation).await
    }
}
