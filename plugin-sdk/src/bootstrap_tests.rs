use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, ControlMessage, SockFlag, sendmsg, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn pair() -> (OwnedFd, Bootstrap) {
    let (launcher, ours) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (launcher, Bootstrap::new(ours, Arrivals::default()).unwrap())
}

fn send(launcher: &OwnedFd, bytes: &[u8], descriptors: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(launcher.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), None)
        .unwrap();
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("within 10 s")
}

#[tokio::test]
async fn sessions_come_one_after_the_other() {
    let (launcher, mut ours) = pair();
    for nth in 0..3_u8 {
        let (mut far, near) = StdUnixStream::pair().unwrap();
        send(&launcher, b"s", &[near.as_raw_fd()]);
        drop(near);
        let mut stream = soon(ours.next()).await.unwrap();
        far.write_all(&[nth]).unwrap();
        let mut byte = [0];
        soon(stream.read_exact(&mut byte)).await.unwrap();
        soon(stream.write_all(&[nth + 1])).await.unwrap();
        let mut answer = [0];
        far.read_exact(&mut answer).unwrap();
        assert_eq!((byte, answer), ([nth], [nth + 1]));
        drop(stream);
        assert_eq!(far.read(&mut answer).unwrap(), 0, "we held the only other end");
    }
    drop(launcher);
    assert!(soon(ours.next()).await.is_none());
}

#[tokio::test]
async fn what_is_no_session_is_passed_over() {
    let (launcher, mut ours) = pair();
    let (_far, near) = StdUnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    send(&launcher, b"no descriptor", &[]);
    send(&launcher, b"no socket", &[null.as_raw_fd()]);
    send(&launcher, b"two", &[near.as_raw_fd(), near.as_raw_fd()]);
    send(&launcher, b"a session", &[near.as_raw_fd()]);
    assert!(soon(ours.next()).await.is_some());
    drop(launcher);
    assert!(soon(ours.next()).await.is_none());
}

#[test]
fn a_descriptor_of_another_kind_is_not_taken() {
    // Whatever descriptor 3 is in a test runner, it is no SEQPACKET socket.
    assert!(take().is_none());
}

#[tokio::test]
async fn connections_go_to_whoever_asked_and_sessions_still_come() {
    let (launcher, mut ours) = pair();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let (_session, session_theirs) = StdUnixStream::pair().unwrap();
    let mut packet = vec![CONNECTION_PACKET];
    packet.extend(7_u64.to_le_bytes());
    send(&launcher, &packet, &[near.as_raw_fd()]);
    drop(near);
    send(&launcher, &[1], &[session_theirs.as_raw_fd()]);
    let connections = ours.connections.clone();
    assert!(soon(ours.next()).await.is_some());
    let mut taken = soon(connections.take(7)).await;
    taken.write_all(b"x").unwrap();
    let mut byte = [0];
    far.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}
