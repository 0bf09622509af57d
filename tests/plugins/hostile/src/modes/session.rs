//! On a session that is up: rules of the protocol to break.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use bulkhead_ipc_protocol::Payload;
use bulkhead_ipc_protocol::codec;
use bulkhead_ipc_protocol::message::{Direction, GoodbyeCause, Header, StreamPart};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{Act, Mode, Moment, Next, at, hang, mode};

pub(super) static MODES: &[Mode] = &[
    mode(
        "oversized-length",
        "announces a frame of 4 GiB − 1",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.bytes(&[0xff; 4])?;
            hang()
        }),
    ),
    mode(
        "slow-frame",
        "sends the first half of a frame and no more",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.bytes(&[100, 0, 0, 0, 3, 0, 9])?;
            hang()
        }),
    ),
    mode(
        "truncated-frame",
        "sends half a frame and closes the session",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.bytes(&[100, 0, 0, 0, 3, 0, 9])?;
            plugin.wire.stream.shutdown(std::net::Shutdown::Both)?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "garbage-session",
        "sends 64 KiB without meaning",
        0,
        at!(Moment::Ready => |plugin| {
            let noise: Vec<u8> = (0..65_536_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            plugin.wire.bytes(&noise)?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "late-hello",
        "says Hello again, once ready",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.hello(&crate::serve::Plugin::greeting())?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "unknown-message",
        "sends a header whose discriminant is NUMBER",
        200,
        at!(Moment::Ready => |plugin| {
            plugin.wire.frame(&[plugin.number as u8], &[])?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "trailing-header",
        "adds NUMBER bytes to the header of a ping",
        1,
        at!(Moment::Ready => |plugin| {
            let mut header = codec::encode(&Header::Ping { token: 1 });
            header.resize(header.len() + plugin.number as usize, 0);
            plugin.wire.frame(&header, &[])?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "forged-length",
        "sends an event whose topic claims to have 2^64 − 1 bytes",
        0,
        at!(Moment::Ready => |plugin| {
            let event = Header::Event {
                topic: "t".into(),
                encoding: bulkhead_ipc_protocol::Encoding::Raw,
                rest: 0,
                trace: None,
            };
            let mut header = codec::encode(&event);
            // After the discriminant comes the topic's length: a mark, and eight bytes of it.
            header.splice(1..2, [vec![253], vec![0xff; 8]].concat());
            plugin.wire.frame(&header, &[])?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "body-on-ping",
        "sends a ping with a body",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.send(&Header::Ping { token: 1 }, b"a body")?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "reply-unknown",
        "answers call NUMBER, which nobody made",
        4242,
        at!(Moment::Ready => |plugin| {
            let number = plugin.number;
            plugin.wire.reply(number, &Payload::empty())?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "double-reply",
        "answers every call twice",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Call { id } => {
                plugin.wire.reply(id, &Payload::empty())?;
                Ok(Next::Well)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "call-id-reuse",
        "calls twice by the same number",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.call(1, "bulkhead.host/state.list")?;
            plugin.wire.call(1, "bulkhead.host/state.list")?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "unknown-stream",
        "sends a chunk of a stream that nobody opened",
        0,
        at!(Moment::Ready => |plugin| {
            let header = Header::Stream { call: 77, direction: Direction::Upload, part: StreamPart::Chunk };
            plugin.wire.send(&header, b"chunk")?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "unknown-pong",
        "sends a pong to no ping",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.send(&Header::Pong { token: 99 }, &[])?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "call-flood",
        "makes NUMBER calls without reading a reply",
        100_000,
        at!(Moment::Ready => |plugin| {
            for id in 1..=plugin.number {
                plugin.wire.call(id, "bulkhead.host/state.list")?;
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "list-flood",
        "asks NUMBER times at once for all keys of its state",
        250,
        at!(Moment::Ready => |plugin| {
            for id in 1..=plugin.number {
                plugin.wire.list(id)?;
            }
            eprintln!("asked");
            Ok(Next::Well)
        }),
    ),
    mode("never-reads", "reads nothing more once ready", 0, at!(Moment::Ready => |_| hang())),
    mode(
        "descriptor-flood",
        "sends NUMBER descriptors along with a ping",
        64,
        at!(Moment::Ready => |plugin| {
            let header = codec::encode(&Header::Ping { token: 1 });
            let lengths = bulkhead_ipc_protocol::frame::Lengths { header: header.len(), body: 0 };
            let bytes = [&lengths.encode()[..], &header].concat();
            let file: OwnedFd = std::fs::File::open("/dev/null")?.into();
            let numbers = vec![file.as_raw_fd(); (plugin.number as usize).min(253)];
            let rights = [ControlMessage::ScmRights(&numbers)];
            let socket = plugin.wire.stream.as_raw_fd();
            sendmsg::<()>(socket, &[IoSlice::new(&bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
            eprintln!("sent {} descriptors", numbers.len());
            Ok(Next::Well)
        }),
    ),
    mode(
        "bootstrap-flood",
        "sends NUMBER descriptors a packet on its bootstrap socket, until that takes no more",
        16,
        at!(Moment::Ready => |plugin| {
            let file: OwnedFd = std::fs::File::open("/dev/null")?.into();
            let numbers = vec![file.as_raw_fd(); (plugin.number as usize).min(253)];
            let rights = [ControlMessage::ScmRights(&numbers)];
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let mut packets = 0;
            let refused = loop {
                match sendmsg::<()>(3, &[IoSlice::new(&[1; 64])], &rights, flags, None) {
                    Ok(_) => packets += 1,
                    Err(errno) => break errno,
                }
            };
            eprintln!("sent {packets} packets, then: {refused}");
            Ok(Next::Well)
        }),
    ),
    mode(
        "deep-reply",
        "answers every call with arrays in each other, NUMBER deep",
        100_000,
        Act::At(|plugin, moment| match moment {
            Moment::Call { id } => {
                let depth = plugin.number as usize;
                let text = ["[".repeat(depth), "]".repeat(depth)].concat();
                plugin.wire.reply(id, &Payload::json_bytes(text))?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "hang-in-call",
        "never answers a call, nor anything after it",
        0,
        at!(Moment::Call { .. } => |_| hang()),
    ),
    mode(
        "silent-call",
        "never answers a call, but all else",
        0,
        at!(Moment::Call { .. } => |_| Ok(Next::Instead)),
    ),
    mode(
        "silent-first",
        "does not answer the first NUMBER calls, but all else",
        3,
        at!(Moment::Call { .. } => |plugin| {
            if plugin.refused == plugin.number {
                return Ok(Next::Well);
            }
            plugin.refused += 1;
            Ok(Next::Instead)
        }),
    ),
    mode(
        "crash-after",
        "aborts at the call after NUMBER answered ones",
        0,
        at!(Moment::Call { .. } => |plugin| {
            if plugin.answered >= plugin.number {
                std::process::abort();
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "unhealthy",
        "answers health checks with an error",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Health { id } => {
                let error =
                    bulkhead_ipc_protocol::CallError::new("DISK_FULL", "no room left in /data");
                plugin.wire.fail(id, &error)?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "sickens",
        "answers health checks with an error, once NUMBER were answered well",
        1,
        Act::At(|plugin, moment| match moment {
            Moment::Health { id } if plugin.healthy >= plugin.number => {
                let error =
                    bulkhead_ipc_protocol::CallError::new("DISK_FULL", "no room left in /data");
                plugin.wire.fail(id, &error)?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "refuse-resume",
        "refuses the `init` of a supervisor that takes it over",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Init { id } if plugin.initialized => {
                let error = bulkhead_ipc_protocol::CallError::new("NOT_AGAIN", "once is enough");
                plugin.wire.fail(id, &error)?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "hang-in-health",
        "never answers a health check",
        0,
        at!(Moment::Health { .. } => |_| hang()),
    ),
    mode(
        "early-goodbye",
        "says goodbye once ready, and lives on",
        0,
        at!(Moment::Ready => |plugin| {
            plugin.wire.send(&Header::Goodbye { cause: GoodbyeCause::Done, reason: "bored".into() }, &[])?;
            hang()
        }),
    ),
];
