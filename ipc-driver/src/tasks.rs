//! The handlers that run.
//!
//! Each lives in a pinned slot that is used again for the next one, so that starting a handler
//! allocates nothing once there are enough slots. A waker remembers its slot; one that comes late
//! merely polls whatever is there now, which is harmless.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::shared::ByCall;

/// What the wakers of the slots share with the driver.
struct Ready {
    state: Mutex<ReadyState>,
}

struct ReadyState {
    slots: Vec<usize>,
    driver: Waker,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, ReadyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let mut state = self.ready.lock();
            state.slots.push(self.slot);
            let driver = state.driver.clone();
            drop(state);
            driver.wake();
        }
    }
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    call: u64,
    signal: Arc<SlotWaker>,
    waker: Waker,
}

impl<F: Future> Slot<F> {
    fn poll(&mut self) -> Poll<F::Output> {
        let mut context = Context::from_waker(&self.waker);
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut context),
            None => Poll::Pending,
        }
    }
}

pub(crate) struct Tasks<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    running: ByCall<usize>,
    ready: Arc<Ready>,
    due: Vec<usize>,
}

impl<F: Future> Tasks<F> {
    pub(crate) fn new() -> Self {
        let state = ReadyState { slots: Vec::new(), driver: Waker::noop().clone() };
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            running: ByCall::default(),
            ready: Arc::new(Ready { state: Mutex::new(state) }),
            due: Vec::new(),
        }
    }

    /// Whom to wake when a handler can go on.
    pub(crate) fn set_driver(&mut self, driver: &Waker) {
        self.ready.lock().driver.clone_from(driver);
    }

    /// Polls a handler where it stands; keeps it if it is not ready.
    pub(crate) fn start(&mut self, call: u64, future: F) -> Poll<F::Output> {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let slot = &mut self.slots[index];
        slot.call = call;
        slot.future.as_mut().set(Some(future));
        let polled = slot.poll();
        if polled.is_ready() {
            slot.future.as_mut().set(None);
            self.free.push(index);
        } else {
            self.running.insert(call, index);
        }
        polled
    }

    fn grow(&mut self) -> usize {
        let slot = self.slots.len();
        let ready = Arc::clone(&self.ready);
        let signal = Arc::new(SlotWaker { slot, queued: AtomicBool::new(false), ready });
        let waker = Waker::from(Arc::clone(&signal));
        self.slots.push(Slot { future: Box::pin(None), call: 0, signal, waker });
        slot
    }

    /// Drops the handler of a call, if it still runs.
    pub(crate) fn stop(&mut self, call: u64) {
        if let Some(index) = self.running.remove(&call) {
            self.slots[index].future.as_mut().set(None);
            self.free.push(index);
        }
    }

    /// Polls those that were woken, and gives each that is done to `done`.
    pub(crate) fn poll_woken(&mut self, mut done: impl FnMut(u64, F::Output)) {
        if self.running.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        std::mem::swap(&mut due, &mut self.ready.lock().slots);
        for index in due.drain(..) {
            let slot = &mut self.slots[index];
            slot.signal.queued.store(false, Ordering::Release);
            if let Poll::Ready(output) = slot.poll() {
                let call = slot.call;
                slot.future.as_mut().set(None);
                self.running.remove(&call);
                self.free.push(index);
                done(call, output);
            }
        }
        self.due = due;
    }

    /// Whether one was woken meanwhile.
    pub(crate) fn is_woken(&self) -> bool {
        !self.running.is_empty() && !self.ready.lock().slots.is_empty()
    }
}
