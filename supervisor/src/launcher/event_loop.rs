//! The launcher's one loop: what it waits for, and what it does when.
//!
//! Each turn takes what epoll tells (signals, requests, ends of plugins), then what is due by the
//! clock, then one piece of one job. Nothing in a turn waits.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::descriptors::stream_pair;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::admin_socket::AdminSocket;
use super::admission::Rules;
use super::jobs::{Jobs, Outcome};
use super::notify::Notify;
use super::package_store::PackageStore;
use super::plugins::{Departed, Plugin, Plugins};
use super::restarts::{Decision, Restarts};
use super::storage::{Ownership, Storage};
use super::supervisor::{Command, Supervisor};
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::link::{Json, LinkError, Message, Reply, RequestNumber, Settings, StageName};

const SIGNALS: u64 = 0;
const LINK: u64 = 1;
/// A plugin's tokens are its generation, doubled, plus one for the cgroup's events. Generations
/// begin with a time of day in milliseconds, far above the tokens before.
const CGROUP: u64 = 1;

const EVENTS_PER_TURN: usize = 64;
const REQUESTS_PER_TURN: usize = 32;
/// A plugin whose processes are still there so long after SIGKILL is reported.
const STUBBORN: Duration = Duration::from_secs(5);
/// What the supervisor has to end in after it said goodbye, or after the budget.
const FAREWELL: Duration = Duration::from_secs(1);
/// When the launcher stops waiting for processes that the kernel does not let go.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// Everything the launcher has.
pub(super) struct Launcher {
    pub(super) settings: Settings,
    pub(super) allow_directories: bool,
    pub(super) ownership: Ownership,
    pub(super) rules: Rules,
    pub(super) command: Command,
    pub(super) tree: Option<Tree>,
    pub(super) store: PackageStore,
    pub(super) storage: Storage,
    pub(super) plugins: Plugins,
    pub(super) jobs: Jobs,
    pub(super) generation: u64,
    pub(super) supervision: Supervision,
    pub(super) restarts: Restarts,
    /// Since when plugins have been without a supervisor that is ready.
    pub(super) orphaned_since: Option<Monotonic>,
    pub(super) stop: Option<Stop>,
    pub(super) admin: AdminSocket,
    pub(super) notify: Notify,
    pub(super) announced: bool,
    pub(super) watchdog_at: Option<Monotonic>,
    pub(super) epoll: Epoll,
    pub(super) signals: SignalFd,
}

/// The supervisor, or the lack of one.
pub(super) enum Supervision {
    Running(Supervisor),
    Paused { until: Monotonic },
    Over,
}

/// The service's own stop.
pub(super) struct Stop {
    deadline: Monotonic,
    farewell: Option<Monotonic>,
    failed: bool,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Stopped,
    /// The supervisor does not come up, or processes could not be ended.
    Failed,
}

/// Blocks the signals that are read from a descriptor. SIGHUP is among them to be ignored without
/// the children inheriting that.
pub(super) fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

pub(super) fn new_epoll(signals: &SignalFd) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
    Ok(epoll)
}

/// What a supervisor that starts is told of a plugin that runs.
fn adoption(plugin: &Plugin) -> std::io::Result<(Message, Vec<OwnedFd>)> {
    let session = plugin.open_session().or_else(|failure| {
        tracing::warn!(plugin = %plugin.id, %failure, "adopted without a session");
        // One that is closed already: the supervisor sees a plugin that does not answer.
        stream_pair().map(|(ours, _)| ours)
    })?;
    Ok((Message::Adopt(Box::new(plugin.adopted())), plugin.descriptors(session)?))
}

impl Launcher {
    /// Serves until it is told to stop.
    pub(super) fn run(&mut self) -> End {
        self.start_supervisor();
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    tracing::error!(%errno, "epoll failed");
                    return End::Failed;
                }
            };
            let mut touched = HashSet::new();
            for event in &events[..count] {
                match event.data() {
                    SIGNALS => self.read_signals(),
                    LINK => self.serve_link(event.events()),
                    token => {
                        touched.insert(token >> 1);
                    }
                }
            }
            for generation in touched {
                self.observe(generation);
            }
            self.keep_time();
            self.work();
            self.watch_link();
        }
    }

    /// Until the next deadline; at once if there is work.
    fn timeout(&self) -> EpollTimeout {
        if !self.jobs.is_empty() {
            return EpollTimeout::ZERO;
        }
        let Some(next) = self.next_deadline() else { return EpollTimeout::NONE };
        let left = Monotonic::now().until(next);
        // Rounded up: a deadline is never asked for before it has passed.
        let millis = left.as_nanos().div_ceil(1_000_000).min(60_000) as u16;
        EpollTimeout::from(millis)
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let plugins = self.plugins.running().filter_map(|plugin| {
            let stubborn = plugin.stopping.killed_at().filter(|_| !plugin.stubborn);
            plugin.stopping.deadline().into_iter().chain(stubborn.map(|at| at.plus(STUBBORN))).min()
        });
        let supervision = match &self.supervision {
            Supervision::Running(supervisor) => supervisor.patience(),
            Supervision::Paused { until } => Some(*until),
            Supervision::Over => None,
        };
        let stop = self.stop.iter().flat_map(|stop| {
            [Some(stop.deadline), stop.farewell, Some(stop.deadline.plus(LAST_RESORT))]
                .into_iter()
                .flatten()
                .filter(|at| *at > Monotonic::now())
        });
        plugins
            .chain(supervision)
            .chain(stop)
            .chain(self.resume_deadline())
            .chain(self.watchdog_at)
            .min()
    }

    /// When plugins without a supervisor are stopped.
    fn resume_deadline(&self) -> Option<Monotonic> {
        let waiting = self.plugins.running().any(|plugin| !plugin.stopping.is_armed());
        self.orphaned_since
            .filter(|_| waiting)
            .map(|since| since.plus(self.settings.resume_timeout))
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGTERM | Signal::SIGINT) if self.stop.is_some() => {
                    tracing::warn!("told to stop again: killing what is left");
                    self.kill_everything();
                }
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.begin_stop(),
                Ok(Signal::SIGCHLD) => self.reap_supervisor(),
                _ => {}
            }
        }
    }

    /// What the clock demands.
    fn keep_time(&mut self) {
        let now = Monotonic::now();
        if self.resume_deadline().is_some_and(|at| at <= now) {
            tracing::error!(
                timeout = ?self.settings.resume_timeout,
                "no supervisor has come back in time: stopping all plugins"
            );
            let budget = self.settings.stop_timeout;
            for plugin in self.plugins.running_mut() {
                plugin.stopping.arm(now, Duration::ZERO, budget);
            }
        }
        for plugin in self.plugins.running_mut() {
            plugin.stop_if_due(now);
            if !plugin.stubborn
                && plugin.stopping.killed_at().is_some_and(|at| at.plus(STUBBORN) <= now)
            {
                plugin.stubborn = true;
                tracing::error!(
                    plugin = %plugin.id,
                    pid = plugin.spawned.pid,
                    "still there {STUBBORN:?} after SIGKILL: a process waits in the kernel (state D in ps)"
                );
            }
        }
        match &mut self.supervision {
            Supervision::Running(supervisor) => {
                if supervisor.patience().is_some_and(|until| until <= now) {
                    tracing::error!(
                        pid = supervisor.pid(),
                        "the supervisor is silent: starting it anew"
                    );
                    supervisor.kill();
                }
            }
            Supervision::Paused { until } if *until <= now => self.start_supervisor(),
            Supervision::Paused { .. } | Supervision::Over => {}
        }
        self.feed_watchdog(now);
        self.advance_stop(now);
    }

    fn feed_watchdog(&mut self, now: Monotonic) {
        if self.watchdog_at.is_none_or(|at| at > now) {
            return;
        }
        // While it is started anew the launcher is at work on it, and bounded.
        let alive = match &self.supervision {
            Supervision::Running(supervisor) => supervisor.is_fresh(now) || !self.announced,
            Supervision::Paused { .. } => true,
            Supervision::Over => self.stop.is_some(),
        };
        if alive || self.orphaned_since.is_some() {
            self.notify.alive();
        }
        self.watchdog_at = self.notify.watchdog_interval().map(|interval| now.plus(interval));
    }

    /// One piece of one job.
    fn work(&mut self) {
        match self.jobs.step(&mut self.store, &mut self.storage) {
            None => {}
            Some(Outcome::Answer(number, result)) => self.answer(number, result, Vec::new()),
            Some(Outcome::Start(number, start, verified)) => {
                let (result, descriptors) = match self.start_plugin(*start, verified) {
                    Ok((spawned, descriptors)) => (Ok(Reply::Spawned(spawned)), descriptors),
                    Err(failure) => (Err(failure), Vec::new()),
                };
                self.answer(number, result, descriptors);
            }
        }
    }

    // Plugins.

    /// Has a new plugin's end told.
    pub(super) fn watch(&self, plugin: &Plugin) -> nix::Result<()> {
        let token = plugin.generation() << 1;
        self.epoll.add(plugin.child.pidfd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        if let Some(events) = plugin.child.events_fd() {
            // Edge-triggered: a change is told once, and each is answered by a look.
            let flags = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
            self.epoll.add(events, EpollEvent::new(flags, token | CGROUP))?;
        }
        Ok(())
    }

    fn observe(&mut self, generation: u64) {
        let Some(plugin) = self.plugins.get_mut(generation) else { return };
        let had_ended = plugin.ended.is_some();
        let gone = plugin.observe();
        if !had_ended && plugin.ended.is_some() {
            // From now on it would be readable for ever.
            let _ = self.epoll.delete(plugin.child.pidfd());
        }
        if !gone {
            return;
        }
        if let Some(events) = plugin.child.events_fd() {
            let _ = self.epoll.delete(events);
        }
        let Some(plugin) = self.plugins.remove(generation) else { return };
        let departed = plugin.depart();
        tracing::info!(
            plugin = %departed.exited.id,
            generation,
            cause = ?departed.exited.exit.0.cause,
            killed = departed.exited.stages.iter().any(|stage| stage.name == StageName::Sigkill),
            "plugin gone"
        );
        self.tell_exit(&departed);
        self.plugins.keep(departed);
        self.announce();
    }

    // The supervisor.

    fn start_supervisor(&mut self) {
        let supervisor = match Supervisor::start(&self.command, self.settings.heartbeat) {
            Ok(supervisor) => supervisor,
            Err(error) => {
                tracing::error!(program = %self.command.program.display(), %error, "the supervisor cannot be started");
                return self.supervisor_ended(None);
            }
        };
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
        let listener = match self.admin.as_fd().try_clone_to_owned() {
            Ok(listener) => listener,
            Err(error) => return self.give_up_link(&error.into()),
        };
        self.tell(&Message::Welcome(Box::new(Json(self.settings.clone()))), vec![listener]);
        let adoptions: std::io::Result<Vec<_>> = self.plugins.running().map(adoption).collect();
        let adoptions = match adoptions {
            Ok(adoptions) => adoptions,
            Err(error) => return self.give_up_link(&error.into()),
        };
        for (message, descriptors) in adoptions {
            self.tell(&message, descriptors);
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

    fn tell_exit(&mut self, departed: &Departed) {
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
    fn tell(&mut self, message: &Message, descriptors: Vec<OwnedFd>) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        if supervisor.is_killed() {
            return;
        }
        if let Err(error) = supervisor.outbox.push(message, descriptors) {
            self.give_up_link(&error);
        }
    }

    /// The link is of no use any more: neither is the process at its end.
    fn give_up_link(&mut self, error: &LinkError) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        if supervisor.is_killed() {
            return;
        }
        match error {
            LinkError::Closed => {
                tracing::warn!(pid = supervisor.pid(), "the supervisor closed its link");
            }

            error => {
                tracing::error!(pid = supervisor.pid(), %error, "the link to the supervisor is broken");
            }
        }
        let _ = self.epoll.delete(&*supervisor);
        supervisor.kill();
    }

    fn serve_link(&mut self, events: EpollFlags) {
        for _ in 0..REQUESTS_PER_TURN {
            let Supervision::Running(supervisor) = &mut self.supervision else { return };
            if supervisor.is_killed() {
                return;
            }
            if let Err(error) = supervisor.outbox.flush() {
                return self.give_up_link(&error);
            }
            if supervisor.outbox.is_backed_up() {
                return;
            }
            match supervisor.outbox.receive() {
                Ok(Some(request)) => self.handle(request),
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
    fn watch_link(&mut self) {
        let Supervision::Running(supervisor) = &self.supervision else { return };
        if supervisor.is_killed() {
            return;
        }
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !supervisor.outbox.is_backed_up());
        flags.set(EpollFlags::EPOLLOUT, !supervisor.outbox.is_empty());
        if let Err(errno) = self.epoll.modify(supervisor, &mut EpollEvent::new(flags, LINK)) {
            tracing::error!(%errno, "the link cannot be watched");
        }
    }

    fn reap_supervisor(&mut self) {
        let Supervision::Running(supervisor) = &mut self.supervision else { return };
        match supervisor.try_reap() {
            Ok(None) => {}
            Ok(Some(status)) => {
                tracing::warn!(pid = supervisor.pid(), %status, "supervisor ended");
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
                self.stop = Some(Stop { deadline: now.plus(budget), farewell: None, failed: true });
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
        }
        self.announce();
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

    // The service's own stop.

    fn begin_stop(&mut self) {
        let now = Monotonic::now();
        let budget = self.settings.stop_timeout;
        tracing::info!(plugins = self.plugins.count(), ?budget, "stopping");
        self.notify.stopping();
        self.notify.extend(budget + FAREWELL + LAST_RESORT);
        self.stop = Some(Stop { deadline: now.plus(budget), farewell: None, failed: false });
        let served = matches!(&self.supervision, Supervision::Running(it) if it.ready.is_some());
        // SIGTERM comes from here only if the supervisor does not get to it.
        let term_in = if served { budget } else { Duration::ZERO };
        for plugin in self.plugins.running_mut() {
            plugin.stopping.arm(now, term_in, budget);
        }
        if served {
            self.tell(&Message::Shutdown { budget }, Vec::new());
        } else {
            match &mut self.supervision {
                Supervision::Running(supervisor) => supervisor.kill(),
                other => *other = Supervision::Over,
            }
        }
    }

    /// The supervisor has done all it could.
    pub(super) fn goodbye(&mut self) {
        let now = Monotonic::now();
        if let Some(stop) = &mut self.stop {
            stop.farewell.get_or_insert(now.plus(FAREWELL));
            for plugin in self.plugins.running_mut() {
                plugin.stopping.arm(now, Duration::ZERO, Duration::ZERO);
            }
        } else {
            tracing::error!("the supervisor said goodbye without being asked: starting it anew");
            self.give_up_link(&LinkError::Closed);
        }
    }

    fn advance_stop(&mut self, now: Monotonic) {
        let Some(stop) = &mut self.stop else { return };
        if stop.deadline <= now {
            stop.farewell.get_or_insert(now.plus(FAREWELL));
        }
        if stop.farewell.is_some_and(|at| at <= now)
            && let Supervision::Running(supervisor) = &mut self.supervision
        {
            supervisor.kill();
        }
    }

    fn kill_everything(&mut self) {
        let now = Monotonic::now();
        for plugin in self.plugins.running_mut() {
            plugin.stopping.arm(now, Duration::ZERO, Duration::ZERO);
        }
        if let Some(stop) = &mut self.stop {
            stop.deadline = stop.deadline.min(now);
        }
        if let Supervision::Running(supervisor) = &mut self.supervision {
            supervisor.kill();
        }
    }

    fn ended(&self) -> Option<End> {
        let stop = self.stop.as_ref()?;
        let over = matches!(self.supervision, Supervision::Over);
        if over && self.plugins.count() == 0 {
            return Some(if stop.failed { End::Failed } else { End::Stopped });
        }
        if stop.deadline.plus(LAST_RESORT) <= Monotonic::now() {
            for plugin in self.plugins.running() {
                tracing::error!(plugin = %plugin.id, pid = plugin.spawned.pid, "left behind: it cannot be killed");
            }
            return Some(End::Failed);
        }
        None
    }
}
