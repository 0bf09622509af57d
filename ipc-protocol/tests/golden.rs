//! The bytes of every message of version 1. A change of these files is a change of the protocol:
//! it needs a new version, not a new file. `BULKHEAD_WRITE_GOLDEN=1` writes those that differ.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod support;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bulkhead_ipc_protocol::host::{
    Connect, Connected, StateDelete, StateEntry, StateGet, StateKeys, StateList, StatePage,
    StateSet,
};
use bulkhead_ipc_protocol::lifecycle::{
    ConfigureReply, ConfigureRequest, InitReply, InitRequest, PermissionsChanged,
};
use bulkhead_ipc_protocol::message::{
    Direction, GoodbyeCause, Header, Outcome, StreamPart, Streams, TraceContext,
};
use bulkhead_ipc_protocol::metrics::{Metric, MetricKind, MetricsPush, Series, SeriesValue};
use bulkhead_ipc_protocol::{CallError, Encoding, Features, Hello, codec, frame, log_line};
use bulkhead_ipc_protocol::{Level, LogRecord};
use support::{frame as framed, message};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// One metric of each kind.
fn metrics() -> MetricsPush {
    let metric = |name: &str, kind, value| Metric {
        name: name.into(),
        help: "for people".into(),
        kind,
        labels: vec!["status".into()],
        series: vec![Series { labels: vec!["booked".into()], value }],
    };
    let histogram = SeriesValue::Histogram { counts: vec![1, 300], sum: 0.75 };
    MetricsPush {
        metrics: vec![
            metric("booked_total", MetricKind::Counter, SeriesValue::Number(2.0)),
            metric("open", MetricKind::Gauge, SeriesValue::Number(-0.5)),
            metric("wait_seconds", MetricKind::Histogram { bounds: vec![0.5] }, histogram),
        ],
        dropped: 3,
    }
}

/// Every message, in each of its forms, by the name of its file.
fn messages() -> Vec<(&'static str, Header<'static>, Vec<u8>)> {
    let trace = TraceContext { trace_id: *b"0123456789abcdef", span_id: *b"01234567", flags: 1 };
    let text = |text: &'static str| Cow::Borrowed(text);
    let stream = |part| Header::Stream { call: 300, direction: Direction::Upload, part };
    let error = CallError::new("STATE_CONFLICT", "the version is 7, not 6")
        .with_details(r#"{"expected":6,"found":7}"#);
    vec![
        (
            "call",
            Header::Call {
                id: 1,
                method: text("appointments/book"),
                encoding: Encoding::Json,
                rest: 0,
                timeout: Some(5000),
                trace: Some(trace),
                on_behalf_of: Some(text("dr. who")),
                streams: Streams::NONE,
            },
            b"{}".to_vec(),
        ),
        (
            "call-in-pieces",
            Header::Call {
                id: 70_000,
                method: text("m"),
                encoding: Encoding::Bincode,
                rest: 3,
                timeout: None,
                trace: None,
                on_behalf_of: None,
                streams: Streams::BOTH,
            },
            b"first ".to_vec(),
        ),
        ("more", Header::More, b"end".to_vec()),
        (
            "reply",
            Header::Reply { id: 1, outcome: Outcome::Done(Encoding::Raw), rest: 0 },
            b"done".to_vec(),
        ),
        (
            "reply-error",
            Header::Reply { id: 2, outcome: Outcome::Failed, rest: 0 },
            codec::encode(&error),
        ),
        ("cancel", Header::Cancel { id: 251 }, Vec::new()),
        (
            "event",
            Header::Event {
                topic: text("appointments.changed"),
                encoding: Encoding::Json,
                rest: 0,
                trace: Some(trace),
            },
            b"[17]".to_vec(),
        ),
        ("stream-chunk", stream(StreamPart::Chunk), b"chunk".to_vec()),
        ("stream-end", stream(StreamPart::End), Vec::new()),
        ("stream-reset", stream(StreamPart::Reset), Vec::new()),
        ("stream-credit", stream(StreamPart::Credit { bytes: 262_144 }), Vec::new()),
        (
            "stream-stop",
            Header::Stream { call: 1, direction: Direction::Download, part: StreamPart::Stop },
            Vec::new(),
        ),
        ("ping", Header::Ping { token: 1 }, Vec::new()),
        ("pong", Header::Pong { token: 1 << 40 }, Vec::new()),
        (
            "drain",
            Header::Drain { budget: 5000, reason: text("disable"), save_state: true, last_call: 9 },
            Vec::new(),
        ),
        (
            "goodbye",
            Header::Goodbye { cause: GoodbyeCause::Done, reason: text("drained") },
            Vec::new(),
        ),
        (
            "goodbye-violation",
            Header::Goodbye { cause: GoodbyeCause::Violation, reason: text("a second hello") },
            Vec::new(),
        ),
    ]
}

/// The payloads of the methods that host and plugin call on each other.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let key = || "lastSync".to_owned();
    let init = InitRequest {
        plugin_id: "appointments".to_owned(),
        version: "1.0.0".to_owned(),
        config: r#"{"defaultDuration":60}"#.to_owned(),
        permissions: vec!["read:appointments".to_owned()],
    };
    let config = r#"{"defaultDuration":45}"#.to_owned();
    let value = br#""2026""#.to_vec();
    let entry = Some(StateEntry { version: 3, value: value.clone() });
    vec![
        ("payload-init-request", codec::encode(&init)),
        ("payload-init-reply", codec::encode(&InitReply { resumed: true })),
        ("payload-configure-request", codec::encode(&ConfigureRequest { config })),
        ("payload-configure-reply", codec::encode(&ConfigureReply { applied: true })),
        ("payload-metrics-push", codec::encode(&metrics())),
        (
            "payload-permissions-changed",
            codec::encode(&PermissionsChanged { permissions: vec!["read:appointments".into()] }),
        ),
        ("payload-state-get", codec::encode(&StateGet { key: key() })),
        ("payload-state-get-reply", codec::encode(&entry)),
        ("payload-state-set", codec::encode(&StateSet { key: key(), value, expected: Some(2) })),
        ("payload-state-delete", codec::encode(&StateDelete { key: key(), expected: None })),
        ("payload-state-list", codec::encode(&StateList { prefix: "last".to_owned() })),
        (
            "payload-connect",
            codec::encode(&Connect { host: "db.example.org".to_owned(), port: 5432 }),
        ),
        ("payload-connect-reply", codec::encode(&Connected { token: 1_234_567_890_123 })),
        ("payload-state-list-reply", codec::encode(&vec![(key(), 3_u64)])),
        (
            "payload-state-page",
            codec::encode(&StatePage { prefix: "last".to_owned(), after: "lastLogin".to_owned() }),
        ),
        (
            "payload-state-page-reply",
            codec::encode(&StateKeys { keys: vec![(key(), 3)], more: true }),
        ),
    ]
}

/// What goes to standard error rather than over the wire.
fn record() -> LogRecord {
    LogRecord {
        level: Level::Warn,
        target: "appointments::book".to_owned(),
        message: "overlap\nat \"ten\"".to_owned(),
        fields: vec![("patient".to_owned(), "17".to_owned())],
    }
}

fn hello() -> Hello {
    let hello = Hello::new("appointments", "1.2.3".parse().unwrap()).unwrap();
    Hello { features: Features(0x8000_0000_0000_0001), ..hello }
}

fn all() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    all.insert("hello".to_owned(), framed(&hello().encode().unwrap(), &[]));
    all.insert("log-line".to_owned(), log_line::encode(&record()));
    for (name, header, body) in messages() {
        all.insert(name.to_owned(), message(&header, &body));
    }
    for (name, bytes) in payloads() {
        all.insert(name.to_owned(), bytes);
    }
    all
}

#[test]
fn no_byte_has_changed() {
    let write = std::env::var_os("BULKHEAD_WRITE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for (name, bytes) in all() {
        let path = directory().join(format!("{name}.bin"));
        match std::fs::read(&path) {
            Ok(golden) if golden == bytes => {}
            _ if write => std::fs::write(&path, &bytes).unwrap(),
            Ok(golden) => wrong.push(format!("{name}: {bytes:02x?}, the file has {golden:02x?}")),
            Err(error) => wrong.push(format!("{name} lacks {}: {error}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_decodes_to_its_message() {
    for (name, header, body) in messages() {
        let bytes = std::fs::read(directory().join(format!("{name}.bin"))).unwrap();
        let lengths = frame::Lengths::parse(&bytes, frame::MAX_BODY).unwrap().unwrap();
        assert_eq!(lengths.frame(), bytes.len(), "{name}");
        let (found, rest) = bytes[frame::PREFIX..].split_at(lengths.header);
        assert_eq!(codec::decode::<Header<'_>>(found), Ok(header), "{name}");
        assert_eq!(rest, body, "{name}");
    }
    let bytes = std::fs::read(directory().join("hello.bin")).unwrap();
    assert_eq!(Hello::decode(&bytes[frame::PREFIX..]), Ok(hello()));
    let bytes = std::fs::read(directory().join("log-line.bin")).unwrap();
    assert_eq!(log_line::decode(&bytes), Some(record()));
}

#[test]
fn every_message_has_a_file_and_every_file_a_message() {
    // Up to 250 a discriminant is one byte. It is known if its failure to decode is about what follows it.
    let known = |header: &[u8]| match codec::decode::<Header<'_>>(header) {
        Err(codec::DecodeError::Malformed { reason, .. }) => !reason.contains("variant"),
        _ => true,
    };
    let discriminants: BTreeSet<u8> = (0..=250).filter(|first| known(&[*first])).collect();
    let covered: BTreeSet<u8> =
        messages().iter().map(|(_, header, _)| codec::encode(header)[0]).collect();
    let lacking: Vec<_> = discriminants.difference(&covered).collect();
    assert!(lacking.is_empty(), "messages without a golden file: discriminants {lacking:?}");

    let part_of = |part: u8| {
        let mut header = codec::encode(&Header::Stream {
            call: 1,
            direction: Direction::Upload,
            part: StreamPart::Chunk,
        });
        *header.last_mut().unwrap() = part;
        header
    };
    let parts: BTreeSet<u8> = (0..250).filter(|part| known(&part_of(*part))).collect();
    let covered: BTreeSet<u8> = messages()
        .iter()
        .filter_map(|(_, header, _)| match header {
            Header::Stream { part, .. } => Some(codec::encode(part)[0]),
            _ => None,
        })
        .collect();
    assert_eq!(parts, covered, "parts of a stream without a golden file");

    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = all().keys().map(|name| format!("{name}.bin")).collect();
    assert_eq!(files, expected);
}
