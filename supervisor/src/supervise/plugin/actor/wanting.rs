//! What the operator wants, as it is stored.

use serde_json::Value;

use tokio::sync::oneshot;

use super::super::machine::State;
use super::{Actor, Command};
use crate::failure::Failure;
use crate::supervise::registry::{DISABLE, Moment, WANT, pause};
use crate::supervise::retry::with_growing_pauses;

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

    /// Stores that it is to stay disabled. A store that cannot be written must not keep a plugin
    /// running: it may be the very plugin that filled the disk.
    pub(super) async fn want_disabled(&mut self) {
        if self.row.enabled || self.unstored.is_some() {
            let stored = self.context.store.set_enabled(self.row.id.clone(), false).await;
            self.row.enabled = false;
            self.unstored = stored.err();
        }
        if self.machine.state() != State::Disabling {
            self.store_disabled().await;
        }
        pause(&self.context.registry, DISABLE, WANT, Moment::After);
    }

    /// Stores that it is to stay disabled, where that could not be stored yet. Nothing of it runs, so
    /// the room that is kept for this is not taken by it. Where that fails too it is tried again until
    /// it is done.
    pub(super) async fn store_disabled(&mut self) {
        if self.unstored.is_none() {
            return;
        }
        let store = &self.context.store;
        let mut stored = store.set_enabled(self.row.id.clone(), false).await;
        if let Err(failure) = &stored
            && store.has_made_room(failure)
        {
            stored = store.set_enabled(self.row.id.clone(), false).await;
        }
        self.unstored = stored.err();
        if self.unstored.is_none() || self.storing {
            return;
        }
        self.storing = true;
        let commands = self.commands.clone();
        tokio::spawn(with_growing_pauses(move || {
            let commands = commands.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let sent = commands.upgrade().map(|it| it.send(Command::StoreDisabled { answer }));
                // A plugin that is gone has nothing to be stored.
                !matches!(sent, Some(Ok(()))) || answered.await.unwrap_or(true)
            }
        }));
    }
}
