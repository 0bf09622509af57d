//! Descriptors over Unix sockets: the safe face of SCM_RIGHTS (unix(7)).
//!
//! One packet is one message with the descriptors that belong to it. A receiver states how many
//! bytes and descriptors it accepts; what exceeds either is refused as a whole, and descriptors that
//! the kernel had already installed are closed. Received descriptors are close-on-exec.

use std::io;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrLike as _,
    SockaddrStorage, getpeername, getsockopt, sendmsg, socketpair, sockopt,
};

/// The most descriptors in one message that the kernel passes (SCM_MAX_FD).
pub const MAX_DESCRIPTORS: usize = 253;

/// One message and the descriptors that came with it.
#[derive(Debug)]
pub struct Packet {
    /// The message's bytes.
    pub data: Vec<u8>,
    /// Its descriptors, in the sender's order.
    pub descriptors: Vec<OwnedFd>,
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other end is closed and all it sent was read.
    #[error("the other end of the socket is closed")]
    Closed,
    /// The message is longer than the receiver accepts. It is lost.
    #[error("a message exceeds the {limit} bytes that are accepted here")]
    TooLong {
        /// Bytes accepted.
        limit: usize,
    },
    /// More descriptors than the receiver accepts. All of them are closed.
    #[error("a message carries more than the {limit} descriptors that are accepted here")]
    TooManyDescriptors {
        /// Descriptors accepted.
        limit: usize,
    },
    /// The call failed; `WouldBlock` when a non-blocking socket has nothing to read.
    #[error("receiving descriptors failed: {0}")]
    Io(#[from] io::Error),
}

/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec, blocking.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::SeqPacket)
}

/// A connected pair of SOCK_STREAM sockets, close-on-exec, blocking.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::Stream)
}

fn pair(kind: SockType) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Whether this is a TCP connection (ip(7), tcp(7)): a stream socket of an internet family with a peer.
pub fn is_tcp_connection(descriptor: &impl AsFd) -> bool {
    let fd = descriptor.as_fd();
    let is_stream = getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream);
    let peer = getpeername::<SockaddrStorage>(fd.as_raw_fd());
    let family = peer.ok().and_then(|peer| peer.family());
    is_stream && matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6))
}

/// Sends one message. `data` must not be empty: an empty SOCK_SEQPACKET message cannot be told from
/// the end. Never raises SIGPIPE; a closed peer is `BrokenPipe`, a full non-blocking socket
/// `WouldBlock`, and then nothing was sent.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    data: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if data.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty message cannot be sent"));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} descriptors exceed the {MAX_DESCRIPTORS} of one message",
                descriptors.len()
            ),
        ));
    }
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &control[..0] } else { &control[..] };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(data)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(length) if length == data.len() => return Ok(()),
            Ok(length) => {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("only {length} of {} bytes were sent", data.len()),
                ));
            }
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message of at most `max_bytes` bytes and `max_descriptors` descriptors.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    max_bytes: usize,
    max_descriptors: usize,
) -> Result<Packet, ReceiveError> {
    let mut data = vec![0; max_bytes];
    let Received { length, flags, descriptors } = receive(socket, &mut data, max_descriptors)?;
    // From here on an early return closes what was received.
    if flags & libc::MSG_CTRUNC != 0 || descriptors.len() > max_descriptors {
        return Err(ReceiveError::TooManyDescriptors { limit: max_descriptors });
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::TooLong { limit: max_bytes });
    }
    if length == 0 && descriptors.is_empty() {
        return Err(ReceiveError::Closed);
    }
    data.truncate(length);
    Ok(Packet { data, descriptors })
}

/// The supplementary groups of the process that connected the other end, as they were then
/// (`SO_PEERGROUPS`, socket(7)). Its primary group is in the peer's credentials.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
            .map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))?;
        // SAFETY: the pointer and `length` describe `groups`, which lives across the call; the
        // kernel writes gids (u32) and the bytes that they take.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE: there are more, and the kernel has said how many.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

struct Received {
    length: usize,
    flags: libc::c_int,
    descriptors: Vec<OwnedFd>,
}

/// recvmsg(2) by hand: nix reports a truncated control message as an error, and the descriptors that
/// the kernel had installed until then would stay open, unknown to all.
fn receive(
    socket: BorrowedFd<'_>,
    data: &mut [u8],
    max_descriptors: usize,
) -> io::Result<Received> {
    // Room for one descriptor more than accepted, so that one too many is seen as such.
    let room = (max_descriptors + 1).min(MAX_DESCRIPTORS) * size_of::<RawFd>();
    // SAFETY: CMSG_SPACE is arithmetic on its argument; it has no precondition.
    let space = unsafe { libc::CMSG_SPACE(room as libc::c_uint) } as usize;
    // In units of the control header, for its alignment.
    let mut control = vec![0_usize; space.div_ceil(size_of::<usize>())];
    let mut slice = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid (empty) value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = space;
    let length = loop {
        // SAFETY: `header` points at `slice` and `control`, which outlive the call and whose lengths
        // it states; the kernel writes nowhere else.
        let read =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        if let Ok(length) = usize::try_from(read) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled `control` and stated its length in `header`; the CMSG macros walk
    // exactly that, and a header of SCM_RIGHTS is followed by the descriptors that its length states.
    // Each was installed for this message alone, nothing else owns it, and it is wrapped once.
    unsafe {
        let mut item = libc::CMSG_FIRSTHDR(&raw const header);
        while !item.is_null() {
            if (*item).cmsg_level == libc::SOL_SOCKET && (*item).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*item).cmsg_len - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(item).cast::<[u8; size_of::<RawFd>()]>();
                for index in 0..payload / size_of::<RawFd>() {
                    let raw = RawFd::from_ne_bytes(first.add(index).read());
                    descriptors.push(OwnedFd::from_raw_fd(raw));
                }
            }
            item = libc::CMSG_NXTHDR(&raw const header, item);
        }
    }
    Ok(Received { length, flags: header.msg_flags, descriptors })
}

#[cfg(test)]
mod tests;
