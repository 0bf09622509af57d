//! Starting a plugin without the loop waiting for it.
//!
//! Theory of operation. Two steps of a start touch the places that the administrator allows, and those may be
//! of a file system whose server is gone: finding where a place truly is, and mounting it. The loop, which has
//! the stops of all others to keep, does neither.
//!
//! ```text
//! request ─▶ looked up, a thread for each start ─▶ verified (jobs) ─▶ started, by one thread ─▶ plugins
//! ```
//! A look-up cannot be ended, so it is waited for and then left behind; how many there can be is bounded. One
//! thread starts all plugins, one after the other, and lives as long as the launcher: a plugin dies with the
//! thread that started it. It looks at no place itself: the new process does, and is killed if that takes
//! too long.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_sandbox::{Child, Launch, Policy, Program, ProgramFile};

use super::admission::{self, DATA_TARGET, PLUGIN_TARGET, complete, demand};
use super::channels::Channels;
use super::event_loop::Launcher;
use super::jobs::{Start, Work};
use super::mailbox::Mailbox;
use super::package_store::Verified;
use super::plugins::{Plugin, no_descriptors, offer_session};
use super::requests::Answer;
use super::stopping::Stopping;
use super::worker::Worker;
use crate::capacity::{Capacity, Demand};
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Json, Reply, RequestNumber, Spawn, Spawned};

/// How long a look at the places of one plugin may take.
const LOOKING: Duration = Duration::from_secs(10);
/// Looks at a time, those that were left behind among them: each has a thread.
const MAX_LOOKS: usize = 64;

/// What the thread that starts plugins gives: nothing for a child that it was told to end.
type Started = Option<Result<(Child, Monotonic), Failure>>;

/// A start whose places are looked up.
struct Looking {
    ticket: u64,
    reply_to: RequestNumber,
    start: Box<Start>,
    until: Monotonic,
}

/// A start that was handed to the thread.
struct Begun {
    /// `None` once the supervisor that asked is gone.
    reply_to: Option<RequestNumber>,
    id: PluginId,
    digest: Digest,
    uid: u32,
    places: Vec<PathBuf>,
    demand: Demand,
    session: OwnedFd,
    bootstrap: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// The starts that are under way, but for those that are verified ([`super::jobs`]).
pub(super) struct Starts {
    pub(super) looked: Mailbox<(u64, Result<Vec<PathBuf>, Failure>)>,
    looking: Vec<Looking>,
    ticket: u64,
    /// Each look holds one.
    looks: Arc<()>,
    pub(super) starter: Worker<Started>,
    /// In the order in which the thread was told.
    begun: VecDeque<Begun>,
}

impl Starts {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            looked: Mailbox::new()?,
            looking: Vec::new(),
            ticket: 0,
            looks: Arc::default(),
            starter: Worker::start("starter")?,
            begun: VecDeque::new(),
        })
    }

    /// No plugin is being started.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.looking.len() + self.begun.len()
    }

    pub(super) fn demands(&self) -> impl Iterator<Item = Demand> {
        let looking = self.looking.iter().map(|looking| demand(&looking.start.policy));
        looking.chain(self.begun.iter().map(|begun| begun.demand))
    }

    pub(super) fn concern(&self, id: &PluginId) -> bool {
        self.looking.iter().any(|looking| looking.start.spawn.id == *id)
            || self.begun.iter().any(|begun| begun.id == *id)
    }

    pub(super) fn use_tree(&self, digest: Digest) -> bool {
        self.looking.iter().any(|looking| looking.start.spawn.digest == digest)
            || self.begun.iter().any(|begun| begun.digest == digest)
    }

    /// The supervisor that asked is gone.
    pub(super) fn disown(&mut self) {
        self.looking.clear();
        for begun in &mut self.begun {
            begun.reply_to = None;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.looking.iter().map(|looking| looking.until).min()
    }

    fn look_up(&mut self, number: RequestNumber, start: Box<Start>) -> Result<(), Failure> {
        let used = Arc::strong_count(&self.looks) - 1;
        if used >= MAX_LOOKS {
            let text = format!(
                "{used} looks at places of the machine are waited for; does a file server not answer?"
            );
            return Err(Failure::new(Code::ResourceExhausted, text)
                .with("resource", "looks at places")
                .with("limit", MAX_LOOKS)
                .with("used", used));
        }
        self.ticket += 1;
        let ticket = self.ticket;
        let (post, places, held) =
            (self.looked.post(), sources(&start.policy), Arc::clone(&self.looks));
        let thread = std::thread::Builder::new().name("places".to_owned()).spawn(move || {
            post.send((ticket, admission::resolve(places)));
            drop(held);
        });
        thread.map_err(|error| no_thread(&error))?;
        let until = Monotonic::now().plus(LOOKING);
        self.looking.push(Looking { ticket, reply_to: number, start, until });
        Ok(())
    }

    /// Has a child ended where nobody waits for that.
    fn end(&self, child: Child) {
        let ended = self.starter.order(move || {
            drop(child);
            None
        });
        if let Err(error) = ended {
            tracing::error!(%error, "a start that nobody wants any more cannot be ended");
        }
    }
}

fn sources(policy: &Policy) -> Vec<PathBuf> {
    policy.filesystem.mounts.iter().map(|mount| mount.source.clone()).collect()
}

fn no_thread(error: &io::Error) -> Failure {
    let text = format!("the launcher cannot start another thread: {error}; raise TasksMax=");
    Failure::new(Code::ResourceExhausted, text).with("resource", "threads")
}

fn unanswered(start: &Start) -> Failure {
    let places = sources(&start.policy);
    let named: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    let text = format!(
        "cannot mount {}: no answer in {LOOKING:?}; is the server of that file system there?",
        named.join(" or ")
    );
    Failure::new(Code::Timeout, text)
        .with("stage", "sources")
        .with("budgetMs", LOOKING.as_millis() as u64)
}

impl Launcher {
    pub(super) fn spawn(&mut self, number: RequestNumber, spawn: Spawn) -> Result<Answer, Failure> {
        self.check_serving()?;
        self.check_idle(&spawn.id)?;
        self.plugins.check_backlog()?;
        self.jobs.check_room(self.starts.count())?;
        if self.storage.get(&spawn.id).is_none() {
            return Err(Failure::new(
                Code::NotFound,
                format!("plugin {} has no storage; allot it first", spawn.id),
            )
            .with("what", "storage")
            .with("name", &spawn.id));
        }
        self.authorize(&spawn.id, spawn.digest)?;
        let policy = admission::examine(&spawn, &self.rules)?;
        let running = self.plugins.running().map(|plugin| plugin.demand);
        let others = running.chain(self.starts.demands()).chain(self.jobs.starting().map(demand));
        // Told by the supervisor before, unless somebody has taken it over.
        let capacity = Capacity::measure(&self.settings.admission);
        capacity.check(&spawn.id, others, demand(&policy))?;
        let start = Box::new(Start { spawn, policy });
        if start.policy.filesystem.mounts.is_empty() {
            self.verify(number, start);
        } else {
            self.starts.look_up(number, start)?;
        }
        Ok(Answer::Later)
    }

    fn verify(&mut self, number: RequestNumber, start: Box<Start>) {
        let verification = self.store.verify(start.spawn.digest, &start.spawn.entry);
        self.jobs.push(number, Work::Verify { start, verification });
    }

    /// Goes on with the starts whose places were found.
    pub(super) fn places_found(&mut self) {
        for (ticket, found) in self.starts.looked.take() {
            let looking = &mut self.starts.looking;
            // One that is not there was given up.
            let Some(index) = looking.iter().position(|it| it.ticket == ticket) else { continue };
            let Looking { reply_to, mut start, .. } = looking.swap_remove(index);
            let settled = self
                .check_serving()
                .and(found)
                .and_then(|places| admission::settle(&mut start.policy, places, &self.rules));
            match settled {
                Ok(()) => self.verify(reply_to, start),
                Err(failure) => self.respond(reply_to, Err(failure)),
            }
        }
    }

    /// Gives up the starts whose places do not answer.
    pub(super) fn give_up_looking(&mut self, now: Monotonic) {
        let late = self.starts.looking.extract_if(.., |looking| looking.until <= now);
        for Looking { reply_to, start, .. } in late.collect::<Vec<_>>() {
            self.answer(reply_to, Err(unanswered(&start)), Vec::new());
        }
    }

    /// Has what was admitted and verified started.
    pub(super) fn begin_start(
        &mut self,
        number: RequestNumber,
        start: Start,
        verified: Verified,
    ) -> Result<(), Failure> {
        // The service may have been told to stop while the tree was verified.
        self.check_serving()?;
        let Start { spawn, policy } = start;
        let Spawn { id, digest, entry, args, env, policy: Json(asked) } = spawn;
        let allotment = self.storage.get(&id).ok_or_else(|| {
            Failure::internal(format!("the storage of plugin {id} went while it was started"))
        })?;
        let policy = complete(policy, &verified.path, &allotment.data);
        let channels = Channels::open().map_err(|error| no_descriptors(&error))?;
        // Before it starts: one that ends at once is then an exit like any other.
        let session =
            offer_session(&channels.bootstrap_ours).map_err(|error| no_descriptors(&error))?;
        let begun = Begun {
            reply_to: Some(number),
            id: id.clone(),
            digest,
            uid: allotment.uid,
            places: sources(&asked),
            demand: demand(&policy),
            session,
            bootstrap: channels.bootstrap_ours,
            stdout: channels.stdout,
            stderr: channels.stderr,
        };
        let mut argv = vec![format!("{PLUGIN_TARGET}/{entry}").into()];
        argv.extend(args.into_iter().map(Into::into));
        let program = Program {
            file: ProgramFile::Descriptor(verified.entry),
            args: argv,
            env: environment(env, &entry),
            cwd: DATA_TARGET.into(),
        };
        let identity = self.ownership.identity(allotment.uid);
        let (tree, learning) = (self.tree.clone(), self.learning.clone());
        let (stdio, bootstrap) = (channels.stdio, Some(channels.bootstrap_theirs));
        let start = move || {
            let learner = match learning {
                Some(learning) => learning.learner(&id)?,
                None => None,
            };
            let (name, policy) = (id.as_str(), &policy);
            let launch = Launch { name, policy, identity, program, stdio, bootstrap, learner };
            let started = Monotonic::now();
            Ok((bulkhead_sandbox::spawn(tree.as_deref(), launch)?, started))
        };
        self.starts.starter.order(move || Some(start())).map_err(|error| no_thread(&error))?;
        self.starts.begun.push_back(begun);
        Ok(())
    }

    /// Takes in what was started, and answers.
    pub(super) fn started(&mut self) {
        for result in self.starts.starter.done().into_iter().flatten() {
            let Some(begun) = self.starts.begun.pop_front() else { continue };
            let reply_to = begun.reply_to;
            let taken = result.and_then(|(child, at)| self.take_in(begun, child, at));
            let Some(number) = reply_to else { continue };
            match taken {
                Ok((spawned, descriptors)) => {
                    self.answer(number, Ok(Reply::Spawned(spawned)), descriptors);
                }
                Err(failure) => self.answer(number, Err(failure), Vec::new()),
            }
        }
    }

    fn take_in(
        &mut self,
        begun: Begun,
        child: Child,
        started: Monotonic,
    ) -> Result<(Spawned, Vec<OwnedFd>), Failure> {
        let Begun { reply_to, id, digest, uid, places, demand, session, .. } = begun;
        // The supervisor that comes next has been told what runs, and this is not among it.
        let unwanted = match reply_to {
            Some(_) => self.check_serving().err(),
            None => Some(Failure::internal("the supervisor that asked is gone")),
        };
        if let Some(failure) = unwanted {
            self.starts.end(child);
            return Err(failure);
        }
        let spawned = Spawned {
            generation: self.generation,
            pid: child.pid(),
            uid,
            started,
            cgroup: child.cgroup().map(|cgroup| cgroup.path().to_owned()),
            enforcement: Json(child.enforcement().clone()),
        };
        self.generation += 1;
        tracing::info!(plugin = %id, generation = spawned.generation, pid = spawned.pid, "plugin started");
        let plugin = Plugin {
            id,
            digest,
            spawned: spawned.clone(),
            places,
            demand,
            child,
            bootstrap: begun.bootstrap,
            stdout: begun.stdout,
            stderr: begun.stderr,
            stopping: Stopping::default(),
            ended: None,
            stubborn: false,
        };
        let watched = self
            .watch(&plugin.child, plugin.generation())
            .map_err(io::Error::from)
            .and_then(|()| plugin.descriptors(session));
        let descriptors = match watched {
            Ok(descriptors) => descriptors,
            Err(error) => {
                self.starts.end(plugin.child);
                return Err(no_descriptors(&error));
            }
        };
        self.plugins.insert(plugin);
        self.announce();
        Ok((spawned, descriptors))
    }
}

/// The variables that were asked for, and the one by which glibc's loader knows where the program
/// lies (`$ORIGIN` of its RUNPATH): in a compartment without /proc it cannot find out by itself. A
/// request could not set it.
fn environment(asked: Vec<(String, String)>, entry: &str) -> Vec<(OsString, OsString)> {
    let directory = Path::new(PLUGIN_TARGET).join(entry);
    let directory = directory.parent().unwrap_or(Path::new(PLUGIN_TARGET));
    let origin = (OsString::from("LD_ORIGIN_PATH"), directory.into());
    let asked = asked.into_iter().map(|(name, value)| (name.into(), value.into()));
    asked.chain([origin]).collect()
}
