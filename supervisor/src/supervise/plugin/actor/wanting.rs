//! What the operator wants, as it is stored.

use serde_json::Value;

use super::super::machine::Input;
use super::{Actor, default_stop};
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::supervise::registry::{DISABLE, Moment, WANT, pause};

impl Actor {
    /// Stores what is wanted, all of it or nothing.
    pub(super) async fn want(&mut self, enabled: bool, config: Value) -> Result<(), Failure> {
        let id = self.row.id.clone();
        self.context.store.set_wanted(id, enabled, config.clone()).await?;
        self.row.enabled = enabled;
        self.row.config = config;
        self.unstored = None;
        Ok(())
    }

    /// Stores that it is to stay disabled, before it is stopped, so that a crash in between ends with
    /// it done. A store that cannot be written must not keep a plugin running: it may be the very
    /// plugin that filled the disk.
    pub(super) async fn want_disabled(&mut self) {
        if self.row.enabled || self.unstored.is_some() {
            let stored = self.context.store.set_enabled(self.row.id.clone(), false).await;
            self.row.enabled = false;
            self.unstored = stored.err();
        }
        pause(&self.context.registry, DISABLE, WANT, Moment::After);
    }

    /// A plugin that was taken over though the operator had disabled it: the stop that a dead
    /// supervisor had begun is finished.
    pub(super) async fn finish_disable(&mut self) {
        self.stop_asked = Monotonic::now();
        self.stop_options = default_stop(&self.context, &self.manifest, "disable");
        self.step(Input::Disable).await;
    }
}
