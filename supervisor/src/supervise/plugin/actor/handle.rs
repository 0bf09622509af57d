//! What others hold of a plugin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_ipc_driver::Peer;
use tokio::sync::{mpsc, watch};

use super::super::circuit::Circuit;
use super::super::machine::{Origin, State};
use super::{Command, ProcessView, View};
use crate::failure::Failure;
use crate::manifest::{Manifest, Permission};
use crate::supervise::logs::Book;

/// How a plugin stopped being enabled.
pub(crate) struct Ended {
    pub(crate) state: &'static str,
    pub(crate) cause: Option<Failure>,
}

/// What others hold of a plugin; cheap to clone, usable from any thread.
#[derive(Clone)]
pub(crate) struct PluginHandle {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) book: Book,
    pub(super) view: watch::Receiver<View>,
    pub(super) circuit: Arc<Mutex<Circuit>>,
}

impl PluginHandle {
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Whether other plugins' calls go to it. Not to be held over an await.
    pub(crate) fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // Each step of it is whole.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of its state.
    pub(crate) fn state(&self) -> &'static str {
        self.view.borrow().state
    }

    /// Whether a process of it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.view.borrow().process.is_some()
    }

    /// Whether the operator lets the plugin do that now.
    pub(crate) fn may(&self, permission: &Permission) -> bool {
        self.view.borrow().granted.permissions.contains(permission)
    }

    /// The process, if the plugin is enabled; the state's name otherwise. A plugin that is coming
    /// up, for the first time or because the supervisor is new, is waited for.
    pub(crate) async fn up(&self, patience: Duration) -> Result<ProcessView, &'static str> {
        let mut view = self.view.clone();
        let settled = view.wait_for(|view| view.state != State::Enabling(Origin::Request).name());
        let Ok(Ok(settled)) = tokio::time::timeout(patience, settled).await else {
            return Err(self.view.borrow().state);
        };
        settled.up().cloned().ok_or(settled.state)
    }

    /// Watches an enabled plugin for a while: `Err` if it ended meanwhile.
    pub(crate) async fn stays_up(&self, span: Duration) -> Result<(), Ended> {
        let mut view = self.view.clone();
        let generation = |view: &View| view.up().map(|process| process.generation);
        let first = generation(&view.borrow());
        let changed = view.wait_for(|view| first.is_none() || generation(view) != first);
        match tokio::time::timeout(span, changed).await {
            Err(_) => Ok(()),
            Ok(Ok(view)) => Err(Ended { state: view.state, cause: view.last_failure.clone() }),
            // The task is gone, and the plugin with it.
            Ok(Err(_)) => Err(Ended { state: State::Disabled.name(), cause: None }),
        }
    }

    /// The session, if the plugin is enabled right now.
    pub(crate) fn peer_now(&self) -> Option<Peer> {
        self.view.borrow().up().map(|process| process.peer.clone())
    }
}
