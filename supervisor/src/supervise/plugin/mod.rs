//! One plugin: what it is, what to do about it, and the task that does it.
//!
//! [`machine`] decides, [`actor`] owns the state and carries the decisions out with [`process`]
//! (starting) and [`stop`] (stopping); [`host`] answers what the plugin asks.

mod actor;
mod circuit;
mod effective;
mod health;
mod host;
mod last_lines;
mod machine;
mod plan;
mod process;
mod quota;
mod stop;

use std::os::fd::OwnedFd;
use std::sync::Arc;

#[cfg(any(test, fuzzing))]
pub(crate) use actor::in_force;
pub(crate) use actor::{
    Applied, Command, EnableReport, PluginHandle, ProcessView, Wanted, spawn, without,
};
pub(crate) use circuit::{Change, Ticket, Verdict};
#[cfg(any(test, fuzzing))]
pub(crate) use host::HostSide;
pub(crate) use last_lines::Given;
pub(crate) use machine::STATES;
pub(crate) use plan::{StartPlan, check_config, granted};
#[cfg(any(test, fuzzing))]
pub(crate) use process::{init_reply, refused};
pub(crate) use quota::{Enforced, Fill, Kept, Pressure, files_of};
pub(crate) use stop::{AFTER_KILL, DisableRequest, StopOptions, StopReport, Stopping};

use super::events::Events;
use super::launcher_link::Launcher;
use super::logs::{Book, Source, Stream, capture};
use super::registry::Registry;
use super::store::Store;
use crate::id::PluginId;
use crate::link::Settings;
use process::ExitBoard;

/// What a plugin's task works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) id: PluginId,
    pub(crate) launcher: Launcher,
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) book: Book,
    pub(crate) given: Given,
}

impl Context {
    /// Reads a pipe of a start into the log until that start has ended.
    fn capture(&self, pipe: OwnedFd, stream: Stream, generation: u64, exits: &ExitBoard) {
        let (book, id, exits) = (self.book.clone(), self.id.clone(), exits.subscribe());
        let reading = book.reading(generation);
        tokio::task::spawn_local(async move {
            let ended = async {
                process::exited(exits, generation).await;
            };
            let source = Source { stream, generation };
            if let Err(error) = capture(pipe, source, book, ended).await {
                tracing::error!(plugin = %id, generation, stream = stream.name(), %error, "log lost");
            }
            drop(reading);
        });
    }
}
