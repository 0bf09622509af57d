//! Answering the supervisor's requests.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use bulkhead_sandbox::descriptors::is_tcp_connection;

use super::credentials;
use super::durable::Question;
use super::event_loop::Launcher;
use super::jobs::Work;
use super::measuring::Measure;
use super::supervision::Supervision;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Hidden, Json, LEASES, MAX_PACKET, Numbered, Reply, Request, RequestNumber};

/// What a request that is not refused is answered with.
pub(super) enum Answer {
    Now(Reply, Vec<OwnedFd>),
    /// A job gives the answer when it is done, or the disk has what it speaks of.
    Later,
}

const DONE: Answer = Answer::Now(Reply::Done, Vec::new());

impl Launcher {
    /// `descriptors` are as many as the request speaks of.
    pub(super) fn handle(&mut self, request: Numbered, mut descriptors: Vec<OwnedFd>) {
        let Numbered { number, request } = request;
        let answer = match request {
            Request::Heartbeat => {
                if let Supervision::Running(supervisor) = &mut self.supervision {
                    supervisor.hear(Monotonic::now());
                }
                return;
            }
            Request::Bye => return self.goodbye(),
            Request::Ready => {
                self.supervisor_ready();
                Ok(DONE)
            }
            Request::Import { source } => self.import(number, &source),
            Request::ImportPackage { signature } => match descriptors.pop() {
                Some(package) => self
                    .check_serving()
                    .and_then(|()| self.import_package(number, &signature, package))
                    .map(|()| Answer::Later),
                None => Err(Failure::internal("a package came without its descriptor")),
            },
            Request::Authorize { id, digest } => self.authorize(&id, digest).map(|()| DONE),
            Request::Discard { digest } => self.discard(number, digest),
            Request::Allot { id } => self.allot(number, id),
            Request::Leases { after } => {
                let (leases, more) = self.storage.leases_after(after.as_ref(), LEASES);
                Ok(Answer::Now(Reply::Leases { leases, more }, Vec::new()))
            }
            Request::Release { id } => self.release(number, id),
            Request::SaveData { id, limit } => match descriptors.pop() {
                Some(to) => self.save_data(number, id, &to, limit).map(|()| Answer::Later),
                None => Err(Failure::internal("a request to save data came without a descriptor")),
            },
            Request::RestoreData { id } => match descriptors.pop() {
                Some(from) => self.restore_data(number, id, &from).map(|()| Answer::Later),
                None => Err(Failure::internal("a request to restore data came without one")),
            },
            Request::Measure { id } => self.measure(number, id),
            Request::NetworkDevices { id } => {
                let plugin = self.plugins.by_id(&id);
                let text = plugin.and_then(|plugin| plugin.child.network_devices());
                let text = text.filter(|text| text.len() < MAX_PACKET / 2);
                Ok(Answer::Now(Reply::NetworkDevices(text), Vec::new()))
            }
            Request::Spawn(spawn) => self.spawn(number, *spawn),
            Request::Session { id, generation } => self.session(&id, generation),
            Request::Connection { id, generation, token } => match descriptors.pop() {
                Some(socket) => {
                    self.hand_connection(&id, generation, token, &socket).map(|()| DONE)
                }
                None => Err(Failure::internal("a connection came without its descriptor")),
            },
            Request::Credential { name } => credentials::read(&name)
                .map(|text| Answer::Now(Reply::Credential(Hidden(text)), Vec::new())),
            Request::AuditHead => self.ask_anchor(number, Question::Head),
            Request::Anchor { after, bodies } => {
                self.ask_anchor(number, Question::Extend { after, bodies })
            }
            Request::TrustChange => {
                self.trust_log.look(&self.trust);
                let first = self.trust_log.first();
                let first = first.map(|(number, change)| (number, Box::new(Json(change.clone()))));
                Ok(Answer::Now(Reply::TrustChange(first), Vec::new()))
            }
            Request::TrustRecorded { number } => self.trust_log.recorded(number).map(|()| DONE),
            Request::Stop { id, generation, term_in, kill_in } => {
                self.stop(&id, generation, term_in, kill_in)
            }
            Request::Acknowledge { id, generation } => {
                self.plugins.acknowledge(&id, generation);
                Ok(DONE)
            }
        };
        self.respond(number, answer);
    }

    /// Answers, unless that is done later.
    pub(super) fn respond(&mut self, number: RequestNumber, answer: Result<Answer, Failure>) {
        match answer {
            Ok(Answer::Later) => {}
            Ok(Answer::Now(reply, descriptors)) => self.answer(number, Ok(reply), descriptors),
            Err(failure) => {
                if matches!(failure.code, Code::PermissionDenied | Code::SignatureInvalid) {
                    tracing::warn!(%failure, details = %failure.details, "a request was refused");
                }
                self.answer(number, Err(failure), Vec::new());
            }
        }
    }

    pub(super) fn check_serving(&self) -> Result<(), Failure> {
        if self.stop.is_none() {
            return Ok(());
        }
        Err(Failure::new(Code::ShuttingDown, "the service is going down and starts nothing new"))
    }

    /// Whether a tree may run as that plugin by what is trusted now.
    pub(super) fn authorize(&mut self, id: &PluginId, digest: Digest) -> Result<(), Failure> {
        self.trust_log.look(&self.trust);
        let signers = self.store.signers(digest)?;
        if signers.is_empty() && self.allow_directories {
            return Ok(());
        }
        self.trust.authorize(id, &signers).map(drop)
    }

    fn import(&mut self, number: RequestNumber, source: &Path) -> Result<Answer, Failure> {
        self.check_serving()?;
        if !self.allow_directories {
            return Err(Failure::new(
                Code::PermissionDenied,
                "plugins are not installed from directories, which nobody has signed; \
                 set `allow_directories = true` in bulkhead.toml to allow it",
            )
            .with("permission", "allow_directories"));
        }
        self.jobs.check_room(self.starts.count())?;
        let import = self.store.import(source)?;
        self.jobs.push(number, Work::Import(import));
        Ok(Answer::Later)
    }

    fn discard(&mut self, number: RequestNumber, digest: Digest) -> Result<Answer, Failure> {
        let used_by = self.plugins.running().find(|plugin| plugin.digest == digest);
        if let Some(plugin) = used_by {
            return Err(Failure::new(
                Code::Conflict,
                format!("package {digest} is what plugin {} runs; stop it first", plugin.id),
            )
            .with("state", "running"));
        }
        if self.jobs.use_tree(digest) || self.starts.use_tree(digest) {
            return Err(Failure::new(
                Code::Conflict,
                format!("package {digest} is in use just now"),
            )
            .with("state", "busy"));
        }
        self.jobs.check_room(self.starts.count())?;
        match self.store.discard(digest)? {
            None => Ok(DONE),
            Some(removal) => {
                self.jobs.push(number, Work::Discard { digest, removal });
                Ok(Answer::Later)
            }
        }
    }

    fn release(&mut self, number: RequestNumber, id: PluginId) -> Result<Answer, Failure> {
        self.check_idle(&id)?;
        self.jobs.check_room(self.starts.count())?;
        match self.storage.release(&id)? {
            None => Ok(DONE),
            Some(release) => {
                self.jobs.push(number, Work::Release { id, release });
                Ok(Answer::Later)
            }
        }
    }

    fn measure(&mut self, number: RequestNumber, id: PluginId) -> Result<Answer, Failure> {
        self.jobs.check_room_to_measure(self.starts.count())?;
        let Some(allotment) = self.storage.get(&id) else {
            return Err(Failure::new(Code::NotFound, format!("plugin {id} has no storage"))
                .with("what", "storage")
                .with("name", id));
        };
        let leased = self.ownership.leased(allotment.uid);
        let measure = Measure::begin(&allotment.data, leased).map_err(|errno| {
            let path = allotment.data;
            Failure::new(Code::StorageFailed, format!("cannot open {}: {errno}", path.display()))
                .with("path", path)
        })?;
        self.jobs.push(number, Work::Measure { id, measure });
        Ok(Answer::Later)
    }

    /// One process of each plugin, and nothing under way that needs its storage.
    pub(super) fn check_idle(&self, id: &PluginId) -> Result<(), Failure> {
        let state = if let Some(plugin) = self.plugins.by_id(id) {
            if plugin.stopping.is_armed() { "stopping" } else { "running" }
        } else if self.jobs.concern(id) || self.starts.concern(id) || self.errands.concern(id) {
            "busy"
        } else {
            return Ok(());
        };
        Err(Failure::new(Code::Conflict, format!("plugin {id} is {state}; wait until it is gone"))
            .with("state", state))
    }

    /// Nothing but a TCP connection is passed on: to a plugin any other descriptor could be a way out.
    fn hand_connection(
        &mut self,
        id: &PluginId,
        generation: u64,
        token: u64,
        socket: &OwnedFd,
    ) -> Result<(), Failure> {
        let plugin = self.plugins.exactly(id, generation)?;
        if !is_tcp_connection(socket) {
            return Err(Failure::new(
                Code::PermissionDenied,
                format!("what was sent for plugin {id} is not a TCP connection"),
            )
            .with("permission", "network"));
        }
        plugin.hand_connection(token, socket)
    }

    fn session(&mut self, id: &PluginId, generation: u64) -> Result<Answer, Failure> {
        let plugin = self.plugins.exactly(id, generation)?;
        let session = plugin.open_session()?;
        Ok(Answer::Now(Reply::Done, vec![session]))
    }

    fn stop(
        &mut self,
        id: &PluginId,
        generation: u64,
        term_in: Duration,
        kill_in: Duration,
    ) -> Result<Answer, Failure> {
        if self.plugins.has_departed(id, generation) {
            // Already satisfied; its exit was told and will be told again.
            return Ok(DONE);
        }
        let plugin = self.plugins.exactly(id, generation)?;
        plugin.stopping.arm(Monotonic::now(), term_in, kill_in);
        Ok(DONE)
    }
}
