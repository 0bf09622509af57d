//! The launcher's end of the link: it never waits for the supervisor.
//!
//! A message that the socket has no room for waits here. The queue is bounded by what feeds it: no
//! further request is read while [`Outbox::is_backed_up`], and what the launcher tells by itself is
//! at most an adoption and an exit per plugin. A supervisor that does not read is noticed by its
//! silence, since its heartbeats are then not read either.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_sandbox::descriptors::{self, Packet, ReceiveError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::link::{self, LinkError, MAX_PACKET, Message, Numbered, Received};

/// Messages that may wait before no more requests are read.
const BACKED_UP: usize = 64;

pub(super) struct Outbox {
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Outbox {
    /// `socket` is ours alone: it is made non-blocking.
    pub(super) fn new(socket: OwnedFd) -> std::io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { socket, waiting: VecDeque::new() })
    }

    /// Sends `message`, now or when there is room. A message too long to be sent is replaced by
    /// nothing: the error is the caller's to handle.
    pub(super) fn push(
        &mut self,
        message: &Message,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), LinkError> {
        let bytes = link::encode(message)?;
        self.waiting.push_back((bytes, descriptors));
        self.flush()
    }

    /// Sends what fits.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        while let Some((bytes, descriptors)) = self.waiting.front() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match descriptors::send_with_fds(self.socket.as_fd(), bytes, &borrowed) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The kernel has no room for the descriptors under way (unix(7), ETOOMANYREFS) or
                // no memory just now: like a full socket.
                Err(error)
                    if error.raw_os_error() == Some(nix::Error::ETOOMANYREFS as i32)
                        || error.raw_os_error() == Some(nix::Error::ENOBUFS as i32) =>
                {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next request, if one is there. One that carries more or fewer descriptors than it speaks
    /// of is an error.
    pub(super) fn receive(&self) -> Result<Option<Received<Numbered>>, LinkError> {
        match descriptors::recv_with_fds(self.socket.as_fd(), MAX_PACKET, 1) {
            Ok(Packet { data, descriptors }) => {
                let value: Numbered = link::decode(&data)?;
                if descriptors.len() != value.request.descriptors() {
                    let text = format!("a request came with {} descriptors", descriptors.len());
                    return Err(std::io::Error::new(ErrorKind::InvalidData, text).into());
                }
                Ok(Some(Received { value, descriptors }))
            }
            Err(ReceiveError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(ReceiveError::Closed) => Err(LinkError::Closed),
            Err(ReceiveError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {
                Err(LinkError::Closed)
            }
            Err(ReceiveError::Io(error)) => Err(error.into()),
            Err(other) => Err(std::io::Error::new(ErrorKind::InvalidData, other).into()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_backed_up(&self) -> bool {
        self.waiting.len() >= BACKED_UP
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::Request;

    fn pair() -> (Outbox, OwnedFd) {
        let (ours, theirs) = descriptors::seqpacket_pair().unwrap();
        (Outbox::new(ours).unwrap(), theirs)
    }

    fn budget(number: u64) -> Message {
        Message::Shutdown { budget: Duration::from_millis(number) }
    }

    #[test]
    fn a_peer_that_does_not_read_holds_nothing_up_and_loses_nothing() {
        let (mut outbox, theirs) = pair();
        let mut sent = 0;
        while !outbox.is_backed_up() {
            let descriptor = std::fs::File::open("/dev/null").unwrap();
            outbox.push(&budget(sent), vec![descriptor.into()]).unwrap();
            sent += 1;
        }
        for expected in 0..sent {
            let packet = descriptors::recv_with_fds(theirs.as_fd(), MAX_PACKET, 1).unwrap();
            let Message::Shutdown { budget } = link::decode(&packet.data).unwrap() else {
                panic!("another message");
            };
            assert_eq!(budget, Duration::from_millis(expected));
            assert_eq!(packet.descriptors.len(), 1);
            outbox.flush().unwrap();
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn garbage_descriptors_and_the_end_are_told_apart() {
        let (outbox, theirs) = pair();
        assert!(outbox.receive().unwrap().is_none());
        let request = Numbered { number: 7, request: Request::Heartbeat };
        let bytes = link::encode(&request).unwrap();
        descriptors::send_with_fds(theirs.as_fd(), &bytes, &[]).unwrap();
        assert_eq!(outbox.receive().unwrap().unwrap().value.number, 7);
        descriptors::send_with_fds(theirs.as_fd(), b"\xff\xff\xff", &[]).unwrap();
        assert!(matches!(outbox.receive(), Err(LinkError::Decode(_))));
        descriptors::send_with_fds(theirs.as_fd(), &bytes, &[theirs.as_fd()]).unwrap();
        assert!(matches!(outbox.receive(), Err(LinkError::Io(_))));
        drop(theirs);
        assert!(matches!(outbox.receive(), Err(LinkError::Closed)));
    }
}
