//! The plugins that run, and the exits that no supervisor has acknowledged.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use bulkhead_ipc_protocol::host::CONNECTION_PACKET;
use bulkhead_sandbox::descriptors::{send_with_fds, stream_pair};
use bulkhead_sandbox::{Child, Exit, Signal};

use super::stopping::{Due, Stopping};
use crate::capacity::Demand;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Adopted, Exited, Json, Spawned, StageName};

/// A plugin that runs, or whose last process is not gone yet.
pub(super) struct Plugin {
    pub(super) id: PluginId,
    pub(super) digest: Digest,
    pub(super) spawned: Spawned,
    /// The sources of its mounts, as they were asked for.
    pub(super) places: Vec<PathBuf>,
    /// What it may use at most.
    pub(super) demand: Demand,
    pub(super) child: Child,
    /// Our end of the plugin's descriptor 3, non-blocking.
    pub(super) bootstrap: OwnedFd,
    /// Read ends: a supervisor has duplicates of them, and the next one gets more.
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) stopping: Stopping,
    /// How its main process ended. Kept from that moment: what is killed afterwards does not change
    /// why.
    pub(super) ended: Option<Exit>,
    /// It was said that it does not disappear.
    pub(super) stubborn: bool,
}

/// An exit that is kept until it is acknowledged.
pub(super) struct Departed {
    pub(super) exited: Exited,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Duplicates of both read ends, for one message.
fn streams(stdout: &OwnedFd, stderr: &OwnedFd) -> std::io::Result<Vec<OwnedFd>> {
    Ok(vec![stdout.try_clone()?, stderr.try_clone()?])
}

/// Sends one end of a new session through a bootstrap socket and returns the other. The message
/// waits in the socket until the plugin takes it.
pub(super) fn offer_session(bootstrap: &OwnedFd) -> std::io::Result<OwnedFd> {
    let (ours, theirs) = stream_pair()?;
    send_with_fds(bootstrap.as_fd(), &[1], &[theirs.as_fd()])?;
    Ok(ours)
}

impl Plugin {
    pub(super) fn generation(&self) -> u64 {
        self.spawned.generation
    }

    /// A new session: the plugin gets one end through its bootstrap socket, the other is returned.
    pub(super) fn open_session(&self) -> Result<OwnedFd, Failure> {
        offer_session(&self.bootstrap).map_err(|error| self.not_taken("session", &error))
    }

    /// A connection that was made for it, through its bootstrap socket.
    pub(super) fn hand_connection(&self, token: u64, socket: &OwnedFd) -> Result<(), Failure> {
        let mut packet = [CONNECTION_PACKET; 9];
        packet[1..].copy_from_slice(&token.to_le_bytes());
        send_with_fds(self.bootstrap.as_fd(), &packet, &[socket.as_fd()])
            .map_err(|error| self.not_taken("connection", &error))
    }

    fn not_taken(&self, what: &str, error: &std::io::Error) -> Failure {
        let id = &self.id;
        let (code, why) = match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                (Code::ResourceExhausted, "it has not taken what it was given before".to_owned())
            }
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => {
                (Code::ProtocolViolation, "it has closed descriptor 3".to_owned())
            }
            _ => return no_descriptors(error),
        };
        Failure::new(code, format!("plugin {id} cannot be given a {what}: {why}"))
            .with("resource", format!("{what}s"))
            .with("violation", "bootstrap")
    }

    /// What a supervisor needs to serve it: a session and both read ends.
    pub(super) fn descriptors(&self, session: OwnedFd) -> std::io::Result<Vec<OwnedFd>> {
        let mut descriptors = vec![session];
        descriptors.extend(streams(&self.stdout, &self.stderr)?);
        Ok(descriptors)
    }

    pub(super) fn adopted(&self) -> Adopted {
        Adopted {
            id: self.id.clone(),
            digest: self.digest,
            spawned: self.spawned.clone(),
            places: self.places.clone(),
            stopping: self.stopping.is_armed(),
        }
    }

    /// Does what the stop's deadlines demand now.
    pub(super) fn stop_if_due(&mut self, now: Monotonic) {
        let Some(due) = self.stopping.due(now) else { return };
        let (stage, result) = match due {
            Due::Sigterm => (StageName::Sigterm, self.child.signal(Signal::SIGTERM)),
            Due::Sigkill => (StageName::Sigkill, self.child.kill()),
        };
        if let Err(error) = result {
            // Nothing is left to escalate to but the same again; the exit, if it comes, is still seen.
            tracing::error!(plugin = %self.id, %error, "a plugin could not be signalled");
        }
        self.stopping.record(stage, Monotonic::now());
    }

    /// Looks what is left of it. `true` when no process is.
    pub(super) fn observe(&mut self) -> bool {
        match self.child.try_reap() {
            Ok(Some(exit)) if self.ended.is_none() => {
                self.ended = Some(exit);
                self.stopping.record(StageName::Exited, Monotonic::now());
            }
            Ok(_) => {}
            Err(error) => tracing::error!(plugin = %self.id, %error, "a plugin cannot be reaped"),
        }
        if self.ended.is_none() {
            return false;
        }
        match self.child.is_empty() {
            Ok(true) => {
                self.stopping.record(StageName::Empty, Monotonic::now());
                true
            }
            Ok(false) => {
                // It left something behind. Nothing outlives its plugin.
                if self.stopping.killed_at().is_none() {
                    self.stopping.record(StageName::Sigkill, Monotonic::now());
                    if let Err(error) = self.child.kill() {
                        tracing::error!(plugin = %self.id, %error, "what a plugin left cannot be killed");
                    }
                }
                false
            }
            Err(error) => {
                tracing::error!(plugin = %self.id, %error, "a plugin's cgroup cannot be read");
                false
            }
        }
    }

    /// Removes its cgroup. Only when [`Plugin::observe`] said that no process is left.
    pub(super) fn depart(self) -> Departed {
        let Self { id, digest, spawned, child, stdout, stderr, mut stopping, ended, .. } = self;
        let mut exit = ended.expect("observe says `true` only after the main process was reaped");
        match child.remove() {
            // The usage counts to the last; why it ended was settled when it did.
            Ok(last) => exit.usage = last.usage,
            Err(error) => tracing::warn!(plugin = %id, %error, "a plugin's cgroup stays behind"),
        }
        stopping.record(StageName::Removed, Monotonic::now());
        let exited = Exited {
            id,
            digest,
            generation: spawned.generation,
            uid: spawned.uid,
            exit: Json(exit),
            stages: stopping.into_stages(),
        };
        Departed { exited, stdout, stderr }
    }
}

impl Departed {
    /// The descriptors that go with the message: what it wrote last may still be in them.
    pub(super) fn descriptors(&self) -> std::io::Result<Vec<OwnedFd>> {
        streams(&self.stdout, &self.stderr)
    }
}

/// All plugins of this launcher, by generation.
#[derive(Default)]
pub(super) struct Plugins {
    running: BTreeMap<u64, Plugin>,
    departed: BTreeMap<u64, Departed>,
}

/// Exits that may wait for their acknowledgement before nothing more is started.
const MAX_DEPARTED: usize = 1024;

impl Plugins {
    pub(super) fn insert(&mut self, plugin: Plugin) {
        self.running.insert(plugin.generation(), plugin);
    }

    pub(super) fn by_id(&self, id: &PluginId) -> Option<&Plugin> {
        self.running.values().find(|plugin| plugin.id == *id)
    }

    pub(super) fn get_mut(&mut self, generation: u64) -> Option<&mut Plugin> {
        self.running.get_mut(&generation)
    }

    pub(super) fn remove(&mut self, generation: u64) -> Option<Plugin> {
        self.running.remove(&generation)
    }

    /// The plugin of this very start. CONFLICT: it runs, but it is another start. NOT_FOUND: it
    /// does not run.
    pub(super) fn exactly(
        &mut self,
        id: &PluginId,
        generation: u64,
    ) -> Result<&mut Plugin, Failure> {
        let running = self.by_id(id).map(Plugin::generation);
        match running {
            Some(found) if found == generation => {
                Ok(self.running.get_mut(&generation).expect("the line above has just found it"))
            }
            Some(found) => Err(Failure::new(
                Code::Conflict,
                format!("plugin {id} runs as generation {found}, not {generation}"),
            )
            .with("state", "running")
            .with("generation", found)),
            None => Err(Failure::new(Code::NotFound, format!("plugin {id} does not run"))
                .with("what", "process")
                .with("name", id)),
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Plugin> {
        self.running.values()
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = &mut Plugin> {
        self.running.values_mut()
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Keeps an exit until it is acknowledged.
    pub(super) fn keep(&mut self, departed: Departed) {
        self.departed.insert(departed.exited.generation, departed);
    }

    pub(super) fn departed(&self) -> impl Iterator<Item = &Departed> {
        self.departed.values()
    }

    pub(super) fn has_departed(&self, id: &PluginId, generation: u64) -> bool {
        self.departed.get(&generation).is_some_and(|departed| departed.exited.id == *id)
    }

    /// Forgets an exit. One that is unknown was acknowledged before: that is well.
    pub(super) fn acknowledge(&mut self, id: &PluginId, generation: u64) {
        if self.has_departed(id, generation) {
            self.departed.remove(&generation);
        }
    }

    /// Refuses more starts to a supervisor that acknowledges nothing.
    pub(super) fn check_backlog(&self) -> Result<(), Failure> {
        if self.departed.len() < MAX_DEPARTED {
            return Ok(());
        }
        Err(Failure::new(
            Code::ResourceExhausted,
            format!("{MAX_DEPARTED} exits wait to be acknowledged; nothing more is started before"),
        )
        .with("resource", "unacknowledged exits")
        .with("limit", MAX_DEPARTED)
        .with("used", self.departed.len()))
    }
}

/// The launcher itself has no descriptor or memory left.
pub(super) fn no_descriptors(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::ResourceExhausted,
        format!("the launcher cannot open another descriptor: {error}; raise LimitNOFILE="),
    )
    .with("resource", "descriptors")
}
