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

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

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
    at("getxattr", 0, Doing::Look),
    at("lgetxattr", 0, Doing::Look),
    beneath("getxattrat", 0, 1, Doing::Look),
    at("listxattr", 0, Doing::Look),
    at("llistxattr", 0, Doing::Look),
    beneath("listxattrat", 0, 1, Doing::Look),
    beneath("file_getattr", 0, 1, Doing::Look),
    beneath("name_to_handle_at", 0, 1, Doing::Look),
    // What happens there is told from then on.
    at("inotify_add_watch", 1, Doing::Read),
    at("truncate", 0, Doing::Write),
    at("mkdir", 0, Doing::Make),
    beneath("mkdirat", 0, 1, Doing::Make),
    at("rmdir", 0, Doing::Remove),
    at("unlink", 0, Doing::Remove),
    beneath("unlinkat", 0, 1, Doing::Remove),
    at("rename", 0, Doing::Remove),
    at("rename", 1, Doing::Remove),
    beneath("renameat", 0, 1, Doing::Remove),
    beneath("renameat", 2, 3, Doing::Remove),
    beneath("renameat2", 0, 1, Doing::Remove),
    beneath("renameat2", 2, 3, Doing::Remove),
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
    at("chown", 0, Doing::Write),
    at("lchown", 0, Doing::Write),
    beneath("fchownat", 0, 1, Doing::Write),
    at("utime", 0, Doing::Write),
    at("utimes", 0, Doing::Write),
    beneath("futimesat", 0, 1, Doing::Write),
    beneath("utimensat", 0, 1, Doing::Write),
];

/// The thread that waits, and its memory.
struct Caller {
    thread: i32,
}

/// Why something of a caller's is not known.
#[derive(Debug)]
enum Missing {
    /// The call names none: it fails, or is about something that is open.
    None,
    Unreadable(PathBuf, io::Error),
}

impl Missing {
    /// Why memory was not read. An address that is none is the caller's own doing.
    fn memory(path: PathBuf, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EFAULT | libc::EIO | libc::EINVAL) => Self::None,
            _ => Self::Unreadable(path, error),
        }
    }

    /// Why a link of the caller's directory in /proc was not read. A descriptor that is none is its own doing.
    fn link(path: PathBuf, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self::None,
            _ => Self::Unreadable(path, error),
        }
    }
}

impl Caller {
    fn names(&self, number: u32, arguments: &[u64; 6]) -> Result<Vec<Subject>, LearningError> {
        let Some(call) = calls::name(number) else { return Ok(Vec::new()) };
        let subjects: Vec<Result<Subject, Missing>> = match call {
            "connect" => vec![self.address(arguments[1], arguments[2]).map(Subject::Connect)],
            "bind" => vec![self.address(arguments[1], arguments[2]).map(Subject::Bind)],
            // These connect by themselves where they may: they are asked about where the filter does not
            // allow them (MSG_FASTOPEN).
            "sendto" => vec![self.address(arguments[4], arguments[5]).map(Subject::Connect)],
            "sendmsg" | "sendmmsg" => vec![self.addressee(arguments[1]).map(Subject::Connect)],
            _ => {
                let named = NAMED.iter().filter(|named| named.call == call);
                named.map(|named| self.path(named, arguments)).collect()
            }
        };
        let known = subjects.into_iter().filter_map(|subject| match subject {
            Ok(subject) => Some(Ok(subject)),
            Err(Missing::None) => None,
            Err(Missing::Unreadable(path, source)) => {
                Some(Err(LearningError::Unreadable { path, source }))
            }
        });
        known.collect()
    }

    fn path(&self, named: &Named, arguments: &[u64; 6]) -> Result<Subject, Missing> {
        let (doing, resolve) = match named.doing {
            Manner::Is(doing) => (doing, 0),
            Manner::Flags(at) => (doing(arguments[at] as i32), 0),
            Manner::FlagsAt(at) => {
                // struct open_how: flags, mode, resolve.
                let [flags, _, resolve] = words(&self.memory(arguments[at], 24)?)?;
                (doing(flags as i32), resolve)
            }
        };
        let mut bytes = self.memory(arguments[named.path], LONGEST)?;
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).ok_or(Missing::None)?);
        // An open file by itself: it was seen when it was opened.
        if bytes.is_empty() {
            return Err(Missing::None);
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        let is_rooted = resolve & libc::RESOLVE_IN_ROOT != 0;
        if path.is_absolute() && !is_rooted {
            return Ok(Subject::Path(plain(&path), doing));
        }
        let from = self.directory(named.directory.map(|at| arguments[at] as i32))?;
        let whole = if is_rooted { beneath_root(&from, &path) } else { plain(&from.join(path)) };
        Ok(Subject::Path(whole, doing))
    }

    /// Where a relative path begins.
    fn directory(&self, descriptor: Option<i32>) -> Result<PathBuf, Missing> {
        let link = PathBuf::from(match descriptor {
            None | Some(libc::AT_FDCWD) => format!("/proc/{}/cwd", self.thread),
            Some(descriptor) => format!("/proc/{}/fd/{descriptor}", self.thread),
        });
        match fs::read_link(&link) {
            Ok(directory) if directory.is_absolute() => Ok(directory),
            Ok(_) => Err(Missing::None),
            Err(error) => Err(Missing::link(link, error)),
        }
    }

    /// Of an internet family (ip(7), ipv6(7)).
    fn address(&self, pointer: u64, length: u64) -> Result<SocketAddr, Missing> {
        let bytes = self.memory(pointer, (length as usize).min(size_of::<libc::sockaddr_in6>()))?;
        address(&bytes).ok_or(Missing::None)
    }

    /// To whom a message goes: the beginning of struct msghdr.
    fn addressee(&self, message: u64) -> Result<SocketAddr, Missing> {
        let [pointer, length] = words(&self.memory(message, 16)?)?;
        self.address(pointer, length & u64::from(u32::MAX))
    }

    /// At most so many bytes of its memory: fewer where a page that is not there follows.
    fn memory(&self, from: u64, at_most: usize) -> Result<Vec<u8>, Missing> {
        let path = PathBuf::from(format!("/proc/{}/mem", self.thread));
        let memory = match File::open(&path) {
            Ok(memory) => memory,
            Err(error) => return Err(Missing::Unreadable(path, error)),
        };
        let mut bytes = vec![0; at_most];
        let length =
            memory.read_at(&mut bytes, from).map_err(|error| Missing::memory(path, error))?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Words of the caller's: it is of this architecture.
fn words<const N: usize>(bytes: &[u8]) -> Result<[u64; N], Missing> {
    let (words, _) = bytes.as_chunks::<8>();
    let words: &[[u8; 8]; N] =
        words.get(..N).and_then(|words| words.try_into().ok()).ok_or(Missing::None)?;
    Ok(words.map(u64::from_ne_bytes))
}

fn address(bytes: &[u8]) -> Option<SocketAddr> {
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

/// With the directory as the root (`RESOLVE_IN_ROOT`): an absolute path begins there, and none leads out.
fn beneath_root(directory: &Path, path: &Path) -> PathBuf {
    let inside = plain(path);
    directory.join(inside.strip_prefix("/").unwrap_or(&inside))
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
mod tests;
