//! What plugins say.

use bulkhead_ipc_protocol::host::{
    CONNECT, Connect, Connected, METRICS_PUSH, STATE_DELETE, STATE_GET, STATE_LIST, STATE_PAGE,
    STATE_SET, StateDelete, StateEntry, StateGet, StateKeys, StateList, StatePage, StateSet,
};
use bulkhead_ipc_protocol::lifecycle::{ConfigureReply, InitReply};
use bulkhead_ipc_protocol::message::MAX_NAME;
use bulkhead_ipc_protocol::metrics::MetricsPush;
use bulkhead_ipc_protocol::{CallError, Encoding, Payload, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::supervise::in_process::{self, InProcess, Record};

/// No error that a plugin is answered with is longer, nor what is made of one of its own beyond that.
const LONGEST: usize = 32 << 10;

thread_local! {
    static SERVICE: InProcess = InProcess::start();
}

/// The low half of the first byte says what the rest is, the high half in which encoding. What decodes
/// means the same when it is written and read again; it is answered with a result or with an error
/// of bounded length, and what is told of it is as it should be.
pub(crate) fn message(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let encoding = match (first >> 4) % 3 {
        0 => Encoding::Bincode,
        1 => Encoding::Json,
        _ => Encoding::Raw,
    };
    let payload = |body: &[u8]| Payload { encoding, body: body.to_vec().into() };
    let body = payload(rest);
    match first & 15 {
        0 => state_get(&body),
        1 => state_set(&body),
        2 => drop(asked::<StateDelete>(STATE_DELETE, &body).map(|reply| read::<bool>(&reply))),
        3 => state_list(&body),
        4 => drop(asked::<Connect>(CONNECT, &body).map(|reply| read::<Connected>(&reply))),
        5 => metrics(&body),
        6 => {
            let (method, argument) = named(rest);
            let _ = call(&method, &payload(argument));
        }
        7 => {
            let (topic, news) = named(rest);
            SERVICE.with(|service| service.publish(&topic, payload(news)));
        }
        8 => {
            same::<InitReply>(&body);
            same::<ConfigureReply>(&body);
            for failure in in_process::answered(&body) {
                told(&failure, 0);
            }
        }
        9 => {
            // An error has no encoding of its own.
            if let Some(error) = same::<CallError>(&Payload { encoding: Encoding::Bincode, ..body })
            {
                for failure in in_process::refused(&error) {
                    told(&failure, rest.len());
                }
            }
        }
        10 => log(rest),
        11 => state_page(&body),
        _ => {}
    }
}

/// A line that names it, and the rest. A session takes no longer name.
fn named(bytes: &[u8]) -> (String, &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let name = parts.next().unwrap_or_default();
    let mut name = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]).into_owned();
    while name.len() > MAX_NAME {
        name.pop();
    }
    (name, parts.next().unwrap_or_default())
}

/// What decodes, and means the same when it is written and read again. It is not longer then: so
/// nothing of it was made up.
fn same<T: Serialize + DeserializeOwned>(payload: &Payload) -> Option<T> {
    let value: T = payload.decode_bincode().ok()?;
    let once = codec::encode(&value);
    assert!(once.len() <= payload.body.len());
    let again: T = codec::decode(&once).expect("it was written by us");
    assert_eq!(codec::encode(&again), once);
    Some(value)
}

fn read<T: DeserializeOwned>(reply: &Payload) -> T {
    reply.decode_bincode().expect("the host answers as the protocol says")
}

/// Calls the host. One that cannot be read is refused as that.
fn asked<T: Serialize + DeserializeOwned>(method: &str, payload: &Payload) -> Option<Payload> {
    let readable = same::<T>(payload).is_some();
    let answer = call(method, payload);
    if !readable {
        assert_eq!(answer, Err(Code::InvalidRequest), "{method}");
    }
    answer.ok()
}

fn call(method: &str, payload: &Payload) -> Result<Payload, Code> {
    let answer = SERVICE.with(|service| service.call(method, payload.clone()));
    answer.map_err(|error| {
        let details = error.details.as_deref().expect("the host's errors have details");
        let details: Value = serde_json::from_str(details).expect("they are JSON");
        assert!(details.is_object() && !error.message.is_empty());
        let length = codec::encode(&error).len();
        assert!(length < LONGEST, "{length} bytes: {}", error.code);
        let code: Code = serde_json::from_value(Value::String(error.code.clone())).expect("stable");
        assert!(code != Code::Internal, "{error}");
        code
    })
}

fn state_get(payload: &Payload) {
    if let Some(reply) = asked::<StateGet>(STATE_GET, payload) {
        read::<Option<StateEntry>>(&reply);
    }
}

/// What is written is there afterwards, under its own key and in the list of what begins like that.
fn state_set(payload: &Payload) {
    let Some(reply) = asked::<StateSet>(STATE_SET, payload) else { return };
    let version: u64 = read(&reply);
    let StateSet { key, value, .. } = read(payload);
    let get = Payload::bincode(&StateGet { key: key.clone() }).expect("a string");
    let entry: Option<StateEntry> = read(&call(STATE_GET, &get).expect("it was written"));
    assert_eq!(entry, Some(StateEntry { version, value }));
    let list = Payload::bincode(&StateList { prefix: key.clone() }).expect("a string");
    let listed: Vec<(String, u64)> =
        read(&call(STATE_LIST, &list).expect("any prefix may be asked"));
    assert!(listed.contains(&(key.clone(), version)), "{key:?} is not among {listed:?}");
}

fn state_list(payload: &Payload) {
    let Some(reply) = asked::<StateList>(STATE_LIST, payload) else { return };
    let StateList { prefix } = read(payload);
    for (key, _) in read::<Vec<(String, u64)>>(&reply) {
        assert!(key.starts_with(&prefix), "{key:?} does not begin with {prefix:?}");
    }
}

/// The keys are in their order, each after the one that was named: so whoever goes on comes to an end.
fn state_page(payload: &Payload) {
    let Some(reply) = asked::<StatePage>(STATE_PAGE, payload) else { return };
    let StatePage { prefix, after } = read(payload);
    let StateKeys { keys, more } = read(&reply);
    assert!(!more || !keys.is_empty());
    let all: Vec<&String> =
        std::iter::once(&after).chain(keys.iter().map(|(key, _)| key)).collect();
    assert!(all.is_sorted_by(|one, other| one < other), "{all:?}");
    assert!(all[1..].iter().all(|key| key.starts_with(&prefix)), "{all:?}: {prefix:?}");
}

/// Whatever is pushed, the exposition is lines of a name, labels and a number.
fn metrics(payload: &Payload) {
    if asked::<MetricsPush>(METRICS_PUSH, payload).is_none() {
        return;
    }
    let text = SERVICE.with(InProcess::measured);
    assert!(text.lines().count() < 8 << 10 && text.len() < 1 << 20, "{} bytes", text.len());
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (series, value) = line.rsplit_once(' ').expect("a series has a value");
        assert!(series.starts_with("bulkhead_") && series.ends_with('}'), "{line:?}");
        assert!(series.contains("plugin=\"victim\""), "{line:?}");
        let number = value.parse::<f64>();
        assert!(number.is_ok(), "{line:?}");
    }
}

/// A failure is read by clients as it is written, and has nothing but what the plugin said.
fn told(failure: &Failure, said: usize) {
    let text = serde_json::to_string(failure).expect("a failure has a form in JSON");
    let again: Failure = serde_json::from_str(&text).expect("whoever is told can read it");
    assert_eq!(again, *failure);
    assert!(failure.code != Code::Internal, "{failure}");
    // Twice, and each byte as an escape at the worst.
    assert!(text.len() <= LONGEST + 12 * said, "{} bytes of {said}", text.len());
}

/// Every record is a line of the book that is read as it was written.
fn log(bytes: &[u8]) {
    let records: Vec<Record> = in_process::logged(bytes);
    for record in records {
        let line = serde_json::to_string(&record).expect("a record has a form in JSON");
        assert!(!line.contains('\n'));
        let again: Record = serde_json::from_str(&line).expect("it was written by us");
        assert_eq!(serde_json::to_string(&again).ok(), Some(line));
    }
}
