//! What the kernel's audit stream tells of a compartment: what seccomp and Landlock refused.
//!
//! A wait status says only SIGSYS. The record AUDIT_SECCOMP says which call, of which uid; and from
//! kernel 6.15 (Landlock ABI 7), where auditing is switched on, AUDIT_LANDLOCK_ACCESS says which access to
//! which path or port was refused. They are sent to the multicast group AUDIT_NLGRP_READLOG
//! (include/uapi/linux/audit.h), whether or not an audit daemon runs. Joining the group takes
//! CAP_AUDIT_READ; who holds the socket goes on receiving without. A record holds text that the program
//! chose, so it is parsed where there is no privilege; and as the stream is the whole machine's, a filter
//! that cannot be taken off lets only records of these kinds through. They are those of every process
//! that seccomp or Landlock confines: the numbers of domains are not known before, and BPF cannot read
//! uids that are written in decimal.

mod denial;
mod domains;
mod record;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

pub use self::denial::{Denial, Object, Refusal};
pub use self::domains::Domains;
use self::record::{HEADER, LANDLOCK_ACCESS, LANDLOCK_DOMAIN, SECCOMP, parse};
use crate::process::wait_for;

/// AUDIT_NLGRP_READLOG, as the mask that bind(2) takes.
const READLOG: u32 = 1;
/// `MAX_AUDIT_MESSAGE_LENGTH`.
const MAX_RECORD: usize = 8970;
/// The record is written by a thread of the kernel's, so it may come after the death itself.
pub const LATENESS: Duration = Duration::from_millis(500);
/// The same for a refusal that a failure may or may not have come of.
pub const JUST_BEFORE: Duration = Duration::from_millis(100);

/// Joins the stream, with a non-blocking socket.
///
/// # Errors
/// EPERM without CAP_AUDIT_READ, EPROTONOSUPPORT where the kernel has no audit.
pub fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkAudit,
    )?;
    only_denials(&socket)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READLOG))?;
    Ok(socket)
}

/// The stream as the service manager opened it for us (sd_listen_fds(3)), so that we need neither the capability
/// nor the family of sockets: `packaging/bulkhead-audit.socket`. `None`: it did not. Once per process,
/// and before anything is opened that could get its number.
///
/// # Errors
/// What was given is something else.
pub fn given() -> io::Result<Option<OwnedFd>> {
    /// `SD_LISTEN_FDS_START`.
    const FIRST: RawFd = 3;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    if !ours || number("LISTEN_FDS") != Some(1) || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    // SAFETY: the flag above lets this line run once, and nothing else takes what the service manager gave.
    let socket = unsafe { adopt(FIRST) }?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    only_denials(&socket)?;
    // What came before the filter is not for whoever gets the socket.
    let mut nobodys = Domains::default();
    while receive(socket.as_fd(), &mut nobodys).is_ok() {}
    Ok(Some(socket))
}

/// Takes a descriptor if it is an audit socket; any other is left as it is.
///
/// # Safety
/// If it is one, nothing else owns it.
unsafe fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let domain = get(number, libc::SO_DOMAIN)?;
    let protocol = get(number, libc::SO_PROTOCOL)?;
    if (domain, protocol) != (libc::AF_NETLINK, libc::NETLINK_AUDIT) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor 3 is no audit socket"));
    }
    // SAFETY: it is open, as it has just answered, and by the caller's word nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(socket)
}

/// Has the kernel drop all other records (socket(7), SO_ATTACH_FILTER), for whoever gets the socket.
fn only_denials(socket: &OwnedFd) -> io::Result<()> {
    const TYPE_AT: u32 = 4;
    // The service manager gives the same socket again after a death of ours, with the filter that was put
    // on it then. A lock keeps whatever is there, so only an unlocked one is free to change.
    if get(socket.as_raw_fd(), libc::SO_LOCK_FILTER)? != 0 {
        return Ok(());
    }
    // BPF reads numbers in network order; a netlink header is in the machine's.
    let kind = |kind: u16| u32::from(kind.to_be());
    let line = |code, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut lines = [
        line(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, TYPE_AT),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 2, 0, kind(SECCOMP)),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, kind(LANDLOCK_ACCESS)),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, kind(LANDLOCK_DOMAIN)),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_FILTER, &program)?;
    set(socket, libc::SO_LOCK_FILTER, &1_i32)
}

fn set<T>(socket: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is alive for the call and as long as said; what a program points to is copied by
    // the kernel meanwhile.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Errno::result(done).map(drop).map_err(Into::into)
}

fn get(socket: RawFd, option: i32) -> io::Result<i32> {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: value and length are alive for the call, and the length is that of the value.
    let done = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, option, (&raw mut value).cast(), &raw mut length)
    };
    Errno::result(done).map(|_| value).map_err(Into::into)
}

/// Reads one record; what it makes known is mostly nothing or one refusal. Nothing also where it tells
/// of something else, or some were lost as nobody had read them.
///
/// # Errors
/// `WouldBlock` when none waits.
pub fn receive(socket: BorrowedFd<'_>, domains: &mut Domains) -> io::Result<Vec<Denial>> {
    let mut buffer = [0; MAX_RECORD + HEADER];
    match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
        // Port 0 is the kernel's.
        Ok((length, Some(sender))) if sender.pid() == 0 => {
            Ok(parse(&buffer[..length]).map_or_else(Vec::new, |record| domains.join(record)))
        }
        Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// What was refused to a uid whose last process has ended, in order; of each the first `most`.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The refusals, and how many of the same there were.
    pub refusals: Vec<(Refusal, u64)>,
    /// Refusals by Landlock could be seen.
    pub landlock_observable: bool,
}

/// What is waited for a moment, as its record may come after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Nothing: it ended well.
    Nothing,
    /// Any refusal, where they can be seen: it failed.
    Any,
    /// The system call that it died of.
    Call,
}

/// Reads what was refused to `uid`.
pub fn gather(socket: BorrowedFd<'_>, uid: u32, awaited: Awaited, most: usize) -> Gathered {
    let patience = if awaited == Awaited::Call { LATENESS } else { JUST_BEFORE };
    let until = Instant::now() + patience;
    let mut domains = Domains::default();
    let mut gathered = Gathered::default();
    loop {
        match receive(socket, &mut domains) {
            Ok(denials) => {
                gathered.landlock_observable |= domains.knows(uid);
                for denial in denials.into_iter().filter(|denial| denial.uid == uid) {
                    gathered.add(denial.refusal, most);
                }
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return gathered,
            Err(_) => {
                let left = until.saturating_duration_since(Instant::now());
                let is_whole = match awaited {
                    Awaited::Nothing => true,
                    Awaited::Any => !gathered.landlock_observable || !gathered.refusals.is_empty(),
                    Awaited::Call => gathered.last_call().is_some(),
                };
                if is_whole || left.is_zero() {
                    return gathered;
                }
                wait_for(socket, PollFlags::POLLIN, left);
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, refusal: Refusal, most: usize) {
        let room = self.refusals.len() < most;
        match self.refusals.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, count)) => *count += 1,
            // A call is what the program died of.
            None if room || matches!(refusal, Refusal::Seccomp { .. }) => {
                self.refusals.push((refusal, 1));
            }
            None => {}
        }
    }

    /// The last system call that was refused.
    pub fn last_call(&self) -> Option<&str> {
        self.refusals.iter().rev().find_map(|(refusal, _)| match refusal {
            Refusal::Seccomp { call } => Some(call.as_str()),
            Refusal::Landlock { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests;
