//! Two peers in one thread, and a handler whose methods are the situations that tests want.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_ipc_driver::protocol::{Call, CallError, Drain, EndReason, Hello, Limits, Payload};
use bulkhead_ipc_driver::{Handler, IncomingCall, Peer, Socket, connect};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// What a handler was told, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Event(String, Payload),
    Drain(Drain),
    /// The future of a call was dropped before it was ready.
    Dropped(String),
}

#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) told: mpsc::UnboundedSender<Told>,
    /// Lets one `wait` call go on.
    pub(crate) go: Rc<Notify>,
    /// Where `callback` calls back.
    pub(crate) peer: Rc<RefCell<Option<Peer>>>,
}

/// Tells when it is dropped without being disarmed.
struct Alarm {
    method: Option<String>,
    told: mpsc::UnboundedSender<Told>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(method) = self.method.take() {
            let _ = self.told.send(Told::Dropped(method));
        }
    }
}

impl Scripted {
    async fn answer(self, call: IncomingCall) -> Result<Payload, CallError> {
        let IncomingCall { method, payload, deadline, trace, on_behalf_of, upload, download } =
            call;
        let mut alarm = Alarm { method: Some(method.clone()), told: self.told.clone() };
        let result = match method.as_str() {
            "echo" => Ok(payload),
            "fail" => Err(CallError::new("ODD", "as asked").with_details(r#"{"a":1}"#)),
            "wait" => {
                self.go.notified().await;
                Ok(payload)
            }
            // The reply is queued, and a socket takes a part of it, before the goodbye is due.
            "leave" => {
                let peer = self.peer.borrow().clone().expect("the test sets it");
                tokio::task::spawn_local(async move { peer.goodbye("done") });
                Ok(payload)
            }
            "never" => std::future::pending().await,
            "panic" => panic!("as asked"),
            "about" => Ok(Payload::raw(format!(
                "{:?} {:?} {:?}",
                deadline.map(|at| at - tokio::time::Instant::now()),
                trace.map(|trace| trace.flags),
                on_behalf_of,
            ))),
            "callback" => {
                let peer = self.peer.borrow().clone().expect("the test sets it");
                peer.call(Call::new("echo", payload))
                    .await
                    .map_err(|failure| CallError::new("CALLBACK", failure.to_string()))
            }
            "count" => {
                let mut upload = upload.expect("the caller uploads");
                let mut length = 0;
                while let Some(chunk) = upload.read().await.map_err(stream_error)? {
                    assert!((1..=65536).contains(&chunk.len()));
                    length += chunk.len();
                }
                Ok(Payload::raw(length.to_string()))
            }
            "produce" => {
                let mut download = download.expect("the caller downloads");
                let length: usize = String::from_utf8_lossy(&payload.body).parse().unwrap();
                for start in (0..length).step_by(100_000) {
                    let piece: Vec<u8> =
                        (start..length.min(start + 100_000)).map(|at| at as u8).collect();
                    download.write(Bytes::from(piece)).await.map_err(stream_error)?;
                }
                download.end().map_err(stream_error)?;
                Ok(Payload::empty())
            }
            "halfway" => {
                let mut download = download.expect("the caller downloads");
                download.write(Bytes::from_static(b"half")).await.map_err(stream_error)?;
                drop(download);
                Ok(Payload::empty())
            }
            other => Err(CallError::new("NO_METHOD", other)),
        };
        alarm.method = None;
        result
    }
}

fn stream_error(error: impl ToString) -> CallError {
    CallError::new("STREAM", error.to_string())
}

impl Handler for Scripted {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        self.clone().answer(call)
    }

    fn event(&self, topic: String, payload: Payload) {
        let _ = self.told.send(Told::Event(topic, payload));
    }

    fn drain(&self, drain: Drain) {
        let _ = self.told.send(Told::Drain(drain));
    }
}

/// One end of a session.
pub(crate) struct End {
    pub(crate) peer: Peer,
    pub(crate) driver: JoinHandle<EndReason>,
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    pub(crate) go: Rc<Notify>,
}

/// Puts a session on one end of a stream. Needs a `LocalSet` around it.
pub(crate) fn end<S>(stream: S, name: &str, limits: Limits) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (told, receiver) = mpsc::unbounded_channel();
    let go = Rc::new(Notify::new());
    let own_peer = Rc::new(RefCell::new(None));
    let handler = Scripted { told, go: Rc::clone(&go), peer: Rc::clone(&own_peer) };
    let (peer, driver) = connect(stream, hello(name), limits, handler);
    own_peer.replace(Some(peer.clone()));
    End { peer, driver: tokio::task::spawn_local(driver), told: receiver, go }
}

pub(crate) fn hello(name: &str) -> Hello {
    Hello::new(name, "0.1.0".parse().unwrap()).unwrap()
}

/// Two ends over memory.
pub(crate) fn pair() -> (End, End) {
    let (host, plugin) = tokio::io::duplex(64 * 1024);
    (end(host, "host", Limits::default()), end(plugin, "plugin", Limits::default()))
}

/// Two ends over a socket pair.
pub(crate) fn sockets() -> (End, End) {
    let (host, plugin) = std::os::unix::net::UnixStream::pair().unwrap();
    let (host, plugin) = (Socket::new(host).unwrap(), Socket::new(plugin).unwrap());
    (end(host, "host", Limits::default()), end(plugin, "plugin", Limits::default()))
}

/// Runs a test on one thread under paused time, so that a deadline is free and a hang ends.
pub(crate) fn paused<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(3600), test).await.expect("the test hangs")
    })
}

/// Runs a test on one thread in real time.
pub(crate) fn real<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs")
    })
}

pub(crate) fn raw(text: &str) -> Payload {
    Payload::raw(text.to_owned())
}
