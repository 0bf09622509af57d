//! Starting the supervisor, telling it what runs, listening to it, and starting it anew.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use bulkhead_sandbox::descriptors::stream_pair;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::clearing::Clearing;
use super::event_loop::{LINK, Launcher};
use super::jobs::Work;
use super::plugins::{Departed, Plugin};
use super::restarts::Decision;
use super::shutdown::Stop;
use super::supervisor::Supervisor;
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::link::{self, Json, LinkError, Message, Reply, RequestNumber};

/// How long one turn serves requests. Each is short, so a turn is hardly longer.
pub(super) const SERVING: Duration = Duration::from_millis(5);

/// The supervisor, or the lack of one.
pub(super) enum Supervision {
    Running(Supervisor),
    Paused { until: Monotonic },
    Over,
}

/// What a supervisor that starts is told of a plugin that runs.
fn adoption(plugin: &Plugin) -> std::io::Result<(u64, Message, Vec<OwnedFd>)> {
    let session = plugin.open_session().or_else(|failure| {
        tracing::warn!(plugin = %plugin.id, %failure, "adopted without a session");
        // One that is closed already: the supervisor sees a plugin that does not answer.
        stream_pair().map(|(ours, _)| ours)
    })?;
    let message = Message::Adopt(Box::new(plugin.adopted()));
    Ok((plugin.generation(), message, plugin.descriptors(session)?))
}

impl Launcher {
    pub(super) fn start_supervisor(&mut self) {
        let supervisor = match Supervisor::start(&self.command, self.settings.heartbeat) {
            Ok(supervisor) => supervisor,
            Err(error) => {
                tracing::error!(program = %self.command.program.display(), %error, "the supervisor cannot be started");
                return self.supervisor_ended(None);
            }
        };
        self.settings.supervisor_starts += 1;
        tracing::info!(pid = supervisor.pid(), "supervisor started");
        if let Err(errno) = self.epoll.add(&supervisor, EpollEvent::new(EpollFlags::EPOLLIN, LINK))
        {
            tracing::error!(%errno, "the link cannot be watched");
        }
        self.supervision = Supervision::Running(supervisor);
        self.brief();
    }

    /// Tells a supervisor that starts all it must know.
    fn brief(&mut self) {
        let listened = std::iter::once(self.admin.as_fd())
            .chain(self.kernel_audit.as_ref().map(OwnedFd::as_fd));
        let listened = match listened.map(|fd| fd.try_clone_to_owned()).collect() {
            Ok(listened) => listened,
            Err(error) => return self.give_up_link(&std::io::Error::into(error)),
        };
        self.tell(&Message::Welcome(Box::new(Json(self.settings.clone()))), listened);
        let adoptions: std::io::Result<Vec<_>> = self.plugins.running().map(adoption).collect();
        let adoptions = match adoptions {
            Ok(adoptions) => adoptions,
            Err(error) => return self.give_up_link(&error.into()),
        };
        for (generation, message, descriptors) in adoptions {
            match link::encode(&message) {
                Ok(_) => self.tell(&message, descriptors),
                Err(error) => self.end_unadoptable(generation, &error),
            }
        }
        let exits: Vec<_> = self
            .plugins
            .departed()
            .map(|departed| {
                let message = Message::Exited(Box::new(departed.exited.clone()));
                (message, departed.descriptors().unwrap_or_default())
            })
            .collect();
        for (message, descriptors) in exits {
            self.tell(&message, descriptors);
        }
        self.tell(&Message::Current, Vec::new());
    }

    /// A plugin that no supervisor can be told of is stopped. To give up the link instead would end every
    /// supervisor, and then the service.
    fn end_unadoptable(&mut self, generation: u64, error: &LinkError) {
        let budget = self.settings.stop_timeout;
        let Some(plugin) = self.plugins.get_mut(generation) else { return };
        tracing::error!(plugin = %plugin.id, %error, "no supervisor can take it over: stopping it");
        plugin.stopping.arm(Monotonic::now(), Duration::ZERO, budget);
    }

    pub(super) fn tell_exit(&mut self, departed: &Departed) {
        // Without a descriptor left it is told all the same.
        let descriptors = departed.descriptors().unwrap_or_default();
        self.tell(&Message::Exited(Box::new(departed.exited.clone())), descriptors);
    }

    pub(super) fn answer(
        &mut self,
        number: RequestNumber,
        result: Result<Reply, Failure>,
        descriptors: Vec<OwnedFd>,
    ) {
        let result = Box::new(result.map_err(Json));
        self.tell(&Message::Reply { number, result }, descriptors);
    }

    /// To the supervisor, if there is one that listens.
    pub(super) fn tell(&mut self, message: &Message, descriptors: Vec<OwnedFd>) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        if supervisor.is_silenced() {
            return;
        }
        if let Err(error) = supervisor.outbox.push(message, descriptors) {
            self.give_up_link(&error);
        }
    }

    /// The link is of no use any more: neither is the process at its end.
    pub(super) fn give_up_link(&mut self, error: &LinkError) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        if supervisor.is_silenced() {
            return;
        }
        let pid = supervisor.pid();
        match (error, &mut self.stop) {
            (LinkError::Closed, Some(stop)) => {
                tracing::debug!(pid, "the supervisor closed its link");
                // A link whose other end is closed would be readable again and again.
                let _ = self.epoll.delete(&*supervisor);
                supervisor.silence();
                // It may still have a file to close, in its own time.
                stop.bid_farewell(Monotonic::now());
                return;
            }
            (LinkError::Closed, None) => tracing::warn!(pid, "the supervisor closed its link"),
            (error, _) => tracing::error!(pid, %error, "the link to the supervisor is broken"),
        }
        self.kill_supervisor();
    }

    /// Ends it and listens to it no more. What remains is to be told of its end by SIGCHLD.
    pub(super) fn kill_supervisor(&mut self) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        if !supervisor.is_silenced() {
            let _ = self.epoll.delete(&*supervisor);
        }
        supervisor.kill();
    }

    /// Serves requests for so long at most. However many there are, what is due is done before each.
    pub(super) fn serve_link(&mut self, events: EpollFlags, at_most: Duration) {
        let until = Monotonic::now().plus(at_most);
        loop {
            let now = Monotonic::now();
            if until <= now {
                return;
            }
            self.keep_promises(now);
            let Supervision::Running(supervisor) = &mut self.supervision else { return };
            if supervisor.is_silenced() {
                return;
            }
            if let Err(error) = supervisor.outbox.flush() {
                return self.give_up_link(&error);
            }
            if supervisor.outbox.is_backed_up() {
                return;
            }
            match supervisor.outbox.receive() {
                Ok(Some(request)) => self.handle(request.value, request.descriptors),
                // Whatever it had sent before it ended has been read.
                Ok(None) if events.contains(EpollFlags::EPOLLHUP) => {
                    return self.give_up_link(&LinkError::Closed);
                }
                Ok(None) => return,
                Err(error) => return self.give_up_link(&error),
            }
        }
    }

    /// Asks epoll for what the link can do now.
    pub(super) fn watch_link(&mut self) {
        let Supervision::Running(supervisor) = &self.supervision else { return };
        if supervisor.is_silenced() {
            return;
        }
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !supervisor.outbox.is_backed_up());
        flags.set(EpollFlags::EPOLLOUT, !supervisor.outbox.is_empty());
        if let Err(errno) = self.epoll.modify(supervisor, &mut EpollEvent::new(flags, LINK)) {
            tracing::error!(%errno, "the link cannot be watched");
        }
    }

    pub(super) fn reap_supervisor(&mut self) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        match supervisor.try_reap() {
            Ok(None) => {}
            Ok(Some(status)) => {
                let pid = supervisor.pid();
                if self.stop.is_some() {
                    tracing::info!(pid, %status, "supervisor ended");
                } else {
                    tracing::warn!(pid, %status, "supervisor ended");
                }
                let ready = supervisor.ready;
                self.supervisor_ended(ready);
            }
            Err(error) => {
                tracing::error!(pid = supervisor.pid(), %error, "the supervisor cannot be reaped");
            }
        }
    }

    /// `ready`: when it had become ready, if it had.
    fn supervisor_ended(&mut self, ready: Option<Monotonic>) {
        let now = Monotonic::now();
        self.jobs.disown();
        self.starts.disown();
        self.errands.disown();
        self.waiting.disown();
        self.orphaned_since.get_or_insert(now);
        self.supervision = Supervision::Over;
        if let Some(stop) = &self.stop {
            // Nobody is left to drain them: by signal, within what was promised.
            let left = now.until(stop.deadline);
            for plugin in self.plugins.running_mut() {
                plugin.stopping.arm(now, Duration::ZERO, left);
            }
            return;
        }
        match self.restarts.ended(ready, now) {
            Decision::StartAfter(pause) => {
                self.supervision = Supervision::Paused { until: now.plus(pause) };
                self.announce();
            }
            Decision::GiveUp { failed } => {
                tracing::error!(
                    "the supervisor did not come up {failed} times in a row: stopping the service"
                );
                self.notify.stopping();
                let budget = self.settings.stop_timeout;
                for plugin in self.plugins.running_mut() {
                    plugin.stopping.arm(now, Duration::ZERO, budget);
                }
                self.stop = Some(Stop::within(budget, now, true));
            }
        }
    }

    /// The supervisor serves.
    pub(super) fn supervisor_ready(&mut self) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        supervisor.ready.get_or_insert_with(Monotonic::now);
        self.orphaned_since = None;
        if !self.announced {
            self.announced = true;
            self.notify.ready();
            self.clear_leftovers();
        }
        self.announce();
    }

    /// Goes on with what a dead launcher was removing: however much that is, no start waits for it.
    fn clear_leftovers(&mut self) {
        let left = self.storage.take_left();
        if !left.is_empty() {
            self.jobs.resume(None, Work::Clear(Clearing::of(left)));
        }
    }

    /// What `systemctl status` shows.
    pub(super) fn announce(&self) {
        let count = self.plugins.count();
        match &self.supervision {
            Supervision::Running(supervisor) => self.notify.status(&format!(
                "{count} plugins; supervisor {} on {}",
                supervisor.pid(),
                self.settings.socket.display()
            )),
            Supervision::Paused { .. } => {
                self.notify.status(&format!("{count} plugins; starting the supervisor anew"));
            }
            Supervision::Over => self.notify.status(&format!("stopping {count} plugins")),
        }
    }
}
