//! Every rule of the protocol, broken once.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod support;

use std::borrow::Cow;
use std::collections::BTreeSet;

use bulkhead_ipc_protocol::frame::{FRAGMENT, MAX_BODY, MAX_FRAME};
use bulkhead_ipc_protocol::message::{
    Call, Direction, Drain, GoodbyeCause, Header, Outcome, StreamPart, Streams,
};
use bulkhead_ipc_protocol::session::Event;
use bulkhead_ipc_protocol::{CallError, Encoding, EndReason, Payload, Violation, codec, limits};
use support::{Side, frame, hello, hello_frame, message, raw};

/// What the first violation was; the session must be over after it, and say so to the peer.
fn violation(side: &mut Side) -> Violation {
    let Some(Event::Ended(reason)) = side.events().pop() else { panic!("it goes on") };
    assert_eq!(side.session.ended(), Some(&reason));
    let EndReason::Violation(violation) = reason else { panic!("it ended by {reason}") };
    let reason = violation.to_string();
    let goodbye = Header::Goodbye { cause: GoodbyeCause::Violation, reason: Cow::Owned(reason) };
    let output = side.take_output(usize::MAX);
    let expected = message(&goodbye, &[]);
    assert!(output.ends_with(&expected), "the peer is not told: {output:?}");
    violation
}

/// What a session that has shaken hands says to these bytes.
fn after_hello(bytes: &[u8]) -> Violation {
    let mut side = Side::greeted();
    side.feed(bytes);
    violation(&mut side)
}

fn before_hello(bytes: &[u8]) -> Violation {
    let mut side = Side::new("ours");
    side.feed(bytes);
    violation(&mut side)
}

fn call(id: u64) -> Header<'static> {
    call_with(id, Streams::NONE)
}

fn call_with(id: u64, streams: Streams) -> Header<'static> {
    Header::Call {
        id,
        method: Cow::Borrowed("m"),
        encoding: Encoding::Raw,
        rest: 0,
        timeout: None,
        trace: None,
        on_behalf_of: None,
        streams,
    }
}

fn long_call(rest: u32) -> Header<'static> {
    let Header::Call { id, method, encoding, timeout, trace, on_behalf_of, streams, .. } = call(1)
    else {
        unreachable!("call() makes calls")
    };
    Header::Call { id, method, encoding, rest, timeout, trace, on_behalf_of, streams }
}

fn part(call: u64, direction: Direction, part: StreamPart) -> Header<'static> {
    Header::Stream { call, direction, part }
}

fn reply(id: u64) -> Header<'static> {
    Header::Reply { id, outcome: Outcome::Done(Encoding::Raw), rest: 0 }
}

fn drain(last_call: u64) -> Header<'static> {
    Header::Drain { budget: 1, reason: Cow::Borrowed("disable"), save_state: false, last_call }
}

fn frames(headers: &[Header<'_>]) -> Vec<u8> {
    headers.iter().flat_map(|header| message(header, &[])).collect()
}

use Direction::{Download, Upload};

#[test]
fn every_rule_has_its_violation() {
    let mut seen = BTreeSet::new();
    let mut check = |found: Violation, expected: Violation| {
        assert_eq!(found, expected);
        assert!(
            found.to_string().chars().next().is_some_and(char::is_lowercase)
                || found.to_string().starts_with(|c: char| c.is_ascii_digit()),
            "{found}"
        );
        let text = format!("{found:?}");
        seen.insert(text.split([' ', '{']).next().unwrap().to_owned());
    };
    let prefix = |total: u32, header: u16| {
        let mut bytes = total.to_le_bytes().to_vec();
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes
    };

    // Frames.
    check(
        after_hello(&[0xff; 4]),
        Violation::FrameTooLong { length: u32::MAX as usize, limit: MAX_FRAME },
    );
    check(after_hello(&prefix(2, 0)), Violation::FrameTooShort { length: 2, minimum: 3 });
    check(after_hello(&prefix(3, 0)), Violation::HeaderEmpty);
    check(after_hello(&prefix(9, 8)), Violation::HeaderTooLong { header: 8, frame: 9 });
    let Violation::HeaderMalformed { length: 2, discriminant: 3, reason } =
        after_hello(&frame(&[3, 254], &[]))
    else {
        panic!("a cancel whose number is cut")
    };
    check(
        after_hello(&frame(&[3, 254], &[])),
        Violation::HeaderMalformed { length: 2, discriminant: 3, reason },
    );
    check(
        after_hello(&frame(&[10], &[])),
        Violation::UnknownMessage { discriminant: 10, highest: 9 },
    );
    check(
        after_hello(&frame(&[3, 1, 0], &[])),
        Violation::HeaderTrailing { discriminant: 3, used: 2, trailing: 1 },
    );
    check(
        after_hello(&prefix((MAX_BODY + 4) as u32, 1)),
        Violation::BodyTooLong { length: MAX_BODY + 1, limit: MAX_BODY },
    );
    check(
        after_hello(&message(&long_call(MAX_BODY as u32), b"x")),
        Violation::BodyTooLong { length: MAX_BODY + 1, limit: MAX_BODY },
    );
    check(
        after_hello(&message(&Header::Ping { token: 1 }, b"x")),
        Violation::BodyUnexpected { message: "Ping", length: 1 },
    );
    let mut side = calling(Streams::NONE);
    side.feed(&message(&Header::Reply { id: 1, outcome: Outcome::Failed, rest: 0 }, b"?"));
    let reason = codec::decode::<CallError>(b"?").unwrap_err();
    check(violation(&mut side), Violation::BodyMalformed { message: "Reply", reason });
    let topic = Cow::Owned("t".repeat(1025));
    check(
        after_hello(&message(
            &Header::Event { topic, encoding: Encoding::Raw, rest: 0, trace: None },
            &[],
        )),
        Violation::NameTooLong { part: "topic", length: 1025, limit: 1024 },
    );

    // Bodies in pieces.
    let open = message(&long_call(5), b"abc");
    let then = |bytes: Vec<u8>| after_hello(&[open.clone(), bytes].concat());
    check(after_hello(&message(&Header::More, b"x")), Violation::PieceUnexpected { length: 1 });
    check(then(message(&Header::More, b"")), Violation::PieceEmpty { missing: 5 });
    check(
        then(message(&Header::More, b"123456")),
        Violation::PieceTooLong { length: 6, missing: 5 },
    );
    check(
        then(message(&call(2), b"")),
        Violation::PieceInterrupted { message: "Call", missing: 5 },
    );

    // Hello.
    check(
        before_hello(&message(&Header::Ping { token: 1 }, &[])),
        Violation::HelloMissing { first: 6 },
    );
    check(after_hello(&hello_frame()), Violation::HelloTwice);
    let header = hello("peer").encode().unwrap();
    check(
        before_hello(&frame(&header[..24], &[])),
        Violation::HelloTooShort { field: "name", length: 24 },
    );
    check(
        before_hello(&frame(&[&header[..], &[0; 300]].concat(), &[])),
        Violation::HelloTooLong { length: header.len() + 300, limit: 218 },
    );
    check(
        before_hello(&frame(&[&header[..], &[0; 3]].concat(), &[])),
        Violation::HelloTrailing { trailing: 3 },
    );
    let mut nameless = header.clone();
    nameless.splice(24..29, [0]);
    let Violation::HelloMalformed { field: "name", reason } = before_hello(&frame(&nameless, &[]))
    else {
        panic!("a hello without a name")
    };
    check(
        before_hello(&frame(&nameless, &[])),
        Violation::HelloMalformed { field: "name", reason },
    );

    // Calls.
    check(after_hello(&frames(&[call(7), call(7)])), Violation::CallIdReused { id: 7, highest: 7 });
    let many: Vec<_> = (1..=1025).map(call).collect();
    check(
        after_hello(&frames(&many)),
        Violation::TooManyCalls { id: 1025, limit: limits::MAX_OUTSTANDING_CALLS },
    );
    let long = vec![0; MAX_BODY];
    let heavy: Vec<u8> = (1..=33).flat_map(|id| message(&call(id), &long)).collect();
    check(after_hello(&heavy), Violation::TooManyBytes { id: 33, used: 33 << 20, limit: 32 << 20 });
    check(
        after_hello(&frames(&[call(1), drain(1), call(2)])),
        Violation::CallAfterDrain { id: 2, last: 1 },
    );
    check(after_hello(&frames(&[reply(1)])), Violation::ReplyUnknown { id: 1, last: 0 });
    check(
        after_hello(&frames(&[Header::Cancel { id: 1 }])),
        Violation::CancelUnknown { id: 1, last: 0 },
    );
    let mut side = calling(Streams::NONE);
    side.feed(&frames(&[reply(1), reply(1)]));
    check(violation(&mut side), Violation::ReplyTwice { id: 1 });
    let mut side = calling(Streams::DOWNLOAD);
    side.feed(&frames(&[reply(1)]));
    check(violation(&mut side), Violation::ReplyBeforeStreamEnd { id: 1 });

    // Streams.
    check(
        after_hello(&message(&part(1, Upload, StreamPart::Chunk), b"x")),
        Violation::StreamUnknown { call: 1, direction: Upload },
    );
    let end = part(1, Upload, StreamPart::End);
    check(
        after_hello(&frames(&[call_with(1, Streams::UPLOAD), end.clone(), end])),
        Violation::StreamEnded { call: 1, direction: Upload },
    );
    let chunk = |length: usize| {
        let open = frames(&[call_with(1, Streams::UPLOAD)]);
        let chunk = message(&part(1, Upload, StreamPart::Chunk), &vec![0; length]);
        after_hello(&[open, chunk].concat())
    };
    check(chunk(0), Violation::ChunkEmpty { call: 1, direction: Upload });
    check(
        chunk(FRAGMENT + 1),
        Violation::ChunkTooLong {
            call: 1,
            direction: Upload,
            length: FRAGMENT + 1,
            limit: FRAGMENT,
        },
    );
    check(chunk(1), Violation::CreditExceeded { call: 1, direction: Upload, length: 1, credit: 0 });
    let credit = |bytes| part(1, Download, StreamPart::Credit { bytes });
    let download = call_with(1, Streams::DOWNLOAD);
    let overflow = [download.clone(), credit(1), credit(u32::MAX)];
    check(
        after_hello(&frames(&overflow)),
        Violation::CreditOverflow {
            call: 1,
            direction: Download,
            credit: 1 << 32,
            limit: limits::MAX_CREDIT,
        },
    );
    check(
        after_hello(&frames(&[download.clone(), credit(0)])),
        Violation::CreditEmpty { call: 1, direction: Download },
    );
    let stop = part(1, Download, StreamPart::Stop);
    check(
        after_hello(&frames(&[download, stop.clone(), stop])),
        Violation::StopTwice { call: 1, direction: Download },
    );

    // Control.
    let pings: Vec<_> = (1..=17).map(|token| Header::Ping { token }).collect();
    check(after_hello(&frames(&pings)), Violation::TooManyPings { limit: 16 });
    check(
        after_hello(&frames(&[Header::Pong { token: 4 }])),
        Violation::PongUnexpected { token: 4 },
    );
    check(after_hello(&frames(&[drain(0), drain(0)])), Violation::DrainTwice);

    let declared: BTreeSet<String> = include_str!("../src/violation.rs")
        .lines()
        .skip_while(|line| !line.starts_with("pub enum Violation"))
        .skip(1)
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.split([' ', ',']).next().unwrap().to_owned())
        .collect();
    assert_eq!(seen, declared, "variants that no case produces, or the reverse");
}

/// A side with one call of its own under way.
fn calling(streams: Streams) -> Side {
    let mut side = Side::greeted();
    assert_eq!(side.session.call(&Call::new("m", raw("")), streams, side.now), Ok(1));
    side.take_output(usize::MAX);
    side
}

#[test]
fn a_drain_that_denies_a_call_already_made_is_a_violation() {
    assert_eq!(
        after_hello(&frames(&[call(3), drain(2)])),
        Violation::CallAfterDrain { id: 3, last: 2 }
    );
}

#[test]
fn another_major_version_ends_with_both_versions() {
    let mut theirs = hello("future");
    theirs.protocol = "99.0.0".parse().unwrap();
    let mut side = Side::new("ours");
    side.feed(&frame(&theirs.encode().unwrap(), &[]));
    let (ours, theirs) = ("1.0.0".parse().unwrap(), "99.0.0".parse().unwrap());
    assert_eq!(side.events(), [Event::Ended(EndReason::VersionIncompatible { ours, theirs })]);
}

#[test]
fn text_on_the_socket_is_a_frame_that_is_too_long() {
    let found = before_hello(b"Hello, I am a plugin that prints\n");
    assert_eq!(
        found,
        Violation::FrameTooLong { length: u32::from_le_bytes(*b"Hell") as usize, limit: MAX_FRAME }
    );
}

#[test]
fn what_comes_after_a_violation_is_not_looked_at() {
    let mut side = Side::greeted();
    side.feed(&[frame(&[11], &[]), message(&call(1), &[])].concat());
    assert_eq!(side.events().len(), 1);
}

#[test]
fn races_are_no_violations() {
    // A reply to a call that we withdrew, or that timed out.
    let mut side = calling(Streams::NONE);
    side.session.cancel(1);
    side.feed(&frames(&[reply(1)]));
    assert_eq!(side.events(), []);
    // A cancel, a credit and a stop that cross our reply.
    let mut side = Side::greeted();
    side.feed(&frames(&[call_with(1, Streams::DOWNLOAD)]));
    side.events();
    side.session.reply(1, Ok(Payload::empty()));
    side.feed(&frames(&[
        part(1, Download, StreamPart::Credit { bytes: 9 }),
        part(1, Download, StreamPart::Stop),
        Header::Cancel { id: 1 },
    ]));
    assert_eq!(side.events(), []);
    // Calls that were on the way when we asked for a drain.
    let mut side = Side::greeted();
    let asked = Drain {
        budget: std::time::Duration::from_secs(5),
        reason: "disable".to_owned(),
        save_state: true,
    };
    side.session.drain(&asked);
    side.feed(&frames(&[call(1)]));
    assert!(matches!(side.events()[..], [Event::Call(_)]));
}
