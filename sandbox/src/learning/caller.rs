//! What a call names, read from the memory of whoever waits for its answer.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use super::{Doing, LearningError, Subject};
use crate::seccomp::calls;

/// The longest path that the kernel takes (PATH_MAX), with its end.
const LONGEST: usize = 4096;

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
    at("rename", 1, Doing::Make),
    beneath("renameat", 0, 1, Doing::Remove),
    beneath("renameat", 2, 3, Doing::Make),
    beneath("renameat2", 0, 1, Doing::Remove),
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
    at("chown", 0, Doing::Write),
    at("lchown", 0, Doing::Write),
    beneath("fchownat", 0, 1, Doing::Write),
    at("utime", 0, Doing::Write),
    at("utimes", 0, Doing::Write),
    beneath("futimesat", 0, 1, Doing::Write),
    beneath("utimensat", 0, 1, Doing::Write),
];

/// The thread that waits, and its memory.
pub(super) struct Caller {
    pub(super) thread: i32,
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
    pub(super) fn names(
        &self,
        number: u32,
        arguments: &[u64; 6],
    ) -> Result<Vec<Subject>, LearningError> {
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
