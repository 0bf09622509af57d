//! What a plugin is granted, changed while it rests or runs.
//!
//! A permission is in force with the next call and the next event, as both are held against the view
//! of the plugin that has been granted something, not against what it was told at its start. That it
//! is told as well is a courtesy: it can leave alone what it would be refused. A place of the machine
//! is mounted at a start, so it is there, or not there any more, from the next one on.

use std::fmt::Display;
use std::rc::Rc;

use bulkhead_ipc_protocol::{Call, Payload, lifecycle};
use serde::Serialize;
use serde_json::json;

use super::super::plan::granted;
use super::super::process::Process;
use super::Actor;
use crate::failure::{Code, Failure};
use crate::manifest::{HostPath, Permission};
use crate::supervise::registry::Grant;

/// The name of the event.
const EVENT: &str = "plugin:permissions:changed";

/// What is to be granted of one kind: all of it.
#[derive(Debug)]
pub(crate) struct Wanted<T> {
    pub(crate) granted: Vec<T>,
    /// What must be granted now, if given.
    pub(crate) expected: Option<Vec<T>>,
}

impl Actor {
    /// Replaces the grant, of either kind that is given. INVALID_REQUEST: something that the manifest
    /// does not ask for, or a place that it would have through another. CONFLICT: what is granted is not what was expected.
    pub(super) async fn permit(
        &mut self,
        permissions: Option<&Wanted<Permission>>,
        places: Option<&Wanted<HostPath>>,
    ) -> Result<(), Failure> {
        let id = &self.row.id;
        let before = granted(&self.row, &self.manifest);
        let (asked, had) = (&self.manifest.permissions, &before.permissions);
        let now = match permissions {
            None => had.clone(),
            Some(wanted) => self.decide("permission", asked, had, wanted)?,
        };
        let all = self.manifest.sandbox.places();
        let had_places = without(&all, &before.withheld_places);
        let now_places = match places {
            None => had_places.clone(),
            Some(wanted) => self.decide("place", &all, &had_places, wanted)?,
        };
        if alike(&now, had) && alike(&now_places, &had_places) {
            return Ok(());
        }
        let grant = Grant { permissions: now.clone(), withheld_places: without(&all, &now_places) };
        if places.is_some() {
            grant.check_places(id, &all)?;
        }
        self.context.store.set_granted(id.clone(), &grant).await?;
        self.row.granted = Some(grant);
        let body = json!({
            "version": self.row.version.to_string(),
            "granted": now,
            "added": without(&now, had),
            "removed": without(had, &now),
            "addedPlaces": without(&now_places, &had_places),
            "removedPlaces": without(&had_places, &now_places),
        });
        self.context.events.emit(EVENT, id, body);
        self.repermitted = true;
        if let Some(process) = self.process.clone() {
            self.tell_permissions(&process);
        }
        Ok(())
    }

    /// What is wanted of one kind, if that is asked for and expected: in the manifest's order, each
    /// once.
    fn decide<T: Clone + PartialEq + Display + Serialize>(
        &self,
        kind: &str,
        asked: &[T],
        before: &[T],
        wanted: &Wanted<T>,
    ) -> Result<Vec<T>, Failure> {
        let id = &self.row.id;
        if let Some(other) = wanted.granted.iter().find(|one| !asked.contains(one)) {
            let message =
                format!("{other} cannot be granted: {id} does not ask for it in plugin.toml");
            return Err(Failure::new(Code::InvalidRequest, message).with(kind, other));
        }
        if let Some(expected) = &wanted.expected
            && !alike(expected, before)
        {
            let message =
                format!("somebody changed what {id} is granted; look again and repeat it");
            return Err(Failure::new(Code::Conflict, message)
                .with("state", self.machine.state().name())
                .with("granted", before));
        }
        Ok(asked.iter().filter(|one| wanted.granted.contains(one)).cloned().collect())
    }

    /// Tells the process what it is granted now, where that is not what it was told.
    pub(super) fn tell_permissions(&mut self, process: &Rc<Process>) {
        if !std::mem::take(&mut self.repermitted) {
            return;
        }
        let permissions = granted(&self.row, &self.manifest).permissions;
        let permissions = permissions.iter().map(ToString::to_string).collect();
        let told = Payload::bincode(&lifecycle::PermissionsChanged { permissions });
        let Ok(payload) = told else { return };
        let limit = self.manifest.lifecycle.health_timeout.duration();
        let call = Call::new(lifecycle::PERMISSIONS, payload).with_timeout(limit);
        // It is on its way before any call that is made after this.
        let (telling, id) = (process.peer.call(call), self.row.id.clone());
        tokio::task::spawn_local(async move {
            if let Err(failure) = telling.await {
                // It was built before there was such a method, or ends.
                tracing::debug!(plugin = %id, %failure, "not told of its permissions");
            }
        });
    }
}

/// Whether both have the same.
fn alike<T: Clone + PartialEq>(one: &[T], other: &[T]) -> bool {
    without(one, other).is_empty() && without(other, one).is_empty()
}

/// Those of `all` that are not in `others`.
pub(crate) fn without<T: Clone + PartialEq>(all: &[T], others: &[T]) -> Vec<T> {
    all.iter().filter(|one| !others.contains(one)).cloned().collect()
}
