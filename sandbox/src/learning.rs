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
//! read its memory. If nobody listens any more, what is asked about fails with `ENOSYS`.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::descriptors::{ReceiveError, recv_with_fds};
use crate::policy::Policy;
use crate::seccomp::calls;
use crate::seccomp::learning::{Decision, Judge};
use crate::seccomp::{CompileError, Facts};
use crate::support;
use crate::syscall::{self, Question};

/// The longest path that the kernel takes (PATH_MAX), with its end.
const LONGEST: usize = 4096;

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
    /// It is made, removed or renamed: its directory changes.
    Make,
}

/// Why nothing can be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearningError {
    /// The program ended before it executed.
    #[error("the program's listener has not come: {0}")]
    NotReceived(#[from] ReceiveError),
    /// The policy names a call that none can have.
    #[error(transparent)]
    Syscall(#[from] CompileError),
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
        let namespaced = packet.data.first() == Some(&1);
        let facts = policy.facts(namespaced, support::landlock_abi());
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
    /// Where the kernel does not take part: nothing can be learned any more.
    pub fn next(
        &self,
        stop: BorrowedFd<'_>,
        show: &mut dyn FnMut(&Subject),
    ) -> io::Result<Option<Seen>> {
        loop {
            let mut polled = [
                PollFd::new(self.questions.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop, PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let [asked, stopped] =
                polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
            if !stopped.is_empty() || !asked.contains(PollFlags::POLLIN) {
                return Ok(None);
            }
            match syscall::next_question(self.questions.as_fd()) {
                Ok(question) => {
                    if let Some(seen) = self.decide(&question, show) {
                        return Ok(Some(seen));
                    }
                }
                // It was killed while it waited.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn decide(&self, question: &Question, show: &mut dyn FnMut(&Subject)) -> Option<Seen> {
        let Question { id, thread, number, arguments, .. } = *question;
        let decision = self.judge.on(number, &arguments);
        let subjects = Caller { thread }.names(number, &arguments);
        let listener = self.questions.as_fd();
        // What was read belongs to the caller only if it is still there.
        if !syscall::still_waits(listener, id) {
            return None;
        }
        subjects.iter().for_each(show);
        let answered = match decision {
            Decision::Allow => syscall::answer(listener, id, None),
            Decision::Refuse(errno) => {
                syscall::answer(listener, id, Some(Errno::from_raw(errno.number.into())))
            }
            Decision::Kill => {
                // It waits, so the number is its own. The whole process ends by it.
                let _ = kill(Pid::from_raw(thread), Signal::SIGKILL);
                syscall::answer(listener, id, Some(Errno::EPERM))
            }
        };
        // One that a signal has ended meanwhile is made again, and asked about again.
        let told = answered.is_ok() || decision == Decision::Kill;
        told.then_some(Seen { number, arguments, subjects, decision })
    }
}

/// Where a call has a path.
struct Named {
    call: &'static str,
    /// The position of the descriptor that a relative path begins at.
    directory: Option<usize>,
    path: usize,
    doing: Manner,
}

enum Manner {
    Is(Doing),
    /// The position of the flags of open(2).
    Flags(usize),
    /// The position of the pointer at the flags (openat2(2)).
    FlagsAt(usize),
}

const fn at(call: &'static str, path: usize, doing: Doing) -> Named {
    Named { call, directory: None, path, doing: Manner::Is(doing) }
}

const fn beneath(call: &'static str, directory: usize, path: usize, doing: Doing) -> Named {
    Named { call, directory: Some(directory), path, doing: Manner::Is(doing) }
}

static NAMED: &[Named] = &[
    Named { call: "open", directory: None, path: 0, doing: Manner::Flags(1) },
    Named { call: "openat", directory: Some(0), path: 1, doing: Manner::Flags(2) },
    Named { call: "openat2", directory: Some(0), path: 1, doing: Manner::FlagsAt(2) },
    at("creat", 0, Doing::Write),
    at("execve", 0, Doing::Execute),
    beneath("execveat", 0, 1, Doing::Execute),
    at("stat", 0, Doing::Look),
    at("lstat", 0, Doing::Look),
    beneath("newfstatat", 0, 1, Doing::Look),
    beneath("statx", 0, 1, Doing::Look),
    at("statfs", 0, Doing::Look),
    at("access", 0, Doing::Look),
    beneath("faccessat", 0, 1, Doing::Look),
    beneath("faccessat2", 0, 1, Doing::Look),
    at("readlink", 0, Doing::Look),
    beneath("readlinkat", 0, 1, Doing::Look),
    at("chdir", 0, Doing::Look),
    at("truncate", 0, Doing::Write),
    at("mkdir", 0, Doing::Make),
    beneath("mkdirat", 0, 1, Doing::Make),
    at("rmdir", 0, Doing::Make),
    at("unlink", 0, Doing::Make),
    beneath("unlinkat", 0, 1, Doing::Make),
    at("rename", 0, Doing::Make),
    at("rename", 1, Doing::Make),
    beneath("renameat", 0, 1, Doing::Make),
    beneath("renameat", 2, 3, Doing::Make),
    beneath("renameat2", 0, 1, Doing::Make),
    beneath("renameat2", 2, 3, Doing::Make),
    at("link", 0, Doing::Read),
    at("link", 1, Doing::Make),
    beneath("linkat", 0, 1, Doing::Read),
    beneath("linkat", 2, 3, Doing::Make),
    at("symlink", 1, Doing::Make),
    beneath("symlinkat", 1, 2, Doing::Make),
    at("mknod", 0, Doing::Make),
    beneath("mknodat", 0, 1, Doing::Make),
    at("chmod", 0, Doing::Write),
    beneath("fchmodat", 0, 1, Doing::Write),
    beneath("fchmodat2", 0, 1, Doing::Write),
];

/// The thread that waits, and its memory.
struct Caller {
    thread: i32,
}

impl Caller {
    fn names(&self, number: u32, arguments: &[u64; 6]) -> Vec<Subject> {
        let Some(call) = calls::name(number) else { return Vec::new() };
        if matches!(call, "connect" | "bind") {
            let address = self.address(arguments[1], arguments[2]);
            let subject = if call == "bind" { Subject::Bind } else { Subject::Connect };
            return address.map(subject).into_iter().collect();
        }
        let named = NAMED.iter().filter(|named| named.call == call);
        named.filter_map(|named| self.path(named, arguments)).collect()
    }

    fn path(&self, named: &Named, arguments: &[u64; 6]) -> Option<Subject> {
        let doing = match named.doing {
            Manner::Is(doing) => doing,
            Manner::Flags(at) => doing(arguments[at] as i32),
            Manner::FlagsAt(at) => {
                let flags = self.memory(arguments[at], 8)?;
                doing(u64::from_le_bytes(flags.try_into().ok()?) as i32)
            }
        };
        let mut bytes = self.memory(arguments[named.path], LONGEST)?;
        bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
        // An open file by itself: it was seen when it was opened.
        if bytes.is_empty() {
            return None;
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        let whole = if path.is_absolute() {
            path
        } else {
            let from = named.directory.map(|at| arguments[at] as i32);
            let link = match from {
                None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd", self.thread),
                Some(descriptor) => format!("/proc/{}/fd/{descriptor}", self.thread),
            };
            fs::read_link(link).ok().filter(|from| from.is_absolute())?.join(path)
        };
        Some(Subject::Path(plain(&whole), doing))
    }

    /// Of an internet family (ip(7), ipv6(7)).
    fn address(&self, pointer: u64, length: u64) -> Option<SocketAddr> {
        let bytes = self.memory(pointer, (length as usize).min(size_of::<libc::sockaddr_in6>()))?;
        let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
        match i32::from(family) {
            libc::AF_INET => {
                let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                Some((Ipv4Addr::from(address), port).into())
            }
            libc::AF_INET6 => {
                let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                Some((Ipv6Addr::from(address), port).into())
            }
            _ => None,
        }
    }

    /// At most so many bytes of its memory: fewer where a page that is not there follows.
    fn memory(&self, from: u64, at_most: usize) -> Option<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let mut bytes = vec![0; at_most];
        let length = memory.read_at(&mut bytes, from).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }
}

/// What an open with these flags is for.
fn doing(flags: i32) -> Doing {
    let changes = libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);
    if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & changes != 0 {
        Doing::Write
    } else if flags & libc::O_PATH != 0 {
        Doing::Look
    } else {
        Doing::Read
    }
}

/// A path without `.`, `..` and doubled slashes. Links are not followed: which it passes is not known here.
fn plain(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            _ => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::learning::NAMING;

    #[test]
    fn every_call_that_is_asked_about_for_what_it_names_is_looked_at() {
        for call in NAMING {
            let looked_at = NAMED.iter().any(|named| named.call == *call);
            assert!(looked_at || matches!(*call, "connect" | "bind"), "{call}");
        }
        for named in NAMED {
            assert!(NAMING.contains(&named.call), "{} is never asked about", named.call);
        }
    }

    #[test]
    fn a_path_is_made_plain_and_stays_beneath_the_root() {
        for (path, expected) in
            [("/srv//a/./b", "/srv/a/b"), ("/srv/a/../b/", "/srv/b"), ("/../..", "/"), ("/", "/")]
        {
            assert_eq!(plain(Path::new(path)), Path::new(expected));
        }
    }

    #[test]
    fn what_an_open_is_for_is_in_its_flags() {
        assert_eq!(doing(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY), Doing::Read);
        assert_eq!(doing(libc::O_PATH | libc::O_DIRECTORY), Doing::Look);
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE] {
            assert_eq!(doing(flags), Doing::Write, "{flags:o}");
        }
    }
}
