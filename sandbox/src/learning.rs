//! Watching what a program calls, in a compartment whose filter asks instead of refusing.
//!
//! Theory of operation. A start with a [`Launch::learner`](crate::Launch::learner) puts a filter in force
//! that has a listener (seccomp_unotify(2)), and sends that to whoever has the socket's other end: the
//! [`Listener`]. There each call that is asked about waits until it is answered. Its number and plain
//! arguments cannot change meanwhile, and they alone decide ([`Judge`]): it goes on, fails by an error, or
//! the process is killed. The path or address that it names is read from the caller's memory and only
//! told: whether it can be reached is the affair of the private root, the network namespace and Landlock,
//! which hold as ever.
//!
//! Nothing of it is needed to enforce, and nothing here needs privilege: who started the compartment may
//! read its memory. Where it may not after all, nothing is learned: what was not seen would look unused. If
//! nobody listens any more, what is asked about fails with `ENOSYS`.

mod caller;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::descriptors::{ReceiveError, recv_with_fds};
use crate::policy::Policy;
use crate::seccomp::learning::{Decision, Judge};
use crate::seccomp::{CompileError, Facts};
use crate::support;
use crate::syscall::{self, Question};
use caller::Caller;

/// A call that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number on this architecture.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// What it names.
    pub subjects: Vec<Subject>,
    /// What became of it.
    pub decision: Decision,
}

/// What a call names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A path, absolute, as the program sees it, and what is to be done there.
    Path(PathBuf, Doing),
    /// An address to connect to.
    Connect(SocketAddr),
    /// An address to listen at.
    Bind(SocketAddr),
}

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// Whether it is there, and what it is.
    Look,
    /// It is opened and read, or listed.
    Read,
    /// It is executed.
    Execute,
    /// It is opened to be changed, and made if it is not there.
    Write,
    /// It is made: its directory changes, if it is not there yet.
    Make,
    /// It is removed or renamed, or replaced by what is: its directory changes.
    Remove,
}

/// Why nothing can be learned, or nothing any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearningError {
    /// The program ended before it executed.
    #[error("the program's listener has not come: {0}")]
    NotReceived(#[from] ReceiveError),
    /// The policy names a call that none can have.
    #[error(transparent)]
    Syscall(#[from] CompileError),
    /// What a call names stays unknown, although the caller is there and has it.
    #[error("{}, of a program that is watched, cannot be read: {source}", path.display())]
    Unreadable {
        /// What of the program's.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller is in no pid namespace that this process sees.
    #[error("the program is in a pid namespace beside that of who watches it")]
    Elsewhere,
    /// What no policy can allow was called, and its process is there yet.
    #[error("a program that is watched cannot be killed: {0}")]
    NotKilled(#[source] io::Error),
    /// The kernel does not take part.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What comes with the listener: of the compartment, what the policy does not say.
const NAMESPACED: u8 = 1;
const OWN_UID: u8 = 2;

/// The byte that comes with the listener.
pub(crate) fn told(namespaced: bool, own_uid: bool) -> u8 {
    (u8::from(namespaced) * NAMESPACED) | (u8::from(own_uid) * OWN_UID)
}

/// Who is asked. Dropped, what is asked about fails with `ENOSYS` from then on.
#[derive(Debug)]
pub struct Listener {
    questions: OwnedFd,
    judge: Judge,
    facts: Facts,
}

impl Listener {
    /// Waits for the listener of a program with this policy, at the other end of its learner's socket.
    ///
    /// # Errors
    /// Where none comes, or the policy cannot be.
    pub fn receive(from: BorrowedFd<'_>, policy: &Policy) -> Result<Self, LearningError> {
        let mut packet = recv_with_fds(from, 1, 1)?;
        let listener = packet.descriptors.pop().ok_or(ReceiveError::Closed)?;
        let told = packet.data.first().copied().unwrap_or_default();
        let [namespaced, own_uid] = [NAMESPACED, OWN_UID].map(|flag| told & flag != 0);
        let facts = policy.facts(namespaced, own_uid, support::landlock_abi());
        let judge = Judge::new(policy.profile, &policy.allow_syscalls, &facts)?;
        Ok(Self { questions: listener, judge, facts })
    }

    /// What the compartment is, as far as the filter must know.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Waits for the next call, shows what it names, decides it, and tells; nothing once all of the program's
    /// processes are gone, or `stop` can be read. What is shown has not been done yet.
    ///
    /// # Errors
    /// Where what a call names cannot be read, or the kernel does not take part: nothing can be learned any
    /// more.
    pub fn next(
        &self,
        stop: BorrowedFd<'_>,
        show: &mut dyn FnMut(&Subject),
    ) -> Result<Option<Seen>, LearningError> {
        loop {
            let mut polled = [
                PollFd::new(self.questions.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop, PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(io::Error::from)?,
            };
            let [asked, stopped] =
                polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
            if !stopped.is_empty() || !asked.contains(PollFlags::POLLIN) {
                return Ok(None);
            }
            match syscall::next_question(self.questions.as_fd()) {
                Ok(question) => {
                    if let Some(seen) = self.decide(&question, show)? {
                        return Ok(Some(seen));
                    }
                }
                // It was killed while it waited.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    fn decide(
        &self,
        question: &Question,
        show: &mut dyn FnMut(&Subject),
    ) -> Result<Option<Seen>, LearningError> {
        let Question { id, thread, number, arguments, .. } = *question;
        if thread == 0 {
            return Err(LearningError::Elsewhere);
        }
        let decision = self.judge.on(number, &arguments);
        let subjects = Caller { thread }.names(number, &arguments);
        let listener = self.questions.as_fd();
        // What was read belongs to the caller only if it is still there; and if it is not, that is why
        // nothing could be read.
        if !syscall::still_waits(listener, id) {
            return Ok(None);
        }
        let subjects = subjects?;
        subjects.iter().for_each(show);
        let answered = match decision {
            Decision::Allow => syscall::answer(listener, id, None),
            Decision::Refuse(errno) => {
                syscall::answer(listener, id, Some(Errno::from_raw(errno.number.into())))
            }
            Decision::Kill => {
                let killed = self.kill(question);
                // Until the signal has come it must not go on.
                let _ = syscall::answer(listener, id, Some(Errno::EPERM));
                killed?;
                Ok(())
            }
        };
        // One that a signal has ended meanwhile is made again, and asked about again.
        Ok(answered.is_ok().then_some(Seen { number, arguments, subjects, decision }))
    }

    /// The whole process, if it waits yet.
    fn kill(&self, question: &Question) -> Result<(), LearningError> {
        let killed = || -> io::Result<()> {
            // A thread has no descriptor of its own before Linux 6.9.
            let process = process_of(question.thread)?;
            let process = syscall::pidfd_open(process)?;
            // So both numbers were the caller's, and the descriptor stays so.
            if syscall::still_waits(self.questions.as_fd(), question.id) {
                syscall::pidfd_send_signal(process.as_fd(), Signal::SIGKILL as i32)?;
            }
            Ok(())
        };
        match killed() {
            Err(error) if syscall::still_waits(self.questions.as_fd(), question.id) => {
                Err(LearningError::NotKilled(error))
            }
            _ => Ok(()),
        }
    }
}

/// The process of a thread (proc_pid_status(5)).
fn process_of(thread: i32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/{thread}/status has no Tgid")))
}
