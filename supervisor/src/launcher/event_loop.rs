//! The launcher's one loop: what it waits for, and what is due when.
//!
//! Each turn takes what epoll tells (signals, requests, ends of plugins), then what is due by the
//! clock, then one piece of one job. Nothing in a turn waits for long: a piece of an import syncs one file
//! or directory, and the record of a change that root made to the trust store is synced. All else that waits
//! for the disk, and the start of a plugin, is done by threads of their own ([`super::worker`]).

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_sandbox::Child;
use bulkhead_sandbox::cgroup::Tree;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::admin_socket::AdminSocket;
use super::admission::Rules;
use super::audit_anchor::AuditAnchor;
use super::durable::{Disk, Waiting};
use super::errands::{Errands, Role};
use super::jobs::{Jobs, Outcome};
use super::learning::Learning;
use super::notify::Notify;
use super::package_store::PackageStore;
use super::plugins::Plugins;
use super::restarts::Restarts;
use super::shutdown::{End, Stop};
use super::starts::Starts;
use super::storage::{Ownership, Storage};
use super::supervision::{SERVING, Supervision};
use super::supervisor::Command;
use super::trust_log::TrustLog;
use crate::clock::Monotonic;
use crate::link::{Settings, StageName};
use crate::trust::TrustStore;

const SIGNALS: u64 = 0;
pub(super) const LINK: u64 = 1;
const DISK: u64 = 2;
const LOOKED: u64 = 3;
const STARTED: u64 = 4;
/// A plugin's tokens are its generation, doubled, plus one for the cgroup's events. Generations
/// begin with a time of day in milliseconds, far above the tokens before.
const CGROUP: u64 = 1;

const EVENTS_PER_TURN: usize = 64;
/// How long is looked for a heartbeat among the requests of a supervisor that seems to hang.
const CATCHING_UP: Duration = Duration::from_millis(200);
/// A plugin whose processes are still there so long after SIGKILL is reported.
const STUBBORN: Duration = Duration::from_secs(5);

/// Everything the launcher has. How it supervises the supervisor is in [`super::supervision`], how
/// the service stops in [`super::shutdown`], what it does on request in [`super::requests`].
pub(super) struct Launcher {
    pub(super) settings: Settings,
    pub(super) allow_directories: bool,
    /// The plugin that this service was started to learn from, and no other.
    pub(super) learning: Option<Learning>,
    pub(super) ownership: Ownership,
    pub(super) rules: Rules,
    pub(super) command: Command,
    pub(super) tree: Option<Arc<Tree>>,
    pub(super) store: PackageStore,
    pub(super) storage: Storage,
    pub(super) anchor: AuditAnchor,
    pub(super) disk: Disk,
    pub(super) waiting: Waiting,
    pub(super) plugins: Plugins,
    pub(super) jobs: Jobs,
    pub(super) starts: Starts,
    pub(super) errands: Errands,
    /// What opens packages.
    pub(super) unpack: Role,
    pub(super) trust: TrustStore,
    pub(super) trust_log: TrustLog,
    pub(super) generation: u64,
    pub(super) supervision: Supervision,
    pub(super) restarts: Restarts,
    /// Since when plugins have been without a supervisor that is ready.
    pub(super) orphaned_since: Option<Monotonic>,
    pub(super) stop: Option<Stop>,
    pub(super) admin: AdminSocket,
    /// The kernel's word on what seccomp refused, for the supervisor to read.
    pub(super) kernel_audit: Option<OwnedFd>,
    pub(super) notify: Notify,
    pub(super) announced: bool,
    pub(super) watchdog_at: Option<Monotonic>,
    pub(super) epoll: Epoll,
    pub(super) signals: SignalFd,
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

pub(super) fn new_epoll(signals: &SignalFd, disk: &Disk, starts: &Starts) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
    epoll.add(disk, EpollEvent::new(EpollFlags::EPOLLIN, DISK))?;
    epoll.add(&starts.looked, EpollEvent::new(EpollFlags::EPOLLIN, LOOKED))?;
    epoll.add(&starts.starter, EpollEvent::new(EpollFlags::EPOLLIN, STARTED))?;
    Ok(epoll)
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
                    DISK => self.disk_has_written(),
                    LOOKED => self.places_found(),
                    STARTED => self.started(),
                    LINK => self.serve_link(event.events(), SERVING),
                    token => {
                        touched.insert(token >> 1);
                    }
                }
            }
            for generation in touched {
                self.observe(generation);
                self.observe_errand(generation);
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
        let now = Monotonic::now();
        let plugins = self.plugins.running().filter_map(|plugin| {
            let stubborn = plugin.stopping.killed_at().filter(|_| !plugin.stubborn);
            plugin.stopping.deadline().into_iter().chain(stubborn.map(|at| at.plus(STUBBORN))).min()
        });
        let supervision = match &self.supervision {
            Supervision::Running(supervisor) => supervisor.patience(),
            Supervision::Paused { until } => Some(*until),
            Supervision::Over => None,
        };
        let stop = self.stop.as_ref().and_then(|stop| stop.next_deadline(now));
        plugins
            .chain(supervision)
            .chain(stop)
            .chain(self.resume_deadline(now))
            .chain(self.watchdog_at)
            .chain(self.errands.next_deadline())
            .chain(self.starts.next_deadline())
            .min()
    }

    /// When plugins without a supervisor are stopped: those that are not stopped by then anyway, for which
    /// the word of a supervisor that is gone is not enough.
    fn resume_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let deadline = self.orphaned_since?.plus(self.settings.resume_timeout);
        let over = deadline.max(now).plus(self.settings.stop_timeout);
        self.plugins.running().any(|plugin| !plugin.stopping.is_over_by(over)).then_some(deadline)
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

    /// What was promised for now: the ends of plugins and of what runs for them.
    pub(super) fn keep_promises(&mut self, now: Monotonic) {
        if self.resume_deadline(now).is_some_and(|at| at <= now) {
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
        self.errands.keep_time(now);
    }

    /// What the clock demands.
    fn keep_time(&mut self) {
        let now = Monotonic::now();
        self.keep_promises(now);
        let is_silent = |supervision: &Supervision| {
            matches!(supervision, Supervision::Running(supervisor)
                if supervisor.patience().is_some_and(|until| until <= now))
        };
        if is_silent(&self.supervision) {
            // It may be us who stood still, with its heartbeats unread (SIGSTOP, a machine that slept).
            self.serve_link(EpollFlags::EPOLLIN, CATCHING_UP);
        }
        match &self.supervision {
            Supervision::Running(supervisor) if is_silent(&self.supervision) => {
                tracing::error!(
                    pid = supervisor.pid(),
                    "the supervisor is silent: starting it anew"
                );
                self.kill_supervisor();
            }
            Supervision::Paused { until } if *until <= now => self.start_supervisor(),
            Supervision::Running(_) | Supervision::Paused { .. } | Supervision::Over => {}
        }
        self.give_up_looking(now);
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
                if let Err(failure) = self.begin_start(number, *start, verified) {
                    self.answer(number, Err(failure), Vec::new());
                }
            }
            Some(Outcome::Open(number, package, signer)) => {
                if let Err(failure) = self.open_package(number, &package, *signer) {
                    self.answer(number, Err(failure), Vec::new());
                }
            }
        }
    }

    // Plugins.

    /// Has the end of a compartment told, under the generation of its start.
    pub(super) fn watch(&self, child: &Child, generation: u64) -> nix::Result<()> {
        let token = generation << 1;
        self.epoll.add(child.pidfd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        if let Some(events) = child.events_fd() {
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
}
