//! The task that has the machines of all schedules, and one timer for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::clock::Clock;
use super::jitter::{Jitter, Seed};
use super::machine::{Effect, Input, Machine};
use super::steps::Steps;
use super::world::World;
use super::{Ask, Command, Standing};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::{Manifest, Schedule};

/// How often the time of day and the plugins are looked at, whether something is due or not.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The time of day that differs by more from what has passed was set.
const STEPPED: SignedDuration = SignedDuration::from_secs(1);

/// A schedule among all: the plugin, and the place in its manifest.
type Key = (PluginId, usize);

/// A plugin that was seen enabled.
struct Tracked {
    /// Another one is another version of it, or another installation.
    manifest: Arc<Manifest>,
    /// Tells the runs of one such from those of another.
    epoch: u64,
    entries: Vec<Entry>,
}

struct Entry {
    machine: Machine,
    /// Its place in the queue.
    queued: Option<Timestamp>,
}

/// A step's work is done.
struct Done {
    key: Key,
    epoch: u64,
    runs: usize,
}

pub(super) struct Runner<W> {
    world: W,
    clock: Clock,
    seed: Seed,
    tracked: BTreeMap<PluginId, Tracked>,
    /// What begins next, first.
    queue: BTreeSet<(Timestamp, Key)>,
    tasks: JoinSet<Done>,
    settling: Vec<oneshot::Sender<()>>,
    epochs: u64,
    looked: Instant,
    /// What the clock showed when, to see that it was set.
    seen: (Timestamp, Instant),
}

impl<W: World> Runner<W> {
    pub(super) fn new(world: W, clock: Clock, seed: Seed) -> Self {
        let now = Instant::now();
        Self {
            world,
            clock,
            seed,
            tracked: BTreeMap::new(),
            queue: BTreeSet::new(),
            tasks: JoinSet::new(),
            settling: Vec::new(),
            epochs: 0,
            looked: now,
            seen: (clock.now(), now),
        }
    }

    /// Must run inside the local set. `changed` tells that a plugin came up, went down, or is another.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        changed: Arc<Notify>,
    ) {
        self.look_at_plugins().await;
        loop {
            self.look_at_clock();
            if self.tasks.is_empty() {
                for answer in self.settling.drain(..) {
                    // Whoever asked may have given up.
                    let _ = answer.send(());
                }
            }
            let pause = self.pause();
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                Some(done) = self.tasks.join_next() => self.joined(done),
                () = changed.notified() => self.look_at_plugins().await,
                () = sleep(pause) => {}
            }
            if self.looked.elapsed() >= LOOK_AGAIN {
                self.look_at_plugins().await;
            }
        }
    }

    /// Until the first of the queue, or until it is looked again.
    fn pause(&self) -> Duration {
        let first = self.queue.first().map(|(at, _)| at.duration_since(self.clock.now()));
        first.map_or(LOOK_AGAIN, |span| self.clock.takes(span).min(LOOK_AGAIN))
    }

    /// Takes those on that have come, drops those that are gone, and sees who is up.
    async fn look_at_plugins(&mut self) {
        self.looked = Instant::now();
        let plugins = self.world.plugins();
        let there: BTreeMap<&PluginId, &Arc<Manifest>> =
            plugins.iter().map(|(manifest, _)| (&manifest.id, manifest)).collect();
        let gone: Vec<PluginId> = self
            .tracked
            .iter()
            .filter(|(id, known)| there.get(id).is_none_or(|is| !Arc::ptr_eq(is, &known.manifest)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.tracked.remove(&id);
            self.queue.retain(|(_, (plugin, _))| *plugin != id);
        }
        for (manifest, up) in plugins {
            let id = manifest.id.clone();
            if !self.tracked.contains_key(&id) {
                // What was never up has nothing to make up for.
                if !up || !self.track(manifest).await {
                    continue;
                }
            }
            let count = self.tracked.get(&id).map_or(0, |tracked| tracked.entries.len());
            for index in 0..count {
                let key = (id.clone(), index);
                if self.entry(&key).is_some_and(|entry| entry.machine.is_up() != up) {
                    self.step(&key, Input::Look { up }, None);
                }
            }
        }
    }

    /// Whether it could be read how its schedules stand.
    async fn track(&mut self, manifest: Arc<Manifest>) -> bool {
        let id = &manifest.id;
        let rule =
            |schedule: &Schedule| format!("{} {}", schedule.cron, schedule.timezone.as_str());
        let rules =
            manifest.schedule.iter().map(|one| (one.name().to_owned(), rule(one))).collect();
        let now = self.clock.now();
        let accounted = match self.world.adopt(id, rules, now).await {
            Ok(accounted) => accounted,
            Err(failure) => {
                tracing::error!(plugin = %id, %failure, "its schedules wait for the store");
                return false;
            }
        };
        let entry = |schedule: &Schedule| {
            let jitter = Jitter::new(self.seed, id, schedule.name(), schedule.jitter.millis());
            let accounted = accounted.get(schedule.name()).copied().unwrap_or(now);
            Entry { machine: Machine::new(schedule, jitter, accounted), queued: None }
        };
        let entries = manifest.schedule.iter().map(entry).collect();
        self.epochs += 1;
        let epoch = self.epochs;
        self.tracked.insert(id.clone(), Tracked { manifest, epoch, entries });
        true
    }

    fn entry(&mut self, (plugin, index): &Key) -> Option<&mut Entry> {
        self.tracked.get_mut(plugin)?.entries.get_mut(*index)
    }

    /// Begins what is due.
    fn look_at_clock(&mut self) {
        let (now, at) = (self.clock.now(), Instant::now());
        let (shown, since) = self.seen;
        let passed = self.clock.goes(at - since);
        self.seen = (now, at);
        let stepped = now.duration_since(shown).checked_sub(passed).map(SignedDuration::abs);
        let due: Vec<Key> = if stepped.is_none_or(|by| by > STEPPED) {
            // What was next may not be any more.
            let keys = self.tracked.iter().flat_map(|(id, tracked)| {
                (0..tracked.entries.len()).map(|index| (id.clone(), index))
            });
            keys.collect()
        } else {
            let over = self.queue.iter().take_while(|(start, _)| *start <= now);
            over.map(|(_, key)| key.clone()).collect()
        };
        for key in due {
            let up = self.world.is_up(&key.0);
            self.step(&key, Input::Look { up }, None);
        }
    }

    async fn obey(&mut self, command: Command) {
        while let Some(done) = self.tasks.try_join_next() {
            self.joined(done);
        }
        match command {
            Command::Show { plugin, answer } => {
                self.look_at_plugins().await;
                let _ = answer.send(self.standing(&plugin));
            }
            Command::Run(ask) => {
                self.look_at_plugins().await;
                let named = |tracked: &Tracked| {
                    tracked.manifest.schedule.iter().position(|one| one.name() == ask.schedule)
                };
                let index = self.tracked.get(&ask.plugin).and_then(named);
                match (index, self.world.is_up(&ask.plugin)) {
                    (Some(index), true) => {
                        self.step(&(ask.plugin.clone(), index), Input::Asked, Some(ask));
                    }
                    (None, true) => drop(ask.answer.send(Err(not_known(&ask.plugin)))),
                    (_, false) => drop(ask.answer.send(Err(not_up(&ask.plugin)))),
                }
            }
            Command::Settle { answer } => self.settling.push(answer),
        }
    }

    fn standing(&self, plugin: &PluginId) -> BTreeMap<String, Standing> {
        let now = self.clock.now();
        let Some(tracked) = self.tracked.get(plugin) else { return BTreeMap::new() };
        let names = tracked.manifest.schedule.iter().map(|one| one.name().to_owned());
        let standing = tracked.entries.iter().map(|entry| {
            let next = entry.machine.next(now);
            let (due, start) = (next.map(|next| next.due), next.map(|next| next.start));
            Standing { due, start, running: entry.machine.running() }
        });
        names.zip(standing).collect()
    }

    fn joined(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "a run of a schedule was lost"),
        };
        let known = self.tracked.get(&done.key.0).is_some_and(|it| it.epoch == done.epoch);
        for _ in 0..if known { done.runs } else { 0 } {
            self.step(&done.key, Input::Ended, None);
        }
    }

    /// Asks the machine, and sees to what it says.
    fn step(&mut self, key: &Key, input: Input, ask: Option<Ask>) {
        let now = self.clock.now();
        let Some(tracked) = self.tracked.get_mut(&key.0) else { return };
        let (epoch, manifest) = (tracked.epoch, Arc::clone(&tracked.manifest));
        let Some(entry) = tracked.entries.get_mut(key.1) else { return };
        let effects = entry.machine.step(input, now);
        let next = entry.machine.next(now).map(|next| next.start);
        if let Some(was) = std::mem::replace(&mut entry.queued, next) {
            self.queue.remove(&(was, key.clone()));
        }
        self.queue.extend(next.map(|start| (start, key.clone())));
        let Some(schedule) = manifest.schedule.get(key.1).filter(|_| !effects.is_empty()) else {
            return;
        };
        tracing::debug!(plugin = %key.0, schedule = schedule.name(), ?input, ?effects);
        let runs = effects.iter().filter(|e| matches!(e, Effect::Start { .. })).count();
        let steps = Steps {
            world: self.world.clone(),
            clock: self.clock,
            seed: self.seed,
            plugin: key.0.clone(),
            schedule: schedule.clone(),
        };
        let key = key.clone();
        self.tasks.spawn_local(async move {
            steps.carry_out(effects, ask).await;
            Done { key, epoch, runs }
        });
    }
}

fn not_up(plugin: &PluginId) -> Failure {
    let message = format!("{plugin} is not enabled, so none of its schedules run");
    Failure::new(Code::Conflict, message).with("state", "disabled")
}

fn not_known(plugin: &PluginId) -> Failure {
    let message = format!("how the schedules of {plugin} stand could not be read; see the log");
    Failure::new(Code::StorageFailed, message)
}
