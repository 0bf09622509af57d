//! What the launcher has compartments of their own do, and what follows when one has ended.
//!
//! A one-shot is watched like a plugin: under a generation of its own, by its pidfd, its cgroup and
//! its output. When nothing of it is left, what it was for goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::data::Moving;
use super::event_loop::Launcher;
use super::one_shot::{OneShot, Task};
use super::packages::Opening;
use super::plugins::no_descriptors;
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::id::PluginId;
use crate::link::RequestNumber;

/// The launcher's own program in another role: `bulkhead unpack`.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) program: PathBuf,
    /// With the program's own name first.
    pub(super) arguments: Vec<String>,
    pub(super) within: Duration,
}

/// A one-shot and what it is for.
pub(super) struct Errand {
    /// `None` once the supervisor that asked is gone.
    reply_to: Option<RequestNumber>,
    one_shot: OneShot,
    purpose: Purpose,
}

pub(super) enum Purpose {
    Unpack(Box<Opening>),
    Data(Moving),
}

/// By generation.
#[derive(Default)]
pub(super) struct Errands(BTreeMap<u64, Errand>);

impl Errands {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many packages are being opened.
    pub(super) fn packages(&self) -> usize {
        self.0.values().filter(|errand| matches!(errand.purpose, Purpose::Unpack(_))).count()
    }

    /// How many plugins' data is being moved.
    pub(super) fn moving(&self) -> usize {
        self.0.len() - self.packages()
    }

    /// Whether something is done with the data of this plugin.
    pub(super) fn concern(&self, id: &PluginId) -> bool {
        self.0.values().any(|errand| match &errand.purpose {
            Purpose::Data(moving) => moving.id == *id,
            Purpose::Unpack(_) => false,
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.0.values().filter_map(|errand| errand.one_shot.deadline()).min()
    }

    pub(super) fn keep_time(&mut self, now: Monotonic) {
        for errand in self.0.values_mut() {
            errand.one_shot.keep_time(now);
        }
    }

    /// The supervisor that asked is gone.
    pub(super) fn disown(&mut self) {
        for errand in self.0.values_mut() {
            errand.reply_to = None;
            errand.one_shot.kill();
        }
    }

    /// The service stops.
    pub(super) fn kill(&mut self) {
        for errand in self.0.values_mut() {
            errand.one_shot.kill();
        }
    }
}

impl Launcher {
    /// Starts a one-shot. Its end is seen to by [`Launcher::observe_errand`]; where it cannot be
    /// started, what it was for is given back.
    pub(super) fn start_errand(
        &mut self,
        reply_to: RequestNumber,
        task: Task,
        purpose: Purpose,
    ) -> Result<(), (Failure, Purpose)> {
        let one_shot = match OneShot::start(self.tree.as_deref(), task) {
            Ok(one_shot) => one_shot,
            Err(failure) => return Err((failure, purpose)),
        };
        let generation = self.generation;
        self.generation += 1;
        let watched = self.watch(one_shot.child(), generation).and_then(|()| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, generation << 1);
            one_shot.stdout().map_or(Ok(()), |stdout| self.epoll.add(stdout, event))
        });
        if let Err(errno) = watched {
            // Dropped, it is killed and removed.
            return Err((no_descriptors(&errno.into()), purpose));
        }
        self.errands.0.insert(generation, Errand { reply_to: Some(reply_to), one_shot, purpose });
        Ok(())
    }

    /// Looks what is left of a one-shot, and goes on when nothing is.
    pub(super) fn observe_errand(&mut self, generation: u64) {
        let Some(errand) = self.errands.0.get_mut(&generation) else { return };
        let had_exited = errand.one_shot.has_exited();
        let gone = errand.one_shot.observe();
        if !had_exited && errand.one_shot.has_exited() {
            // From now on it would be readable for ever.
            let _ = self.epoll.delete(errand.one_shot.child().pidfd());
        }
        if !gone {
            return;
        }
        let Some(Errand { reply_to, one_shot, purpose }) = self.errands.0.remove(&generation)
        else {
            return;
        };
        // Closing its descriptors takes them out of the loop.
        let ended = one_shot.finish();
        match purpose {
            Purpose::Unpack(opening) => self.package_opened(reply_to, opening, ended),
            Purpose::Data(moving) => self.data_moved(reply_to, &moving, ended),
        }
    }
}
