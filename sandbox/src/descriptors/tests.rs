use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::*;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_descriptor_arrives_usable_and_close_on_exec() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"cargo").unwrap();
    send_with_fds(ours.as_fd(), b"one", &[file.as_fd()]).unwrap();
    let packet = recv_with_fds(theirs.as_fd(), 16, 1).unwrap();
    assert_eq!(packet.data, b"one");
    let [received] = <[OwnedFd; 1]>::try_from(packet.descriptors).unwrap();
    let flags = FdFlag::from_bits_truncate(fcntl(&received, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    let mut received = File::from(received);
    received.rewind().unwrap();
    let mut text = String::new();
    received.read_to_string(&mut text).unwrap();
    assert_eq!(text, "cargo");
}

#[test]
fn packets_keep_their_bounds_and_the_end_is_told() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    send_with_fds(ours.as_fd(), b"first", &[]).unwrap();
    send_with_fds(ours.as_fd(), b"second", &[]).unwrap();
    drop(ours);
    assert_eq!(recv_with_fds(theirs.as_fd(), 64, 0).unwrap().data, b"first");
    assert_eq!(recv_with_fds(theirs.as_fd(), 64, 0).unwrap().data, b"second");
    assert!(matches!(recv_with_fds(theirs.as_fd(), 64, 0), Err(ReceiveError::Closed)));
}

#[test]
fn one_descriptor_too_many_is_refused_and_none_leaks() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let before = open_descriptors();
    for count in [2_usize, 5, 200] {
        send_with_fds(ours.as_fd(), b"x", &vec![file.as_fd(); count]).unwrap();
        let refused = recv_with_fds(theirs.as_fd(), 16, 1);
        assert!(matches!(refused, Err(ReceiveError::TooManyDescriptors { limit: 1 })), "{count}");
    }
    assert_eq!(open_descriptors(), before);
    // The socket still works afterwards.
    send_with_fds(ours.as_fd(), b"y", &[file.as_fd()]).unwrap();
    assert_eq!(recv_with_fds(theirs.as_fd(), 16, 1).unwrap().descriptors.len(), 1);
}

#[test]
fn a_message_too_long_is_refused_with_its_descriptors() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let before = open_descriptors();
    send_with_fds(ours.as_fd(), &[7; 17], &[file.as_fd()]).unwrap();
    let refused = recv_with_fds(theirs.as_fd(), 16, 1);
    assert!(matches!(refused, Err(ReceiveError::TooLong { limit: 16 })));
    assert_eq!(open_descriptors(), before);
}

#[test]
fn an_empty_message_and_a_closed_peer_are_errors_not_signals() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    assert_eq!(
        send_with_fds(ours.as_fd(), b"", &[]).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    drop(theirs);
    assert_eq!(
        send_with_fds(ours.as_fd(), b"x", &[]).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}
