//! Work that takes long, done a piece at a time between two turns of the loop.
//!
//! Copying, hashing and removing can take seconds. Done in one go they would put off a SIGKILL that
//! was promised for a moment, so each turn does one piece of one job, the jobs in turn.

use std::collections::VecDeque;
use std::fs::File;

use bulkhead_sandbox::Policy;

use super::clearing::Clearing;
use super::measuring::Measure;
use super::package_store::{Importing, PackageStore, Step, Verification, Verified};
use super::packages::{Package, Progress};
use super::removal::Removal;
use super::storage::{Release, Storage};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{self, MAX_JOBS, Reply, RequestNumber, Spawn};
use crate::trust::TrustedKey;

/// Of these, how many may count what a storage takes: each holds many descriptors.
const MAX_MEASURES: usize = 4;

/// How many starts verify their packages at a time; the others wait. Each holds a list of up to megabytes.
const MAX_VERIFICATIONS: usize = 4;

/// One job and whom to tell.
pub(super) struct Job {
    /// `None` once the supervisor that asked is gone.
    reply_to: Option<RequestNumber>,
    work: Work,
}

pub(super) enum Work {
    Import(Importing),
    Package(Package),
    Verify {
        start: Box<Start>,
        verification: Box<Verification>,
    },
    Discard {
        digest: Digest,
        removal: Removal,
    },
    Release {
        id: PluginId,
        release: Release,
    },
    Measure {
        id: PluginId,
        measure: Measure,
    },
    /// What a dead launcher left; nobody waits for it.
    Clear(Clearing),
}

impl Work {
    /// For a start whether its verification has begun.
    fn verifies(&self) -> Option<bool> {
        match self {
            Work::Verify { verification, .. } => Some(verification.has_begun()),
            _ => None,
        }
    }
}

/// An admitted start.
pub(super) struct Start {
    pub(super) spawn: Spawn,
    pub(super) policy: Policy,
}

/// What a job came to.
pub(super) enum Outcome {
    Answer(RequestNumber, Result<Reply, Failure>),
    /// The tree is verified: start it now.
    Start(RequestNumber, Box<Start>, Verified),
    /// The package is what the key has signed: open it now.
    Open(RequestNumber, File, Box<TrustedKey>),
}

#[derive(Default)]
pub(super) struct Jobs(VecDeque<Job>);

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// RESOURCE_EXHAUSTED: too many are under way, with so many `others` that are no job just now.
    pub(super) fn check_room(&self, others: usize) -> Result<(), Failure> {
        let used = self.0.len() + others;
        if used < MAX_JOBS {
            return Ok(());
        }
        Err(Failure::new(
            Code::ResourceExhausted,
            format!("{MAX_JOBS} installations, starts and removals are under way; try again later"),
        )
        .with("resource", link::JOBS)
        .with("limit", MAX_JOBS)
        .with("used", used))
    }

    /// The same for one more count.
    pub(super) fn check_room_to_measure(&self, others: usize) -> Result<(), Failure> {
        let used = self.0.iter().filter(|job| matches!(job.work, Work::Measure { .. })).count();
        if used < MAX_MEASURES {
            return self.check_room(others);
        }
        Err(Failure::new(
            Code::ResourceExhausted,
            format!("{MAX_MEASURES} counts of storage are under way; try again later"),
        )
        .with("resource", link::MEASURES)
        .with("limit", MAX_MEASURES)
        .with("used", used))
    }

    pub(super) fn push(&mut self, number: RequestNumber, work: Work) {
        self.resume(Some(number), work);
    }

    /// What goes on after something else was waited for.
    pub(super) fn resume(&mut self, reply_to: Option<RequestNumber>, work: Work) {
        self.0.push_back(Job { reply_to, work });
    }

    /// How many packages are on their way.
    pub(super) fn packages(&self) -> usize {
        self.0.iter().filter(|job| matches!(job.work, Work::Package(_))).count()
    }

    /// The policies of the starts under way.
    pub(super) fn starting(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter().filter_map(|job| match &job.work {
            Work::Verify { start, .. } => Some(&start.policy),
            _ => None,
        })
    }

    /// Whether a start of this plugin, or the removal of its storage, is under way.
    pub(super) fn concern(&self, id: &PluginId) -> bool {
        self.0.iter().any(|job| match &job.work {
            Work::Verify { start, .. } => start.spawn.id == *id,
            Work::Release { id: releasing, .. } => releasing == id,
            Work::Import(_)
            | Work::Package(_)
            | Work::Discard { .. }
            | Work::Measure { .. }
            | Work::Clear(_) => false,
        })
    }

    /// Whether a start of this tree, or its removal, is under way.
    pub(super) fn use_tree(&self, digest: Digest) -> bool {
        self.0.iter().any(|job| match &job.work {
            Work::Verify { start, .. } => start.spawn.digest == digest,
            Work::Discard { digest: discarding, .. } => *discarding == digest,
            Work::Import(_)
            | Work::Package(_)
            | Work::Release { .. }
            | Work::Measure { .. }
            | Work::Clear(_) => false,
        })
    }

    /// The supervisor that asked is gone: starts end here, copies turn into their own removal, and
    /// removals go on unanswered.
    pub(super) fn disown(&mut self) {
        let jobs = std::mem::take(&mut self.0).into_iter();
        self.0 = jobs
            .filter_map(|job| match job.work {
                Work::Verify { .. } | Work::Measure { .. } => None,
                Work::Import(importing) => Some(Work::Import(importing.give_up())),
                Work::Package(package) => package.give_up().map(Work::Package),
                removal @ (Work::Discard { .. } | Work::Release { .. } | Work::Clear(_)) => {
                    Some(removal)
                }
            })
            .map(|work| Job { reply_to: None, work })
            .collect();
    }

    /// The first job, but for verifications that have to wait for others.
    fn next(&mut self) -> Option<Job> {
        let full = self.verifying() >= MAX_VERIFICATIONS;
        let index = self.0.iter().position(|job| !full || job.work.verifies() != Some(false))?;
        self.0.remove(index)
    }

    /// How many starts verify their packages just now.
    fn verifying(&self) -> usize {
        self.0.iter().filter(|job| job.work.verifies() == Some(true)).count()
    }

    /// Does one piece of the job whose turn it is.
    pub(super) fn step(
        &mut self,
        store: &mut PackageStore,
        storage: &mut Storage,
    ) -> Option<Outcome> {
        let Job { reply_to, work } = self.next()?;
        match advance(work, store, storage) {
            Ok(Advance::More(work)) => {
                self.0.push_back(Job { reply_to, work });
                None
            }
            Ok(Advance::Done(reply)) => Some(Outcome::Answer(reply_to?, Ok(reply))),
            Ok(Advance::Open(package, signer)) => Some(Outcome::Open(reply_to?, package, signer)),
            Ok(Advance::Verified(start, verified)) => {
                Some(Outcome::Start(reply_to?, start, verified))
            }
            Err(failure) => {
                if reply_to.is_none() {
                    tracing::warn!(%failure, "what a supervisor that is gone asked for has failed");
                }
                Some(Outcome::Answer(reply_to?, Err(failure)))
            }
        }
    }
}

enum Advance {
    More(Work),
    Done(Reply),
    Verified(Box<Start>, Verified),
    Open(File, Box<TrustedKey>),
}

fn advance(
    work: Work,
    store: &mut PackageStore,
    storage: &mut Storage,
) -> Result<Advance, Failure> {
    Ok(match work {
        Work::Import(import) => match store.step_import(import)? {
            Step::More(import) => Advance::More(Work::Import(import)),
            Step::Done(digest) => {
                let root = store.tree(digest);
                Advance::Done(Reply::Imported { digest, root, signer: None })
            }
        },
        Work::Package(package) => match package.step(store, storage)? {
            Progress::More(package) => Advance::More(Work::Package(package)),
            Progress::Verified(package, signer) => Advance::Open(package, Box::new(signer)),
            Progress::Done(reply) => Advance::Done(reply),
        },
        Work::Verify { start, verification } => match store.step_verification(verification)? {
            Step::More(verification) => Advance::More(Work::Verify { start, verification }),
            Step::Done(verified) => Advance::Verified(start, verified),
        },
        Work::Discard { digest, mut removal } => {
            let done = removal.step().map_err(|error| {
                Failure::new(
                    Code::StorageFailed,
                    format!(
                        "cannot remove package {digest} from {}: {error}",
                        store.path().display()
                    ),
                )
                .with("path", store.path())
            })?;
            if done {
                Advance::Done(Reply::Done)
            } else {
                Advance::More(Work::Discard { digest, removal })
            }
        }
        Work::Measure { id, mut measure } => match measure.step() {
            Ok(Some(found)) => Advance::Done(Reply::Measured(found)),
            Ok(None) => Advance::More(Work::Measure { id, measure }),
            Err(errno) => {
                let what = format!("cannot count what the storage of {id} takes: {errno}");
                return Err(Failure::new(Code::StorageFailed, what));
            }
        },
        Work::Clear(mut clearing) => {
            if clearing.step(storage) {
                Advance::Done(Reply::Done)
            } else {
                Advance::More(Work::Clear(clearing))
            }
        }
        Work::Release { id, mut release } => {
            if storage.step_release(&mut release)? {
                Advance::Done(Reply::Done)
            } else {
                Advance::More(Work::Release { id, release })
            }
        }
    })
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
