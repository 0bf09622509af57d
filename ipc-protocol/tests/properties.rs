//! What must hold for any bytes, any split and any order of things.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod support;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use bulkhead_ipc_protocol::frame::{FRAGMENT, MAX_BODY, MAX_FRAME};
use bulkhead_ipc_protocol::message::{
    Call, Direction, Drain, GoodbyeCause, Header, Outcome, StreamPart, Streams, TraceContext,
};
use bulkhead_ipc_protocol::session::{Event, StreamId};
use bulkhead_ipc_protocol::{Encoding, Limits, Payload, codec};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Pair, Side, hello_frame, message};

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Raw), Just(Encoding::Json), Just(Encoding::Bincode)]
}

fn trace() -> impl Strategy<Value = Option<TraceContext>> {
    proptest::option::of(
        (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
            .prop_map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags }),
    )
}

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    vec(any::<char>(), 0..20).prop_map(|text| text.into_iter().collect::<String>().into())
}

fn header() -> impl Strategy<Value = Header<'static>> {
    let streams = || {
        (any::<bool>(), any::<bool>()).prop_map(|(upload, download)| Streams { upload, download })
    };
    let part = prop_oneof![
        Just(StreamPart::Chunk),
        Just(StreamPart::End),
        Just(StreamPart::Reset),
        any::<u32>().prop_map(|bytes| StreamPart::Credit { bytes }),
        Just(StreamPart::Stop),
    ];
    let outcome = prop_oneof![encoding().prop_map(Outcome::Done), Just(Outcome::Failed)];
    let direction = prop_oneof![Just(Direction::Upload), Just(Direction::Download)];
    let cause = prop_oneof![Just(GoodbyeCause::Done), Just(GoodbyeCause::Violation)];
    prop_oneof![
        (
            (any::<u64>(), text(), encoding(), any::<u32>()),
            (any::<Option<u64>>(), trace(), proptest::option::of(text()), streams()),
        )
            .prop_map(
                |((id, method, encoding, rest), (timeout, trace, on_behalf_of, streams))| {
                    Header::Call {
                        id,
                        method,
                        encoding,
                        rest,
                        timeout,
                        trace,
                        on_behalf_of,
                        streams,
                    }
                }
            ),
        (any::<u64>(), outcome, any::<u32>()).prop_map(|(id, outcome, rest)| Header::Reply {
            id,
            outcome,
            rest
        }),
        Just(Header::More),
        any::<u64>().prop_map(|id| Header::Cancel { id }),
        (text(), encoding(), any::<u32>(), trace()).prop_map(|(topic, encoding, rest, trace)| {
            Header::Event { topic, encoding, rest, trace }
        }),
        (any::<u64>(), direction, part).prop_map(|(call, direction, part)| Header::Stream {
            call,
            direction,
            part
        }),
        any::<u64>().prop_map(|token| Header::Ping { token }),
        any::<u64>().prop_map(|token| Header::Pong { token }),
        (any::<u64>(), text(), any::<bool>(), any::<u64>()).prop_map(
            |(budget, reason, save_state, last_call)| Header::Drain {
                budget,
                reason,
                save_state,
                last_call
            }
        ),
        (cause, text()).prop_map(|(cause, reason)| Header::Goodbye { cause, reason }),
    ]
}

/// What one side may do, with numbers that choose among what there is.
#[derive(Debug, Clone)]
enum Act {
    Call {
        length: usize,
        streams: u8,
        timeout: Option<u16>,
    },
    Cancel(usize),
    Reply {
        which: usize,
        length: usize,
        fail: bool,
    },
    Publish(usize),
    Ping,
    Send {
        which: usize,
        length: usize,
    },
    EndStream {
        which: usize,
        complete: bool,
    },
    Grant {
        which: usize,
        bytes: u32,
    },
    StopStream(usize),
    Drain,
    Pass(u16),
    /// Carries up to so many bytes to the other side.
    Carry(usize),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..200_usize, 2 => 4000..5000_usize, 1 => 60_000..200_000_usize]
}

fn act() -> impl Strategy<Value = Act> {
    let which = || 0..8_usize;
    prop_oneof![
        4 => (length(), 0..4_u8, proptest::option::of(1..2000_u16))
            .prop_map(|(length, streams, timeout)| Act::Call { length, streams, timeout }),
        1 => which().prop_map(Act::Cancel),
        4 => (which(), length(), any::<bool>())
            .prop_map(|(which, length, fail)| Act::Reply { which, length, fail }),
        1 => length().prop_map(Act::Publish),
        1 => Just(Act::Ping),
        4 => (which(), length()).prop_map(|(which, length)| Act::Send { which, length }),
        1 => (which(), any::<bool>())
            .prop_map(|(which, complete)| Act::EndStream { which, complete }),
        3 => (which(), 1..100_000_u32).prop_map(|(which, bytes)| Act::Grant { which, bytes }),
        1 => which().prop_map(Act::StopStream),
        1 => Just(Act::Drain),
        1 => (0..500_u16).prop_map(Act::Pass),
        6 => prop_oneof![0..40_usize, 0..5000_usize, 0..300_000_usize].prop_map(Act::Carry),
    ]
}

/// What the test knows of one side.
#[derive(Default)]
struct Known {
    /// Our calls that were neither answered nor withdrawn.
    calls: Vec<u64>,
    /// The peer's calls that wait for our answer.
    asked: Vec<u64>,
    sending: Vec<StreamId>,
    receiving: Vec<StreamId>,
    answers: HashMap<u64, usize>,
}

fn pick<T: Copy>(list: &[T], which: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[which % list.len()])
}

fn perform(side: &mut Side, known: &mut Known, act: &Act) {
    match *act {
        Act::Call { length, streams, timeout } => {
            let streams = Streams { upload: streams & 1 > 0, download: streams & 2 > 0 };
            let mut call = Call::new("service/method", Payload::raw(vec![1; length]));
            call.timeout = timeout.map(|millis| Duration::from_millis(millis.into()));
            if let Ok(id) = side.session.call(&call, streams, side.now) {
                known.calls.push(id);
                if streams.upload {
                    known.sending.push(StreamId { call: id, direction: Direction::Upload });
                }
                if streams.download {
                    known.receiving.push(StreamId { call: id, direction: Direction::Download });
                }
            }
        }
        Act::Cancel(which) => {
            if let Some(id) = pick(&known.calls, which) {
                side.session.cancel(id);
                known.calls.retain(|call| *call != id);
            }
        }
        Act::Reply { which, length, fail } => {
            if let Some(id) = pick(&known.asked, which) {
                let result = if fail {
                    Err(bulkhead_ipc_protocol::CallError::new("ODD", "x".repeat(length)))
                } else {
                    Ok(Payload::raw(vec![2; length]))
                };
                side.session.reply(id, result);
                known.asked.retain(|call| *call != id);
            }
        }
        Act::Publish(length) => {
            let _ = side.session.publish("topic", Payload::raw(vec![3; length]), None);
        }
        Act::Ping => {
            let _ = side.session.ping(side.now);
        }
        Act::Send { which, length } => {
            if let Some(stream) = pick(&known.sending, which) {
                side.session.send_chunk(stream, &mut Bytes::from(vec![4; length]));
            }
        }
        Act::EndStream { which, complete } => {
            if let Some(stream) = pick(&known.sending, which) {
                side.session.end_stream(stream, complete);
            }
        }
        Act::Grant { which, bytes } => {
            if let Some(stream) = pick(&known.receiving, which) {
                side.session.grant(stream, bytes);
            }
        }
        Act::StopStream(which) => {
            if let Some(stream) = pick(&known.receiving, which) {
                side.session.stop_stream(stream);
            }
        }
        Act::Drain => side.session.drain(&Drain {
            budget: Duration::from_secs(1),
            reason: "test".to_owned(),
            save_state: false,
        }),
        Act::Pass(millis) => side.pass(Duration::from_millis(millis.into())),
        Act::Carry(_) => unreachable!("carrying is not one side's business"),
    }
}

fn learn(side: &mut Side, known: &mut Known) {
    while let Some(event) = side.event() {
        match event {
            Event::Call(call) => {
                known.asked.push(call.id);
                if call.streams.upload {
                    known.receiving.push(StreamId { call: call.id, direction: Direction::Upload });
                }
                if call.streams.download {
                    known.sending.push(StreamId { call: call.id, direction: Direction::Download });
                }
            }
            Event::Withdrawn { id } => known.asked.retain(|call| *call != id),
            Event::Reply { id, .. } => {
                *known.answers.entry(id).or_default() += 1;
                assert!(known.calls.contains(&id), "an answer to a call that is over");
                known.calls.retain(|call| *call != id);
            }
            Event::Ended(reason) => panic!("an honest peer ended it: {reason}"),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_header_comes_back(header in header()) {
        let bytes = codec::encode(&header);
        prop_assert_eq!(codec::decode::<Header<'_>>(&bytes), Ok(header));
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_events(
        bodies in vec(length(), 1..6),
        cuts in vec(1..100_000_usize, 0..40),
    ) {
        let mut sender = Side::greeted();
        for length in &bodies {
            sender.session.publish("t", Payload::raw(vec![7; *length]), None).unwrap();
        }
        sender.session.goodbye("done");
        let bytes = [hello_frame(), sender.take_output(usize::MAX)].concat();

        let mut whole = Side::new("ours");
        whole.feed(&bytes);
        let mut split = Side::new("ours");
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle().chain([&usize::MAX]).take(10_000) {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            split.feed(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        split.feed(rest);
        let events = whole.events();
        prop_assert_eq!(events.len(), bodies.len() + 2);
        prop_assert!(events == split.events());
    }

    #[test]
    fn random_bytes_neither_panic_nor_take_more_than_a_frame(
        bytes in vec(any::<u8>(), 0..2000),
        greeted in any::<bool>(),
        cut in 1..100_usize,
    ) {
        let mut side = if greeted { Side::greeted() } else { Side::new("ours") };
        for piece in bytes.chunks(cut) {
            side.feed(piece);
            prop_assert!(side.session.read_target().len() <= MAX_FRAME);
        }
        side.session.input_closed();
        prop_assert!(matches!(side.events().last(), Some(Event::Ended(_))));
    }

    #[test]
    fn well_formed_frames_in_any_order_do_not_panic(
        frames in vec((header(), vec(any::<u8>(), 0..40)), 0..40),
    ) {
        let mut side = Side::greeted();
        for (header, body) in &frames {
            side.feed(&message(header, body));
        }
        side.take_output(usize::MAX);
    }

    #[test]
    fn two_honest_sessions_never_violate(acts in vec((any::<bool>(), act()), 1..120)) {
        // Their deadlines must not end it: a carrier may be slow.
        let limits = Limits {
            frame_deadline: Duration::from_secs(3600),
            write_deadline: Duration::from_secs(3600),
            ..Limits::default()
        };
        let mut pair = Pair::with(limits);
        let (mut a, mut b) = (Known::default(), Known::default());
        for (first, act) in &acts {
            match (first, act) {
                (true, Act::Carry(most)) => {
                    let bytes = pair.a.take_output(*most);
                    pair.b.feed(&bytes);
                }
                (false, Act::Carry(most)) => {
                    let bytes = pair.b.take_output(*most);
                    pair.a.feed(&bytes);
                }
                (true, act) => perform(&mut pair.a, &mut a, act),
                (false, act) => perform(&mut pair.b, &mut b, act),
            }
            learn(&mut pair.a, &mut a);
            learn(&mut pair.b, &mut b);
        }
        // Everything that is still asked is answered, and then every call has had one answer.
        for _ in 0..3 {
            pair.settle();
            learn(&mut pair.a, &mut a);
            learn(&mut pair.b, &mut b);
            for id in std::mem::take(&mut a.asked) {
                pair.a.session.reply(id, Ok(Payload::empty()));
            }
            for id in std::mem::take(&mut b.asked) {
                pair.b.session.reply(id, Ok(Payload::empty()));
            }
        }
        prop_assert_eq!(&a.calls, &Vec::<u64>::new());
        prop_assert_eq!(&b.calls, &Vec::<u64>::new());
        prop_assert!(a.answers.values().chain(b.answers.values()).all(|count| *count == 1));
        prop_assert_eq!(pair.a.session.queued_bytes() + pair.b.session.queued_bytes(), 0);
    }
}

#[test]
fn the_lengths_that_the_properties_use_reach_every_path() {
    // Copied, shared, and cut into pieces: the classes of bodies that the out-buffer tells apart.
    const { assert!(5000 > 4096 && 200_000 > FRAGMENT && 200_000 < MAX_BODY) };
}
