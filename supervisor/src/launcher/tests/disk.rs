//! The loop does not wait for the disk, and what it answers is on it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::harness::{Service, Supervisor};
use crate::audit_chain::Head;
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::link::{Reply, Request};

fn anchor(after: Head, row: &[u8]) -> Request {
    Request::Anchor { after, bodies: vec![Digest::of(row)] }
}

fn head(answer: Result<Reply, Failure>) -> Option<Head> {
    match answer {
        Ok(Reply::AuditHead(head)) => head,
        other => panic!("{other:?}"),
    }
}

/// A disk on which a write of the audit's head takes as long as the test wants.
struct Slow {
    pipe: PathBuf,
}

impl Slow {
    fn of(service: &Service) -> Self {
        let pipe = service.path().join("state/audit.draft");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        Self { pipe }
    }

    /// Lets a write through, which is then of no use: a pipe cannot be synced.
    fn release(self) {
        File::open(&self.pipe).unwrap();
    }
}

fn allotted(supervisor: &mut Supervisor, asked: u64) {
    let (reply, _) = supervisor.answer(asked).unwrap();
    assert!(matches!(reply, Reply::Allotted { .. }), "{reply:?}");
}

#[test]
fn what_is_asked_of_the_head_is_as_if_each_had_waited_for_the_one_before() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let one = Head::START.next(Digest::of(b"a"));
    let two = one.next(Digest::of(b"b"));
    supervisor.send(anchor(Head::START, b"a"));
    supervisor.send(anchor(one, b"b"));
    supervisor.send(Request::AuditHead);
    // One that does not go on from there.
    supervisor.send(anchor(one, b"c"));
    let mut answers = supervisor.answers(4).into_iter();
    let mut next = || answers.next().unwrap();
    assert_eq!((head(next()), head(next()), head(next())), (Some(one), Some(two), Some(two)));
    assert_eq!(next().unwrap_err().code, Code::AuditBroken);
    let kept = fs::read_to_string(service.path().join("state/audit.head")).unwrap();
    assert_eq!(kept, format!("{two}\n"));
}

#[test]
fn a_disk_that_hangs_puts_off_no_deadline() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = supervisor.deaf(&service, "deaf");
    let slow = Slow::of(&service);
    let anchored = supervisor.send(anchor(Head::START, b"a"));
    let behind = supervisor.send(Request::Allot { id: "behind".parse().unwrap() });
    // Answered before both: these wait for the disk, and what is answered here does not.
    supervisor.done(plugin.stop(Duration::ZERO, Duration::from_millis(20)));
    supervisor.exit();
    supervisor.done(plugin.acknowledge());
    slow.release();
    let failure = supervisor.answer(anchored).unwrap_err();
    assert_eq!(failure.code, Code::StorageFailed, "{failure}");
    allotted(&mut supervisor, behind);
    // What failed has left the head as it was.
    let (reply, _) = supervisor.ask(anchor(Head::START, b"a")).unwrap();
    assert_eq!(head(Ok(reply)), Some(Head::START.next(Digest::of(b"a"))));
}

#[test]
fn the_next_supervisor_hears_of_the_head_when_the_disk_has_it() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let slow = Slow::of(&service);
    supervisor.send(anchor(Head::START, b"a"));
    supervisor.send(anchor(Head::START, b"never"));
    // Both have come.
    supervisor.ask(Request::TrustChange).unwrap();
    supervisor.kill();
    let mut supervisor = service.ready();
    let asked = supervisor.send(Request::AuditHead);
    supervisor.ask(Request::TrustChange).unwrap();
    slow.release();
    let (reply, _) = supervisor.answer(asked).unwrap();
    assert_eq!(head(Ok(reply)), None, "nothing of it was written");
}
