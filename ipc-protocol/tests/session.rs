//! Two sessions, or one and a peer that the test plays by hand.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod support;

use std::borrow::Cow;
use std::io::IoSlice;
use std::time::Duration;

use bulkhead_ipc_protocol::frame::{FRAGMENT, MAX_BODY};
use bulkhead_ipc_protocol::message::{Call, Direction, Drain, GoodbyeCause, Header, Streams};
use bulkhead_ipc_protocol::session::{Event, MAX_SLICES, Room, StreamId};
use bulkhead_ipc_protocol::{CallError, CallFailure, EndReason, Limits, Payload, codec, limits};
use bytes::Bytes;
use support::{Pair, Side, frame, hello_frame, message, raw};

fn call(side: &mut Side, method: &str, payload: Payload) -> u64 {
    side.session.call(&Call::new(method, payload), Streams::NONE, side.now).unwrap()
}

fn open(side: &mut Side, streams: Streams) -> u64 {
    side.session.call(&Call::new("m", raw("")), streams, side.now).unwrap()
}

/// The one event that there is, a call.
fn received(side: &mut Side) -> (u64, Payload) {
    match &side.events()[..] {
        [Event::Call(call)] => (call.id, call.payload.clone()),
        events => panic!("{events:?}"),
    }
}

#[test]
fn a_call_and_its_reply() {
    let mut pair = Pair::new();
    let id = call(&mut pair.a, "echo", raw("ping"));
    pair.settle();
    let (theirs, payload) = received(&mut pair.b);
    assert_eq!((theirs, payload), (id, raw("ping")));
    pair.b.session.reply(theirs, Ok(raw("pong")));
    pair.settle();
    assert_eq!(pair.a.events(), [Event::Reply { id, result: Ok(raw("pong")) }]);
    assert_eq!(pair.b.events(), []);
}

#[test]
fn a_body_of_every_awkward_length_comes_back() {
    let mut pair = Pair::new();
    for length in [0, 1, 4096, 4097, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, MAX_BODY - 1, MAX_BODY] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        call(&mut pair.a, "echo", Payload::raw(body.clone()));
        pair.settle();
        let (id, payload) = received(&mut pair.b);
        assert!(payload.body == body, "{length} bytes");
        pair.b.session.reply(id, Ok(payload));
        pair.settle();
        assert!(
            matches!(&pair.a.events()[..], [Event::Reply { result: Ok(payload), .. }] if payload.body == body),
            "{length} bytes"
        );
    }
}

#[test]
fn what_is_too_long_is_refused_here() {
    let mut side = Side::greeted();
    let long = Call::new("m", Payload::raw(vec![0; MAX_BODY + 1]));
    assert_eq!(
        side.session.call(&long, Streams::NONE, side.now),
        Err(CallFailure::TooLong { part: "body", length: MAX_BODY + 1, limit: MAX_BODY })
    );
    let long = Call::new("m".repeat(1025), raw(""));
    assert_eq!(
        side.session.call(&long, Streams::NONE, side.now),
        Err(CallFailure::TooLong { part: "method", length: 1025, limit: 1024 })
    );
    assert_eq!(
        side.session.publish(&"t".repeat(1025), raw(""), None),
        Err(CallFailure::TooLong { part: "topic", length: 1025, limit: 1024 })
    );
    assert!(side.take_output(usize::MAX).is_empty());
}

#[test]
fn bounds_are_kept_on_our_side() {
    let limits =
        Limits { max_outstanding_calls: 3, max_queued_bytes: 64 * MAX_BODY, ..Limits::default() };
    let mut pair = Pair::with(limits);
    for _ in 0..3 {
        call(&mut pair.a, "m", raw(""));
    }
    let one_more = pair.a.session.call(&Call::new("m", raw("")), Streams::NONE, pair.a.now);
    let resource = "outstanding calls";
    assert_eq!(one_more, Err(CallFailure::Exhausted { resource, limit: 3, used: 4 }));

    let limits = Limits { max_queued_bytes: 64 * MAX_BODY, ..Limits::default() };
    let mut pair = Pair::with(limits);
    let long = Call::new("m", Payload::raw(vec![0; MAX_BODY]));
    for _ in 0..32 {
        pair.a.session.call(&long, Streams::NONE, pair.a.now).unwrap();
    }
    let resource = "outstanding bytes";
    assert_eq!(
        pair.a.session.call(&long, Streams::NONE, pair.a.now),
        Err(CallFailure::Exhausted { resource, limit: 32 * MAX_BODY, used: 33 * MAX_BODY })
    );
    // What we may send, the peer accepts: and when it has replied there is room again.
    pair.settle();
    let calls = pair.b.events();
    assert_eq!(calls.len(), 32);
    for event in calls {
        let Event::Call(call) = event else { panic!("{event:?}") };
        pair.b.session.reply(call.id, Ok(raw("")));
    }
    pair.settle();
    assert!(pair.a.session.call(&long, Streams::NONE, pair.a.now).is_ok());

    // What waits to be written is bounded for events as well.
    let mut pair = Pair::with(Limits { max_queued_bytes: 1000, ..Limits::default() });
    let news = || raw(&"x".repeat(600));
    assert_eq!(pair.a.session.publish("t", news(), None), Ok(()));
    let full = pair.a.session.publish("t", news(), None);
    assert!(
        matches!(full, Err(CallFailure::Exhausted { resource: "queued bytes", limit: 1000, .. })),
        "{full:?}"
    );
    pair.settle();
    assert_eq!(pair.a.session.publish("t", news(), None), Ok(()));
}

#[test]
fn a_deadline_counts_from_the_call_even_before_the_handshake() {
    let mut side = Side::new("ours");
    let limit = Duration::from_millis(100);
    let call = Call::new("m", raw("")).with_timeout(limit);
    let id = side.session.call(&call, Streams::NONE, side.now).unwrap();
    assert_eq!(side.session.next_timeout(), Some(side.now + limit));
    side.pass(Duration::from_millis(99));
    assert_eq!(side.events(), []);
    side.pass(Duration::from_millis(1));
    assert_eq!(side.events(), [Event::Reply { id, result: Err(CallFailure::Timeout { limit }) }]);
}

#[test]
fn the_callee_keeps_the_deadline_too() {
    let mut pair = Pair::new();
    let call = Call::new("m", raw("")).with_timeout(Duration::from_micros(1500));
    let id = pair.a.session.call(&call, Streams::NONE, pair.a.now).unwrap();
    pair.settle();
    let Some(Event::Call(received)) = pair.b.event() else { panic!("no call") };
    // A millisecond and a half is sent as two.
    assert_eq!(received.deadline, Some(pair.b.now + Duration::from_millis(2)));
    pair.b.pass(Duration::from_millis(2));
    assert_eq!(pair.b.events(), [Event::Withdrawn { id }]);
    pair.b.session.reply(id, Ok(raw("late")));
    pair.settle();
    let events = pair.a.events();
    assert!(
        matches!(&events[..], [Event::Reply { result: Err(CallFailure::Remote(error)), .. }]
            if error.code == CallError::TIMEOUT),
        "{events:?}"
    );
}

#[test]
fn a_cancel_drops_the_handler_and_frees_the_slot() {
    let limits = Limits { max_outstanding_calls: 1, ..Limits::default() };
    let mut pair = Pair::with(limits);
    let id = call(&mut pair.a, "m", raw(""));
    pair.settle();
    pair.b.events();
    pair.a.session.cancel(id);
    pair.a.session.cancel(id);
    assert!(pair.a.session.call(&Call::new("m", raw("")), Streams::NONE, pair.a.now).is_err());
    pair.settle();
    assert_eq!(pair.b.events(), [Event::Withdrawn { id }]);
    assert_eq!(pair.a.events(), []);
    call(&mut pair.a, "m", raw(""));
}

#[test]
fn a_cancel_never_overtakes_its_call() {
    let mut pair = Pair::new();
    let id = call(&mut pair.a, "m", Payload::raw(vec![0; 300_000]));
    // A part of the call is out; the cancel must come behind the rest.
    let begun = pair.a.take_output(100_000);
    pair.a.session.cancel(id);
    pair.b.feed(&begun);
    pair.settle();
    assert!(
        matches!(&pair.b.events()[..], [Event::Call(_), Event::Withdrawn { id: withdrawn }] if *withdrawn == id)
    );
}

/// Every frame in `bytes`, by name, with the length of its body.
fn frames(mut bytes: &[u8]) -> Vec<(&'static str, usize)> {
    let mut names = Vec::new();
    while let Ok(Some(lengths)) = bulkhead_ipc_protocol::frame::Lengths::parse(bytes, MAX_BODY) {
        let header = codec::decode::<Header<'_>>(&bytes[6..6 + lengths.header]).unwrap();
        names.push((header.name(), lengths.body));
        bytes = &bytes[lengths.frame()..];
    }
    assert_eq!(bytes, b"", "a frame is cut");
    names
}

#[test]
fn control_frames_wait_for_one_piece_at_most() {
    let mut side = Side::greeted();
    for _ in 0..4 {
        call(&mut side, "m", Payload::raw(vec![0; MAX_BODY]));
    }
    let mut output = side.take_output(10);
    side.session.ping(side.now).unwrap();
    side.session.drain(&Drain {
        budget: Duration::from_secs(5),
        reason: "disable".to_owned(),
        save_state: true,
    });
    output.extend(side.take_output(2 * FRAGMENT));
    output.extend(side.take_output(usize::MAX));
    let frames = frames(&output);
    assert_eq!(frames[0], ("Call", FRAGMENT));
    assert_eq!(&frames[1..3], [("Ping", 0), ("Drain", 0)]);
    assert_eq!(frames[3], ("More", FRAGMENT));
    assert_eq!(frames.len(), 2 + 4 * MAX_BODY / FRAGMENT);
}

#[test]
fn small_frames_share_a_buffer() {
    let mut side = Side::greeted();
    for _ in 0..100 {
        call(&mut side, "method", raw("sixty-four bytes or so"));
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    assert_eq!(side.session.slices(&mut slices), 1);
}

#[test]
fn pieces_may_be_split_anywhere_and_interrupted_by_control_frames() {
    let header = Header::Event {
        topic: Cow::Borrowed("t"),
        encoding: bulkhead_ipc_protocol::Encoding::Raw,
        rest: 6,
        trace: None,
    };
    let bytes = [
        message(&header, b"abc"),
        message(&Header::Ping { token: 5 }, b""),
        message(&Header::More, b"de"),
        message(&Header::Ping { token: 6 }, b""),
        message(&Header::More, b"fghi"),
    ]
    .concat();
    for split in 1..bytes.len() {
        let mut side = Side::greeted();
        side.feed(&bytes[..split]);
        side.feed(&bytes[split..]);
        let payload = raw("abcdefghi");
        assert_eq!(
            side.events(),
            [Event::Event { topic: "t".to_owned(), payload, trace: None }],
            "split at {split}"
        );
        let pongs =
            [Header::Pong { token: 5 }, Header::Pong { token: 6 }].map(|pong| message(&pong, &[]));
        assert_eq!(side.take_output(usize::MAX), pongs.concat());
    }
}

#[test]
fn data_flows_both_ways_as_far_as_it_is_allowed() {
    let mut pair = Pair::new();
    let id = open(&mut pair.a, Streams::BOTH);
    pair.settle();
    received(&mut pair.b);
    let upload = StreamId { call: id, direction: Direction::Upload };
    let download = StreamId { call: id, direction: Direction::Download };

    let mut data = Bytes::from(vec![1; 100_000]);
    assert_eq!(pair.a.session.room(upload), Room::Wait);
    assert_eq!(pair.a.session.send_chunk(upload, &mut data), Room::Wait);
    pair.b.session.grant(upload, 70_000);
    pair.settle();
    assert_eq!(pair.a.events(), [Event::StreamChanged { stream: upload }]);
    assert_eq!(pair.a.session.send_chunk(upload, &mut data), Room::Bytes(FRAGMENT));
    assert_eq!(pair.a.session.send_chunk(upload, &mut data), Room::Bytes(70_000 - FRAGMENT));
    assert_eq!(pair.a.session.send_chunk(upload, &mut data), Room::Wait);
    assert_eq!(data.len(), 30_000);
    pair.a.session.end_stream(upload, true);
    pair.settle();
    let lengths: Vec<_> = pair
        .b
        .events()
        .iter()
        .map(|event| match event {
            Event::Chunk { stream, data } if *stream == upload => data.len(),
            Event::StreamOver { stream, complete: true } if *stream == upload => 0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [FRAGMENT, 70_000 - FRAGMENT, 0]);

    pair.a.session.grant(download, 10);
    pair.settle();
    pair.b.events();
    let mut data = Bytes::from_static(b"result");
    pair.b.session.send_chunk(download, &mut data);
    // A reply cuts the download: the receiver learns that it is not all.
    pair.b.session.reply(id, Ok(raw("done")));
    pair.settle();
    assert_eq!(
        pair.a.events(),
        [
            Event::Chunk { stream: download, data: Bytes::from_static(b"result") },
            Event::StreamOver { stream: download, complete: false },
            Event::Reply { id, result: Ok(raw("done")) },
        ]
    );
    assert_eq!(pair.a.session.room(upload), Room::Over);
}

#[test]
fn a_stream_that_is_not_wanted_stops() {
    let mut pair = Pair::new();
    let id = open(&mut pair.a, Streams::UPLOAD);
    pair.settle();
    received(&mut pair.b);
    let upload = StreamId { call: id, direction: Direction::Upload };
    pair.b.session.grant(upload, 1000);
    pair.settle();
    pair.b.session.stop_stream(upload);
    // What crosses the stop is dropped, and still within the credit.
    pair.a.session.send_chunk(upload, &mut Bytes::from_static(b"crossing"));
    pair.settle();
    assert_eq!(pair.b.events(), []);
    assert_eq!(pair.a.session.room(upload), Room::Over);
    pair.b.session.reply(id, Ok(raw("enough")));
    pair.settle();
    assert!(matches!(pair.a.events().last(), Some(Event::Reply { .. })));
    assert_eq!(pair.b.session.ended(), None);
}

#[test]
fn a_reply_ends_an_upload_that_goes_on() {
    let mut pair = Pair::new();
    let id = open(&mut pair.a, Streams::UPLOAD);
    let upload = StreamId { call: id, direction: Direction::Upload };
    pair.settle();
    received(&mut pair.b);
    pair.b.session.grant(upload, 1000);
    pair.settle();
    pair.b.session.reply(id, Ok(raw("no need")));
    pair.a.session.send_chunk(upload, &mut Bytes::from_static(b"on its way"));
    pair.settle();
    pair.b.session.grant(upload, 1000);
    pair.settle();
    assert_eq!(pair.a.session.room(upload), Room::Over);
    assert_eq!(pair.b.events(), []);
    // A cancel of a call with a stream comes behind the stream's last frame.
    let id = open(&mut pair.a, Streams::UPLOAD);
    let upload = StreamId { call: id, direction: Direction::Upload };
    pair.settle();
    pair.b.events();
    pair.b.session.grant(upload, 1000);
    pair.settle();
    pair.a.session.send_chunk(upload, &mut Bytes::from_static(b"then"));
    pair.a.session.cancel(id);
    pair.settle();
    let events = pair.b.events();
    assert!(matches!(&events[..], [Event::Chunk { .. }, Event::Withdrawn { .. }]), "{events:?}");
}

#[test]
fn streams_wait_while_the_out_buffer_is_full() {
    let mut pair = Pair::new();
    let id = open(&mut pair.a, Streams::UPLOAD);
    let upload = StreamId { call: id, direction: Direction::Upload };
    pair.settle();
    pair.b.session.grant(upload, 1 << 20);
    pair.settle();
    pair.a.events();
    let mut data = Bytes::from(vec![0; 1 << 20]);
    while pair.a.session.send_chunk(upload, &mut data) != Room::Wait {}
    assert_eq!(pair.a.session.queued_bytes() / FRAGMENT, 4);
    assert_eq!(pair.a.events(), []);
    pair.a.take_output(usize::MAX);
    assert_eq!(pair.a.events(), [Event::Writable]);
    assert!(matches!(pair.a.session.room(upload), Room::Bytes(_)));
}

#[test]
fn a_drain_lets_what_was_asked_before_finish() {
    let mut pair = Pair::new();
    let first = call(&mut pair.a, "m", raw("1"));
    pair.settle();
    received(&mut pair.b);
    // The second call waits in the queue when the drain overtakes it.
    let second = call(&mut pair.a, "m", Payload::raw(vec![0; MAX_BODY]));
    let begun = pair.a.take_output(1);
    let drain = Drain {
        budget: Duration::from_millis(2500),
        reason: "disable".to_owned(),
        save_state: true,
    };
    pair.a.session.drain(&drain);
    assert_eq!(
        pair.a.session.call(&Call::new("m", raw("")), Streams::NONE, pair.a.now),
        Err(CallFailure::Draining)
    );
    pair.b.feed(&begun);
    pair.settle();
    let events = pair.b.events();
    assert!(
        matches!(&events[..], [Event::Drain(asked), Event::Call(call)]
            if *asked == drain && call.id == second),
        "{events:?}"
    );
    pair.b.session.reply(first, Ok(raw("")));
    assert_eq!(pair.b.events(), []);
    pair.b.session.reply(second, Ok(raw("")));
    assert_eq!(pair.b.events(), [Event::Drained]);
    // The side that drains may still call, to save its state for example.
    let save = call(&mut pair.b, "save", raw("state"));
    pair.b.session.goodbye("drained");
    pair.settle();
    let events = pair.a.events();
    assert!(matches!(events[2], Event::Call(ref call) if call.id == save), "{events:?}");
    assert_eq!(events[3], Event::Ended(EndReason::Goodbye("drained".to_owned())));
    assert_eq!(pair.b.events(), [Event::Ended(EndReason::Finished("drained".to_owned()))]);
}

#[test]
fn an_idle_side_is_drained_at_once() {
    let mut pair = Pair::new();
    let drain = Drain { budget: Duration::ZERO, reason: "shutdown".to_owned(), save_state: false };
    pair.a.session.drain(&drain);
    pair.a.session.drain(&drain);
    pair.settle();
    assert_eq!(pair.b.events(), [Event::Drain(drain), Event::Drained]);
}

#[test]
fn goodbye_now_drops_what_is_queued() {
    let mut side = Side::greeted();
    call(&mut side, "m", Payload::raw(vec![0; MAX_BODY]));
    call(&mut side, "n", raw("never sent"));
    let mut output = side.take_output(5);
    side.session.goodbye_now("enough");
    assert!(matches!(
        side.session.call(&Call::new("m", raw("")), Streams::NONE, side.now),
        Err(CallFailure::Ended(EndReason::Finished(_)))
    ));
    output.extend(side.take_output(usize::MAX));
    assert_eq!(frames(&output), [("Call", FRAGMENT), ("Goodbye", 0)]);
    assert_eq!(side.events(), [Event::Ended(EndReason::Finished("enough".to_owned()))]);
}

#[test]
fn a_peer_that_blames_us_is_told_apart() {
    let mut side = Side::greeted();
    let reason = Cow::Borrowed("a second hello");
    side.feed(&message(&Header::Goodbye { cause: GoodbyeCause::Violation, reason }, &[]));
    assert_eq!(
        side.events(),
        [Event::Ended(EndReason::PeerReportsViolation("a second hello".to_owned()))]
    );
}

#[test]
fn pings_measure_the_round_trip() {
    let mut pair = Pair::new();
    let token = pair.a.session.ping(pair.a.now).unwrap();
    assert_eq!(pair.a.session.pending_ping(), Some(token));
    pair.a.now += Duration::from_millis(3);
    pair.settle();
    let round_trip = Duration::from_millis(3);
    assert_eq!(pair.a.events(), [Event::Pong { token, round_trip }]);
    for _ in 0..limits::MAX_PINGS {
        pair.a.session.ping(pair.a.now).unwrap();
    }
    assert!(matches!(
        pair.a.session.ping(pair.a.now),
        Err(CallFailure::Exhausted { resource: "pings", limit: 16, used: 17 })
    ));
    pair.settle();
    assert_eq!(pair.a.events().len(), limits::MAX_PINGS);
}

#[test]
fn a_reply_that_finds_the_queue_full_becomes_an_error() {
    let limits = Limits { max_queued_bytes: 50_000, ..Limits::default() };
    let mut side = Side::with("ours", limits);
    side.feed(&hello_frame());
    side.take_output(usize::MAX);
    for id in 1..=3 {
        side.feed(&message(
            &Header::Call {
                id,
                method: Cow::Borrowed("m"),
                encoding: bulkhead_ipc_protocol::Encoding::Raw,
                rest: 0,
                timeout: None,
                trace: None,
                on_behalf_of: None,
                streams: Streams::NONE,
            },
            &[],
        ));
    }
    side.session.reply(1, Ok(Payload::raw(vec![0; 40_000])));
    side.session.reply(2, Ok(Payload::raw(vec![0; 40_000])));
    side.session.reply(3, Ok(Payload::raw(vec![0; MAX_BODY + 1])));
    let output = side.take_output(usize::MAX);
    let bodies: Vec<_> = frames(&output).iter().map(|(_, body)| *body).collect();
    assert_eq!(bodies[0], 40_000);
    assert!(bodies[1..].iter().all(|body| (1..200).contains(body)), "{bodies:?}");
    let text = String::from_utf8_lossy(&output);
    assert_eq!(text.matches("RESOURCE_EXHAUSTED").count(), 2);
}

#[test]
fn a_peer_that_never_reads_cannot_fill_our_memory_with_replies() {
    // It calls and calls, takes nothing, and so exceeds what may be unanswered.
    let mut side = Side::greeted();
    let mut id = 0;
    while side.session.ended().is_none() {
        id += 1;
        side.feed(&message(
            &Header::Call {
                id,
                method: Cow::Borrowed("m"),
                encoding: bulkhead_ipc_protocol::Encoding::Raw,
                rest: 0,
                timeout: None,
                trace: None,
                on_behalf_of: None,
                streams: Streams::NONE,
            },
            &[],
        ));
        side.session.reply(id, Ok(Payload::raw(vec![0; 100_000])));
        assert!(side.session.queued_bytes() < 9 * MAX_BODY);
        assert!(id <= 1025, "nothing stops it");
    }
    assert_eq!(id, 1025);
}

#[test]
fn deadlines_of_the_peer() {
    let defaults = Limits::default();
    // No hello.
    let mut side = Side::new("ours");
    assert_eq!(side.session.next_timeout(), Some(side.now + defaults.handshake_deadline));
    side.pass(defaults.handshake_deadline);
    let limit = defaults.handshake_deadline;
    assert_eq!(side.events(), [Event::Ended(EndReason::HandshakeTimeout { limit })]);

    // A frame that stands still, and one that only just moves.
    let mut side = Side::greeted();
    assert_eq!(side.session.next_timeout(), None);
    let bytes = message(&Header::Goodbye { cause: GoodbyeCause::Done, reason: "".into() }, &[]);
    side.feed(&bytes[..3]);
    side.pass(Duration::from_secs(9));
    side.feed(&bytes[3..4]);
    assert_eq!(side.events(), []);
    side.pass(Duration::from_secs(1));
    let limit = defaults.frame_deadline;
    assert_eq!(side.events(), [Event::Ended(EndReason::SlowFrame { have: 4, limit })]);

    // A long body that keeps coming is given time for each 64 KiB.
    let mut pair = Pair::new();
    call(&mut pair.a, "m", Payload::raw(vec![0; 3 * FRAGMENT]));
    for _ in 0..3 {
        let piece = pair.a.take_output(FRAGMENT);
        pair.b.feed(&piece);
        pair.b.pass(Duration::from_secs(9));
        assert_eq!(pair.b.events(), []);
    }
    pair.settle();
    received(&mut pair.b);

    // Takes nothing.
    let mut side = Side::greeted();
    call(&mut side, "m", raw("waits"));
    let queued = side.session.queued_bytes();
    side.session.write_blocked(side.now);
    side.pass(Duration::from_secs(29));
    assert_eq!(side.events(), []);
    side.take_output(1);
    side.session.write_blocked(side.now);
    side.pass(Duration::from_secs(29));
    assert_eq!(side.events(), []);
    side.pass(Duration::from_secs(1));
    let (queued, limit) = (queued - 1, defaults.write_deadline);
    assert_eq!(side.events(), [Event::Ended(EndReason::PeerUnresponsive { queued, limit })]);
}

#[test]
fn a_closed_stream_ends_the_session_and_fails_what_comes_after() {
    let mut side = Side::greeted();
    side.session.input_closed();
    assert_eq!(side.events(), [Event::Ended(EndReason::Closed)]);
    assert_eq!(
        side.session.publish("t", raw(""), None),
        Err(CallFailure::Ended(EndReason::Closed))
    );
    side.feed(&frame(&[11], &[]));
    assert_eq!(side.events(), []);
}

#[test]
fn nothing_but_the_hello_goes_out_before_the_peer_has_said_its_own() {
    let mut side = Side::new("ours");
    call(&mut side, "m", raw(""));
    side.session.ping(side.now).unwrap();
    let hello = side.take_output(usize::MAX);
    assert!(hello[6..].starts_with(b"BLKH"));
    assert!(!side.session.has_output());
    side.feed(&hello_frame());
    assert_eq!(frames(&side.take_output(usize::MAX)), [("Ping", 0), ("Call", 0)]);
}
