//! Answers that are given when the disk has what they speak of: the audit's head, and new storage.
//!
//! Both have one write under way at most. What is asked of the head meanwhile waits for its turn, so that it
//! is as if each had been done at once. New storage that comes meanwhile is synced together by the next
//! write.

use std::collections::VecDeque;
use std::fs::File;
use std::io;

use super::event_loop::Launcher;
use super::requests::Answer;
use super::worker::Worker;
use crate::audit_chain::Head;
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Reply, RequestNumber};

/// Questions about the head that may wait; more are refused. Each can be long.
const MAX_QUESTIONS: usize = 64;
/// The same for new storage.
const MAX_STORAGE: usize = 1024;

/// What is written by a thread of its own, and what came of it.
pub(super) type Disk = Worker<(Write, io::Result<()>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// The head of the audit.
    Head,
    /// The names of the plugins' storage.
    Storage,
}

/// What can be asked of the audit's head.
pub(super) enum Question {
    Head,
    Extend { after: Head, bodies: Vec<Digest> },
}

/// The requests that wait for the disk.
#[derive(Default)]
pub(super) struct Waiting {
    /// A head that is being written, and whom to tell.
    head: Option<(Option<RequestNumber>, Head)>,
    questions: VecDeque<(RequestNumber, Question)>,
    /// Storage that is being synced.
    syncing: Vec<(Option<RequestNumber>, PluginId)>,
    /// Storage for the sync after that one.
    made: Vec<(RequestNumber, PluginId)>,
}

impl Waiting {
    /// The supervisor that asked is gone. What is under way goes on unanswered.
    pub(super) fn disown(&mut self) {
        if let Some((reply_to, _)) = &mut self.head {
            *reply_to = None;
        }
        for (reply_to, _) in &mut self.syncing {
            *reply_to = None;
        }
        self.questions.clear();
        self.made.clear();
    }
}

fn check_room(used: usize, limit: usize) -> Result<(), Failure> {
    if used < limit {
        return Ok(());
    }
    let message = format!("{used} requests wait for the disk; try again later");
    Err(Failure::new(Code::ResourceExhausted, message)
        .with("resource", "writes")
        .with("limit", limit)
        .with("used", used))
}

impl Launcher {
    pub(super) fn ask_anchor(
        &mut self,
        number: RequestNumber,
        question: Question,
    ) -> Result<Answer, Failure> {
        if self.waiting.head.is_some() {
            check_room(self.waiting.questions.len(), MAX_QUESTIONS)?;
            self.waiting.questions.push_back((number, question));
            return Ok(Answer::Later);
        }
        let head = match question {
            Question::Head => {
                let head = self.anchor.head()?;
                return Ok(Answer::Now(Reply::AuditHead(head), Vec::new()));
            }
            Question::Extend { after, bodies } => self.anchor.extended(after, &bodies)?,
        };
        if self.anchor.head() == Ok(Some(head)) {
            return Ok(Answer::Now(Reply::AuditHead(Some(head)), Vec::new()));
        }
        let write = self.anchor.writing(head);
        let ordered = self.disk.order(move || (Write::Head, write()));
        ordered.map_err(|error| self.anchor.not_kept(&error))?;
        self.waiting.head = Some((Some(number), head));
        Ok(Answer::Later)
    }

    /// Storage is allotted, and answered when a power cut cannot take it any more.
    pub(super) fn allot(&mut self, number: RequestNumber, id: PluginId) -> Result<Answer, Failure> {
        self.check_serving()?;
        check_room(self.waiting.made.len(), MAX_STORAGE)?;
        let allotment = self.storage.allot(&id)?;
        if self.storage.is_synced(&id) {
            let reply = Reply::Allotted { uid: allotment.uid, data: allotment.data };
            return Ok(Answer::Now(reply, Vec::new()));
        }
        self.waiting.made.push((number, id));
        self.sync_storage();
        Ok(Answer::Later)
    }

    fn sync_storage(&mut self) {
        if !self.waiting.syncing.is_empty() || self.waiting.made.is_empty() {
            return;
        }
        let made = self.waiting.made.drain(..);
        self.waiting.syncing = made.map(|(number, id)| (Some(number), id)).collect();
        let path = self.storage.path().to_owned();
        let sync = move || File::open(&path)?.sync_all();
        if let Err(error) = self.disk.order(move || (Write::Storage, sync())) {
            self.storage_synced(&Err(error));
        }
    }

    /// Answers for what the disk has by now.
    pub(super) fn disk_has_written(&mut self) {
        for (what, result) in self.disk.done() {
            match what {
                Write::Head => self.head_written(&result),
                Write::Storage => {
                    self.storage_synced(&result);
                    self.sync_storage();
                }
            }
        }
    }

    fn head_written(&mut self, result: &io::Result<()>) {
        let Some((reply_to, head)) = self.waiting.head.take() else { return };
        let result = match result {
            Ok(()) => {
                self.anchor.is_at(head);
                Ok(Reply::AuditHead(Some(head)))
            }
            Err(error) => Err(self.anchor.not_kept(error)),
        };
        if let Some(number) = reply_to {
            self.answer(number, result, Vec::new());
        }
        // Until one of them is written in turn.
        while self.waiting.head.is_none()
            && let Some((number, question)) = self.waiting.questions.pop_front()
        {
            let answer = self.ask_anchor(number, question);
            self.respond(number, answer);
        }
    }

    fn storage_synced(&mut self, result: &io::Result<()>) {
        for (reply_to, id) in std::mem::take(&mut self.waiting.syncing) {
            let result = match (result, self.storage.get(&id)) {
                (Ok(()), Some(allotment)) => {
                    self.storage.synced(&id);
                    Ok(Reply::Allotted { uid: allotment.uid, data: allotment.data })
                }
                (Ok(()), None) => {
                    let message = format!("the storage of {id} was removed while it was made");
                    Err(Failure::new(Code::Conflict, message).with("state", "removed"))
                }
                (Err(error), _) => {
                    let path = self.storage.path();
                    let message = format!("cannot make storage in {}: {error}", path.display());
                    Err(Failure::new(Code::StorageFailed, message).with("path", path))
                }
            };
            if let Some(number) = reply_to {
                self.answer(number, result, Vec::new());
            }
        }
    }
}
