//! What the fuzzer calls. `ipc-protocol/tests/corpus.rs` calls the same over the files here and
//! the golden files, so that the targets are known to work where there is no fuzzer.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bulkhead_ipc_protocol::frame::{Lengths, MAX_BODY, MAX_FRAME, PREFIX};
use bulkhead_ipc_protocol::message::{Call, Header, Streams};
use bulkhead_ipc_protocol::session::{Event, MAX_SLICES, Session};
use bulkhead_ipc_protocol::{CallError, Hello, Limits, Payload, codec, log_line};
use bytes::Bytes;

/// The decoders must refuse or give a value that is encoded and decoded to itself.
pub(crate) fn frame(bytes: &[u8]) {
    if let Ok(header) = codec::decode::<Header<'_>>(bytes) {
        let again = codec::encode(&header);
        assert_eq!(codec::decode::<Header<'_>>(&again).as_ref(), Ok(&header));
    }
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(Hello::decode(&hello.encode().expect("it was decoded")).as_ref(), Ok(&hello));
    }
    if let Some(record) = log_line::decode(bytes) {
        let line = log_line::encode(&record);
        assert!(line.len() <= log_line::MAX_LINE);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let again = log_line::decode(&line).expect("it was written by us");
        assert_eq!(again.level, record.level);
        assert!(record.target.starts_with(again.target.trim_end_matches('…')));
        assert!(again.target.len() >= record.target.len().min(256), "{:?}", again.target);
    }
    let _ = codec::decode::<CallError>(bytes);
    if let Ok(Some(lengths)) = Lengths::parse(bytes, MAX_BODY) {
        assert!(lengths.frame() <= MAX_FRAME + 4 && lengths.body <= MAX_BODY);
        assert_eq!(lengths.encode()[..], bytes[..PREFIX]);
    }
}

/// The first byte says how the rest is cut, and whether a `Hello` comes first. Between the pieces
/// our side does what it can: nothing of that may panic, or ask for more memory than a frame.
pub(crate) fn session(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (greeted, size) = (first & 1 == 0, usize::from(first >> 1) + 1);
    let mut busy = start(greeted);
    let mut quiet = start(greeted);
    let mut now = Instant::now();
    for piece in bytes.chunks(size) {
        now += Duration::from_millis(1);
        busy.feed(piece, now);
        act(&mut busy, now);
        quiet.feed(piece, now);
        assert!(busy.read_target().len() <= MAX_FRAME);
    }
    // Without our own acts the cut makes no difference.
    let mut whole = start(greeted);
    whole.feed(bytes, now);
    let deadlines_aside = |mut session: Session| -> Vec<Event> {
        let mut events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
        for event in &mut events {
            if let Event::Call(call) = event {
                call.deadline = None;
            }
        }
        events
    };
    assert!(deadlines_aside(quiet) == deadlines_aside(whole), "the cut makes a difference");
}

fn start(greeted: bool) -> Session {
    let hello = Hello::new("fuzz", "0.1.0".parse().expect("a version")).expect("a short name");
    let mut session =
        Session::new(hello.clone(), Limits::default(), Instant::now()).expect("a valid hello");
    if greeted {
        let header = hello.encode().expect("a valid hello");
        let lengths = Lengths { header: header.len(), body: 0 };
        session.feed(&lengths.encode(), Instant::now());
        session.feed(&header, Instant::now());
    }
    session
}

fn act(session: &mut Session, now: Instant) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Call(call) if call.id % 2 == 0 => session.reply(call.id, Ok(call.payload)),
            Event::Chunk { stream, data } => session.grant(stream, data.len() as u32),
            Event::StreamChanged { stream } => {
                session.send_chunk(stream, &mut Bytes::from_static(b"data"));
            }
            Event::Reply { id, .. } => session.cancel(id),
            _ => {}
        }
    }
    let call = Call::new("m", Payload::raw("x")).with_timeout(Duration::from_millis(3));
    let _ = session.call(&call, Streams::BOTH, now);
    session.handle_timeout(now);
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let used = session.slices(&mut slices);
    let count = slices[..used].iter().map(|slice| slice.len()).sum::<usize>() / 2;
    session.written(count, now);
}
