//! What a plugin is granted, changed while it rests or runs.
//!
//! It is in force with the next call and the next event, as both are held against the view of the
//! plugin that has been granted something, not against what it was told at its start. That it is told
//! as well is a courtesy: it can leave alone what it would be refused.

use std::rc::Rc;

use bulkhead_ipc_protocol::{Call, Payload, lifecycle};
use serde_json::json;

use super::super::plan::granted;
use super::super::process::Process;
use super::Actor;
use crate::failure::{Code, Failure};
use crate::manifest::Permission;
use crate::supervise::registry::Grant;

/// The name of the event.
const EVENT: &str = "plugin:permissions:changed";

impl Actor {
    /// Replaces the grant. INVALID_REQUEST: a permission that the manifest does not ask for. CONFLICT:
    /// what is granted is not what was `expected`.
    pub(super) async fn permit(
        &mut self,
        permissions: Vec<Permission>,
        expected: Option<&[Permission]>,
    ) -> Result<(), Failure> {
        let before = granted(&self.row, &self.manifest).permissions;
        let id = &self.row.id;
        let asked = &self.manifest.permissions;
        if let Some(other) = permissions.iter().find(|one| !asked.contains(one)) {
            let message = format!(
                "{other} cannot be granted: {id} does not ask for it in plugin.toml, `permissions`"
            );
            return Err(Failure::new(Code::InvalidRequest, message).with("permission", other));
        }
        if let Some(expected) = expected
            && !alike(expected, &before)
        {
            let message =
                format!("somebody changed what {id} is granted; look again and repeat it");
            return Err(Failure::new(Code::Conflict, message)
                .with("state", self.machine.state().name())
                .with("granted", &before));
        }
        // In the manifest's order, each once.
        let now: Vec<Permission> =
            asked.iter().filter(|one| permissions.contains(one)).cloned().collect();
        if alike(&now, &before) {
            return Ok(());
        }
        let grant = Grant { permissions: now.clone() };
        self.context.store.set_granted(id.clone(), &grant).await?;
        self.row.granted = Some(grant);
        let body = json!({
            "version": self.row.version.to_string(),
            "granted": now,
            "added": without(&now, &before),
            "removed": without(&before, &now),
        });
        self.context.events.emit(EVENT, id, body);
        self.repermitted = true;
        if let Some(process) = self.process.clone() {
            self.tell_permissions(&process);
        }
        Ok(())
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

/// Whether both have the same permissions.
fn alike(one: &[Permission], other: &[Permission]) -> bool {
    without(one, other).is_empty() && without(other, one).is_empty()
}

/// Those of `all` that are not in `others`.
fn without<'a>(all: &'a [Permission], others: &[Permission]) -> Vec<&'a Permission> {
    all.iter().filter(|one| !others.contains(one)).collect()
}
