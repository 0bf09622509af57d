//! Descriptor 3, the bootstrap socket, over which the launcher hands sessions to the plugin.
//!
//! It is a SOCK_SEQPACKET socket (unix(7)). Each packet carries one SOCK_STREAM socket by SCM_RIGHTS: a connection
//! that was made for the plugin, where the packet says so, else a session. When the launcher is gone the socket
//! reads as ended.
//!
//! This file has the only unsafe code of the crate: taking ownership of descriptors by number.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkhead_ipc_driver::Socket;
use bulkhead_ipc_protocol::host::CONNECTION_PACKET;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockType, getsockopt, recvmsg, sockopt};
use tokio::io::unix::AsyncFd;

use crate::host::Arrivals;
use crate::serve::Sessions;

/// The number that the launcher gives it.
const DESCRIPTOR: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The bootstrap socket of this process.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    socket: AsyncFd<OwnedFd>,
    connections: Arrivals,
}

/// What a packet brought.
enum Packet {
    Session(StdUnixStream),
    Connection(u64, TcpStream),
}

/// Takes descriptor 3 if it is a bootstrap socket: `None` when the program was started by hand.
pub(crate) fn take() -> Option<OwnedFd> {
    // SAFETY: the borrow is used for one getsockopt, which gives EBADF if there is no such descriptor; nothing
    // in this process closes descriptor 3 meanwhile, as `run` is called first thing in `main`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(DESCRIPTOR) };
    if getsockopt(&borrowed, sockopt::SockType) != Ok(SockType::SeqPacket) {
        return None;
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: it is open, as getsockopt has just shown, and came with the process by the launcher's contract,
    // so that nobody else here owns it; TAKEN makes sure that this happens once.
    Some(unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) })
}

impl Bootstrap {
    /// Makes it ready for use. Needs the runtime.
    pub(crate) fn new(socket: OwnedFd, connections: Arrivals) -> io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: an OwnedFd is open and keeps its number until it is dropped, and it is moved in here: nothing
        // takes it out of `Bootstrap` again.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|err| err.into_parts().1)?;
        Ok(Self { socket, connections })
    }

    /// The next session; `None` when the launcher is gone. Connections that come before it are handed on.
    async fn receive(&self) -> io::Result<Option<Socket>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive_now(socket.as_raw_fd())) {
                Ok(Ok(Some(Packet::Session(stream)))) => {
                    return Ok(Some(Socket::new(stream)?));
                }
                Ok(Ok(Some(Packet::Connection(token, stream)))) => {
                    self.connections.arrived(token, stream);
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(err)) if err.kind() == io::ErrorKind::InvalidData => {
                    eprintln!("bootstrap: {err}; waiting for another session");
                }
                Ok(Err(err)) => return Err(err),
                Err(_would_block) => {}
            }
        }
    }
}

impl Sessions for Bootstrap {
    type Stream = Socket;

    async fn next(&mut self) -> Option<Socket> {
        match self.receive().await {
            Ok(stream) => stream,
            Err(err) => {
                eprintln!("bootstrap: cannot receive sessions any more: {err}");
                None
            }
        }
    }
}

/// One packet, or `None` at the end.
fn receive_now(socket: RawFd) -> io::Result<Option<Packet>> {
    let mut bytes = [0_u8; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let (packet, length) = match recvmsg::<()>(socket, &mut parts, Some(&mut control), flags) {
        Ok(packet) => {
            let length = packet.bytes;
            (packet, length)
        }
        Err(Errno::ECONNRESET) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // The space is for one descriptor; the kernel closes what does not fit and says so.
    let whole = !packet.flags.contains(MsgFlags::MSG_CTRUNC);
    let mut received = Vec::new();
    for message in packet.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us by SCM_RIGHTS; nobody else knows it.
                received.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    let bad = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    match (received.pop(), length) {
        (None, 0) => Ok(None),
        (None, _) => bad("a packet without a descriptor"),
        (Some(_), _) if !whole || !received.is_empty() => {
            bad("a packet with more than one descriptor")
        }
        (Some(one), _) => match getsockopt(&one, sockopt::SockType) {
            Ok(SockType::Stream) => Ok(Some(match token(&bytes[..length]) {
                Some(token) => Packet::Connection(token, TcpStream::from(one)),
                None => Packet::Session(StdUnixStream::from(one)),
            })),
            _ => bad("a packet with a descriptor that is not a stream socket"),
        },
    }
}

/// Which connection a packet carries, if it is one.
fn token(bytes: &[u8]) -> Option<u64> {
    let (&kind, token) = bytes.split_first()?;
    let token = token.try_into().ok()?;
    (kind == CONNECTION_PACKET).then(|| u64::from_le_bytes(token))
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
