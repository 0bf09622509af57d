//! What schedules need of the rest of the service, so that a test can stand in for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_ipc_protocol::TraceContext;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::id::PluginId;
use crate::manifest::{Manifest, Schedule};
use crate::supervise::principal::Principal;
use crate::supervise::store::{RunEnd, RunOutcome, ScheduleKey};

/// What the runner needs of the service.
pub(super) trait World: Clone + 'static {
    /// The plugins that have schedules, and whether each is enabled.
    fn plugins(&self) -> Vec<(Arc<Manifest>, bool)>;

    /// Whether a plugin is enabled.
    fn is_up(&self, plugin: &PluginId) -> bool;

    /// Up to when each schedule is dealt with, by its name; see [`crate::supervise::store::Store`].
    fn adopt(
        &self,
        plugin: &PluginId,
        rules: Vec<(String, String)>,
        now: Timestamp,
    ) -> impl Future<Output = Result<BTreeMap<String, Timestamp>, Failure>>;

    /// Writes down what does not run.
    fn note(
        &self,
        key: ScheduleKey,
        due: Timestamp,
        count: u64,
        why: RunOutcome,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Writes down that a run begins.
    fn begin(
        &self,
        key: ScheduleKey,
        due: Option<Timestamp>,
        started: Timestamp,
    ) -> impl Future<Output = Result<u64, Failure>>;

    /// Writes down what it came to.
    fn end(&self, number: u64, end: RunEnd) -> impl Future<Output = Result<(), Failure>>;

    /// Calls the method.
    fn call(&self, errand: Errand) -> impl Future<Output = Result<(), Failure>>;

    /// Tells that a run did not go well.
    fn warn(&self, key: &ScheduleKey, due: Option<Timestamp>, failure: &Failure);
}

/// A call that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) plugin: PluginId,
    pub(super) schedule: Schedule,
    pub(super) principal: Principal,
    pub(super) trace: TraceContext,
}
