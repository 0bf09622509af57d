//! A host in memory: state, what was logged and published, and other plugins' methods.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_ipc_driver::{Handler, IncomingCall};
use bulkhead_ipc_protocol::host::{
    CONNECT, Connect, Connected, MAX_STATE_KEYS, METRICS_PUSH, STATE_CONFLICT, STATE_DELETE,
    STATE_GET, STATE_KEY_MORE, STATE_LIST, STATE_PAGE, STATE_SET, StateDelete, StateEntry,
    StateGet, StateKeys, StateList, StatePage, StateSet,
};
use bulkhead_ipc_protocol::metrics::MetricsPush;
use bulkhead_ipc_protocol::{CallError, LogRecord, Payload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::host::{Arrivals, LogSink};

/// Something that the plugin published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// On which topic.
    pub topic: String,
    /// Its data.
    pub data: Value,
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Payload, CallError>>>>;
pub(super) type Answerer = Rc<dyn Fn(IncomingCall) -> Answer>;

/// What is remembered from one start of the plugin to the next.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) state: RefCell<BTreeMap<String, (u64, Vec<u8>)>>,
    /// Taken from whatever thread of the plugin writes them.
    logs: Arc<Mutex<Vec<LogRecord>>>,
    /// Who answers for a `host:port` pair.
    pub(super) peers: RefCell<BTreeMap<String, SocketAddr>>,
    pub(super) connections: Arrivals,
    tokens: Cell<u64>,
    /// The last that the plugin told.
    pub(super) metrics: RefCell<MetricsPush>,
    pub(super) published: RefCell<Vec<Published>>,
    /// By `service/method`, or by `service` for all its methods.
    pub(super) answers: RefCell<HashMap<String, Answerer>>,
    /// Methods whose calls fail with this error until it is taken back.
    pub(super) faults: RefCell<HashMap<String, CallError>>,
}

/// One session's view of the memory.
pub(super) struct MemoryHost(pub(super) Rc<Memory>);

impl Handler for MemoryHost {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        let memory = self.0.clone();
        async move {
            if let Some(fault) = memory.faults.borrow().get(&call.method) {
                return Err(fault.clone());
            }
            match call.method.as_str() {
                STATE_GET => memory.state_get(&read(&call)?),
                STATE_SET => memory.state_set(read(&call)?),
                STATE_DELETE => memory.state_delete(&read(&call)?),
                STATE_LIST => memory.state_list(read(&call)?),
                STATE_PAGE => write(&memory.state_page(&read(&call)?)),
                CONNECT => memory.connect(&read(&call)?),
                METRICS_PUSH => {
                    *memory.metrics.borrow_mut() = read(&call)?;
                    write(&())
                }
                _ => {
                    let answerer = memory.answerer(&call.method)?;
                    answerer(call).await
                }
            }
        }
    }

    fn event(&self, topic: String, payload: Payload) {
        let data = serde_json::from_slice(&payload.body).unwrap_or(Value::Null);
        self.0.published.borrow_mut().push(Published { topic, data });
    }
}

impl Memory {
    pub(super) fn log_sink(&self) -> LogSink {
        let logs = Arc::clone(&self.logs);
        LogSink::new(move |record| {
            logs.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        })
    }

    pub(super) fn logs(&self) -> Vec<LogRecord> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answerer(&self, method: &str) -> Result<Answerer, CallError> {
        let answers = self.answers.borrow();
        let service = method.split('/').next().unwrap_or(method);
        answers.get(method).or_else(|| answers.get(service)).cloned().ok_or_else(|| {
            let message = format!(
                "the test has no answer to `{method}`; add it with Harness::answer or Harness::service"
            );
            CallError::new("DEPENDENCY_MISSING", message)
        })
    }

    fn connect(&self, asked: &Connect) -> Result<Payload, CallError> {
        let Connect { host, port } = asked;
        let pair =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let Some(address) = self.peers.borrow().get(&pair).copied() else {
            let message =
                format!("the test has nobody at {pair:?}; add it with Harness::connection");
            return Err(CallError::new("PERMISSION_DENIED", message));
        };
        let stream = TcpStream::connect(address)
            .map_err(|err| CallError::new("CONNECT_FAILED", format!("{pair}: {err}")))?;
        let token = self.tokens.replace(self.tokens.get() + 1);
        self.connections.arrived(token, stream);
        write(&Connected { token })
    }

    fn state_get(&self, request: &StateGet) -> Result<Payload, CallError> {
        let state = self.state.borrow();
        let entry = state.get(&request.key);
        write(&entry.map(|(version, value)| StateEntry { version: *version, value: value.clone() }))
    }

    fn state_set(&self, request: StateSet) -> Result<Payload, CallError> {
        let mut state = self.state.borrow_mut();
        let found = state.get(&request.key).map_or(0, |(version, _)| *version);
        expect(request.expected, found)?;
        state.insert(request.key, (found + 1, request.value));
        write(&(found + 1))
    }

    fn state_delete(&self, request: &StateDelete) -> Result<Payload, CallError> {
        let mut state = self.state.borrow_mut();
        let found = state.get(&request.key).map_or(0, |(version, _)| *version);
        expect(request.expected, found)?;
        write(&state.remove(&request.key).is_some())
    }

    fn state_list(&self, request: StateList) -> Result<Payload, CallError> {
        let page = StatePage { prefix: request.prefix, after: String::new() };
        let StateKeys { keys, more } = self.state_page(&page);
        if more {
            let message = "the keys are too many for one answer";
            return Err(CallError::new("RESOURCE_EXHAUSTED", message));
        }
        write(&keys)
    }

    fn state_page(&self, request: &StatePage) -> StateKeys {
        let StatePage { prefix, after } = request;
        let state = self.state.borrow();
        let (mut page, mut bytes) = (StateKeys { keys: Vec::new(), more: false }, 0);
        let found = state.range::<String, _>(prefix.max(after)..).filter(|(key, _)| *key != after);
        for (key, (version, _)) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            bytes += key.len() + STATE_KEY_MORE;
            if bytes > MAX_STATE_KEYS {
                page.more = true;
                break;
            }
            page.keys.push((key.clone(), *version));
        }
        page
    }
}

fn expect(expected: Option<u64>, found: u64) -> Result<(), CallError> {
    match expected {
        Some(expected) if expected != found => {
            let message = format!("the entry has version {found}, not {expected}; read it again");
            let details = json!({ "expected": expected, "found": found });
            Err(CallError::new(STATE_CONFLICT, message).with_details(details.to_string()))
        }
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(call: &IncomingCall) -> Result<T, CallError> {
    call.payload
        .decode_bincode()
        .map_err(|err| CallError::new("REQUEST_INVALID", format!("{}: {err}", call.method)))
}

fn write<T: Serialize>(value: &T) -> Result<Payload, CallError> {
    Payload::bincode(value).map_err(|err| CallError::new("INTERNAL", err.to_string()))
}
