//! What the kernel's audit stream tells of a compartment: which system call seccomp refused.
//!
//! A wait status says only SIGSYS. The record AUDIT_SECCOMP says which call, of which uid; it is sent
//! to the multicast group AUDIT_NLGRP_READLOG (include/uapi/linux/audit.h), whether or not an audit
//! daemon runs. Joining the group takes CAP_AUDIT_READ; who holds the socket goes on receiving without.
//! A record holds text that the program chose, its name, so it is parsed where there is no privilege; and
//! as the stream is the whole machine's, a filter that cannot be taken off lets only these records through.

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

use crate::process::wait_for;
use crate::seccomp::calls;

/// `AUDIT_SECCOMP`.
const SECCOMP: u16 = 1326;
/// AUDIT_NLGRP_READLOG, as the mask that bind(2) takes.
const READLOG: u32 = 1;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `MAX_AUDIT_MESSAGE_LENGTH`.
const MAX_RECORD: usize = 8970;
/// The record is written by a thread of the kernel's, so it may come after the death itself.
pub const LATENESS: Duration = Duration::from_millis(500);

/// A system call that seccomp did not let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Of the process, in the initial user namespace: the compartment's own.
    pub uid: u32,
    /// The call's name, or what there is instead: `number 1000`, `getpid by int 0x80`.
    pub call: String,
}

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
    only_seccomp(&socket)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READLOG))?;
    Ok(socket)
}

/// The stream as the service manager opened it for us (sd_listen_fds(3)), so that we need neither the capability
/// nor the family of sockets: `packaging/bulkhead-audit.socket`. `None`: it did not. Once per process.
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
    // SAFETY: the service manager says that it is open and ours, and the flag above lets this line run once,
    // before anything else takes it: it has one owner. If it is not open, what follows fails with EBADF.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let domain = get(&socket, libc::SO_DOMAIN)?;
    let protocol = get(&socket, libc::SO_PROTOCOL)?;
    if (domain, protocol) != (libc::AF_NETLINK, libc::NETLINK_AUDIT) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor 3 is no audit socket"));
    }
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    only_seccomp(&socket)?;
    // What came before the filter is not for whoever gets the socket.
    while receive(socket.as_fd()).is_ok() {}
    Ok(Some(socket))
}

/// Has the kernel drop all other records (socket(7), SO_ATTACH_FILTER), for whoever gets the socket.
fn only_seccomp(socket: &OwnedFd) -> io::Result<()> {
    const TYPE_AT: u32 = 4;
    // BPF reads numbers in network order; a netlink header is in the machine's.
    let kind = u32::from(SECCOMP.to_be());
    let line = |code, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut lines = [
        line(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, TYPE_AT),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, kind),
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

fn get(socket: &OwnedFd, option: i32) -> io::Result<i32> {
    let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: value and length are alive for the call, and the length is that of the value.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    Errno::result(done).map(|_| value).map_err(Into::into)
}

/// Reads one record. `None`: it tells of something else, or some were lost as nobody had read them.
///
/// # Errors
/// `WouldBlock` when none waits.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Denial>> {
    let mut buffer = [0; MAX_RECORD + HEADER];
    match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
        // Port 0 is the kernel's.
        Ok((length, Some(sender))) if sender.pid() == 0 => Ok(parse(&buffer[..length])),
        Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The last call that was refused to `uid`, waiting a moment for it.
pub fn wait_for_denial(socket: BorrowedFd<'_>, uid: u32) -> Option<String> {
    let until = Instant::now() + LATENESS;
    let mut found = None;
    loop {
        match receive(socket) {
            Ok(Some(denial)) if denial.uid == uid => found = Some(denial.call),
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return found,
            Err(_) => {
                let left = until.saturating_duration_since(Instant::now());
                if found.is_some() || left.is_zero() {
                    return found;
                }
                wait_for(socket, PollFlags::POLLIN, left);
            }
        }
    }
}

fn parse(packet: &[u8]) -> Option<Denial> {
    let (header, text) = packet.split_at_checked(HEADER)?;
    if u16::from_ne_bytes([header[4], header[5]]) != SECCOMP {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // What the program chose is quoted and without blanks, or in hexadecimal
    // (audit_log_untrustedstring): no other field can be forged in it.
    let field = |key: &str| {
        text.trim_end_matches(['\0', '\n'])
            .split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let arch = u32::from_str_radix(field("arch")?, 16).ok()?;
    let number = field("syscall")?.parse().ok()?;
    Some(Denial { uid: field("uid")?.parse().ok()?, call: name(arch, number) })
}

/// How a person knows the call. `arch`: AUDIT_ARCH_*.
fn name(arch: u32, number: u32) -> String {
    const X32: u32 = 0x4000_0000;
    const I386: u32 = 0x4000_0003;
    if arch == I386 {
        return format!("number {number} by int 0x80");
    }
    if cfg!(target_arch = "x86_64") && number & X32 != 0 {
        return format!("number {} of x32", number & !X32);
    }
    calls::name(number).map_or_else(|| format!("number {number}"), str::to_owned)
}

#[cfg(test)]
mod tests;
