//! What driver and handles share: the session, and who waits for what.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bulkhead_ipc_protocol::message::Direction;
use bulkhead_ipc_protocol::session::{NumberHasher, Session, StreamId};
use bulkhead_ipc_protocol::{CallFailure, EndReason, Payload};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

/// By call number.
pub(crate) type ByCall<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// A call of ours whose reply has not been taken.
#[derive(Debug, Default)]
pub(crate) struct ReplySlot {
    pub(crate) result: Option<Result<Payload, CallFailure>>,
    pub(crate) waker: Option<Waker>,
}

/// A stream that we receive, until its reader is dropped.
#[derive(Debug, Default)]
pub(crate) struct ReadSlot {
    pub(crate) chunks: VecDeque<Bytes>,
    /// Whether all of it came, once nothing more will.
    pub(crate) over: Option<bool>,
    pub(crate) waker: Option<Waker>,
}

/// A stream on which we send, until its writer is dropped.
#[derive(Debug, Default)]
pub(crate) struct WriteSlot {
    pub(crate) waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    /// Whom to wake when there is something to write.
    pub(crate) driver: Waker,
    /// The driver has looked at everything and waits to be woken.
    pub(crate) driver_waits: bool,
    pub(crate) replies: ByCall<ReplySlot>,
    pub(crate) readers: HashMap<StreamId, ReadSlot>,
    pub(crate) writers: HashMap<StreamId, WriteSlot>,
    pub(crate) pings: HashMap<u64, Vec<oneshot::Sender<Duration>>>,
    pub(crate) drained: bool,
}

impl State {
    /// Nothing more will happen on the streams of a call of the peer's.
    pub(crate) fn close_incoming(&mut self, call: u64, wake: &mut Vec<Waker>) {
        self.close_reader(StreamId { call, direction: Direction::Upload }, wake);
        self.wake_writer(StreamId { call, direction: Direction::Download }, wake);
    }

    /// Nothing more will happen on the streams of a call of ours.
    pub(crate) fn close_outgoing(&mut self, call: u64, wake: &mut Vec<Waker>) {
        self.close_reader(StreamId { call, direction: Direction::Download }, wake);
        self.wake_writer(StreamId { call, direction: Direction::Upload }, wake);
    }

    fn close_reader(&mut self, stream: StreamId, wake: &mut Vec<Waker>) {
        if self.readers.is_empty() {
            return;
        }
        if let Some(slot) = self.readers.get_mut(&stream) {
            slot.over.get_or_insert(false);
            wake.extend(slot.waker.take());
        }
    }

    pub(crate) fn wake_writer(&mut self, stream: StreamId, wake: &mut Vec<Waker>) {
        if self.writers.is_empty() {
            return;
        }
        if let Some(slot) = self.writers.get_mut(&stream) {
            wake.extend(slot.waker.take());
        }
    }

    pub(crate) fn wake_writers(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.writers.values_mut().filter_map(|slot| slot.waker.take()));
    }

    /// The session has ended: nobody waits any longer.
    pub(crate) fn release_all(&mut self, reason: &EndReason, wake: &mut Vec<Waker>) {
        for slot in self.replies.values_mut() {
            if slot.result.is_none() {
                slot.result = Some(Err(CallFailure::Ended(reason.clone())));
            }
            wake.extend(slot.waker.take());
        }
        wake.extend(self.readers.values_mut().filter_map(|slot| slot.waker.take()));
        self.wake_writers(wake);
        self.pings.clear();
    }

    /// The driver, if it has to be woken for what was just queued.
    fn driver_to_wake(&mut self) -> Option<Waker> {
        let wake = self.driver_waits && self.session.has_output();
        if wake {
            self.driver_waits = false;
        }
        wake.then(|| self.driver.clone())
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The session is ready, drained or over: a rare change that several may wait for.
    pub(crate) changed: Notify,
    /// For requests that need no time: any will do.
    pub(crate) started: Instant,
}

impl Shared {
    pub(crate) fn new(session: Session, now: Instant) -> Arc<Self> {
        let state = State {
            session,
            driver: Waker::noop().clone(),
            driver_waits: false,
            replies: ByCall::default(),
            readers: HashMap::new(),
            writers: HashMap::new(),
            pings: HashMap::new(),
            drained: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), started: now })
    }

    /// No user code runs under the lock, so a poisoned one only says that some thread died
    /// elsewhere.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something of the session, and wakes the driver if there is something to write.
    pub(crate) fn request<T>(&self, ask: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let answer = ask(&mut state);
        let driver = state.driver_to_wake();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        answer
    }
}
