//! The future that owns the stream.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bulkhead_ipc_protocol::message::Direction;
use bulkhead_ipc_protocol::session::{CallReceived, Event, MAX_SLICES, Session, StreamId};
use bulkhead_ipc_protocol::{
    CallError, Drain, EndReason, Hello, HelloError, Limits, Payload, TraceContext,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::pace::Paced;
use crate::shared::{Shared, State};
use crate::stream::{StreamReader, StreamWriter};
use crate::tasks::Tasks;
use crate::{Handler, IncomingCall, Peer};

/// How many times a driver goes round before it lets others run.
const ROUNDS: usize = 64;

/// How many calls and events of the peer's it hands over before it lets others run: whoever floods one
/// session is not to hold up the others of the same thread.
const HANDED: usize = 64;

/// Starts a session on `stream`. Nothing happens until the driver is polled.
///
/// # Panics
/// If `hello` was not made by [`Hello::new`] and cannot be put on the wire; see [`try_connect`].
pub fn connect<S, H>(stream: S, hello: Hello, limits: Limits, handler: H) -> (Peer, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    try_connect(stream, hello, limits, handler)
        .expect("Hello::new has checked that the hello can be put on the wire")
}

/// As [`connect`], for a `hello` that was put together by hand.
pub fn try_connect<S, H>(
    stream: S,
    hello: Hello,
    limits: Limits,
    handler: H,
) -> Result<(Peer, Driver), HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let now = Instant::now().into_std();
    let shared = Shared::new(Session::new(hello, limits, now)?, now);
    let guard = Guard { shared: Arc::clone(&shared) };
    let driver = Driver { run: Box::pin(run(stream, guard, handler)) };
    Ok((Peer::new(shared), driver))
}

/// Runs the session to its end. Must be polled for anything to happen: `spawn_local` it. Dropping
/// it ends the session at once.
#[must_use = "nothing happens unless it is polled"]
pub struct Driver {
    run: Pin<Box<dyn Future<Output = EndReason>>>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Driver")
    }
}

impl Future for Driver {
    type Output = EndReason;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<EndReason> {
        self.run.as_mut().poll(context)
    }
}

/// Releases everybody who waits, however the driver ends: it may be dropped, or unwind.
struct Guard {
    shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut wake = Vec::new();
        let mut state = self.shared.lock();
        state.session.fail(EndReason::Dropped);
        let reason = state.session.ended().cloned().unwrap_or(EndReason::Dropped);
        state.release_all(&reason, &mut wake);
        drop(state);
        self.shared.changed.notify_waiters();
        wake.into_iter().for_each(Waker::wake);
    }
}

async fn run<S, H>(stream: S, guard: Guard, handler: H) -> EndReason
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let shared = &guard.shared;
    let mut tasks = Tasks::new();
    let mut turn = Turn::new(stream);
    let mut timer = Timer::default();
    let mut paced = Paced::new(handler.pace());
    poll_fn(|context| {
        turn.begin(context, shared);
        tasks.set_driver(context.waker());
        let mut handed = 0;
        for _ in 0..ROUNDS {
            tasks.poll_woken(|call, result| turn.replies.push((call, result)));
            let rests = paced.rests(context);
            if !rests {
                turn.read(context, shared);
            }
            timer.handle(turn.now, shared);
            if !rests {
                turn.take_events(shared);
            }
            handed += turn.happened.len();
            paced.handed(turn.happened.len(), turn.now);
            for happened in turn.happened.drain(..) {
                match happened {
                    Happened::Call(id, call) => {
                        if let Poll::Ready(result) = tasks.start(id, handler.call(call)) {
                            turn.replies.push((id, result));
                        }
                    }
                    Happened::Withdrawn(id) => tasks.stop(id),
                    Happened::Event { topic, payload, trace } => {
                        handler.traced_event(topic, payload, trace);
                    }
                    Happened::Drain(drain) => handler.drain(drain),
                }
            }
            turn.wake.drain(..).for_each(Waker::wake);
            turn.write(context, shared);
            if let Some(reason) = turn.ended.take() {
                return Poll::Ready(reason);
            }
            if !tasks.is_woken() && turn.rest(shared, rests) {
                if timer.arm(context, shared) {
                    break;
                }
                return Poll::Pending;
            }
            if handed >= HANDED {
                break;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// What the handler is to be told, in order.
enum Happened {
    Call(u64, IncomingCall),
    Withdrawn(u64),
    Event { topic: String, payload: Payload, trace: Option<TraceContext> },
    Drain(Drain),
}

/// One poll of the driver: what it has seen of the stream, and what it has yet to do. The lists
/// are kept from turn to turn for their memory.
struct Turn<S> {
    stream: S,
    now: std::time::Instant,
    /// The stream has nothing to read at the moment, and will wake us.
    read_waits: bool,
    /// The stream takes nothing at the moment, and will wake us.
    write_waits: bool,
    /// Writing failed. The peer may have told us why before it closed, so we read on.
    broken: Option<EndReason>,
    ended: Option<EndReason>,
    happened: Vec<Happened>,
    replies: Vec<(u64, Result<Payload, CallError>)>,
    wake: Vec<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Turn<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            now: Instant::now().into_std(),
            read_waits: false,
            write_waits: false,
            broken: None,
            ended: None,
            happened: Vec::new(),
            replies: Vec::new(),
            wake: Vec::new(),
        }
    }

    fn begin(&mut self, context: &Context<'_>, shared: &Shared) {
        self.now = Instant::now().into_std();
        self.read_waits = false;
        self.write_waits = false;
        let mut state = shared.lock();
        state.driver.clone_from(context.waker());
        state.driver_waits = false;
    }

    fn read(&mut self, context: &mut Context<'_>, shared: &Shared) {
        if self.read_waits {
            return;
        }
        let mut state = shared.lock();
        // First what is there already, or a flood of small messages would pile up here.
        if state.session.has_events() {
            return;
        }
        let mut target = ReadBuf::new(state.session.read_target());
        let read = Pin::new(&mut self.stream).poll_read(context, &mut target);
        let count = target.filled().len();
        match read {
            Poll::Pending => {
                self.read_waits = true;
                if let Some(reason) = self.broken.take() {
                    state.session.fail(reason);
                }
            }
            Poll::Ready(Ok(())) if count == 0 => {
                self.read_waits = true;
                state.session.input_closed();
            }
            Poll::Ready(Ok(())) => state.session.received(count, self.now),
            Poll::Ready(Err(error)) => {
                self.read_waits = true;
                state.session.fail(end_reason(&error));
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>, shared: &Shared) {
        let mut state = shared.lock();
        for (call, result) in self.replies.drain(..) {
            state.session.reply(call, result);
            state.close_incoming(call, &mut self.wake);
        }
        while !self.write_waits && self.broken.is_none() && state.session.has_output() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = state.session.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            match stream.poll_write_vectored(context, &slices[..used]) {
                Poll::Pending => {
                    self.write_waits = true;
                    state.session.write_blocked(self.now);
                }
                Poll::Ready(Ok(0)) => self.broken = Some(EndReason::Closed),
                Poll::Ready(Ok(count)) => state.session.written(count, self.now),
                Poll::Ready(Err(error)) => self.broken = Some(end_reason(&error)),
            }
        }
        if self.broken.is_some() {
            self.read_waits = false;
        }
    }

    /// Whether there is nothing to do until somebody wakes us; what the peer sent can wait if it is
    /// over its pace.
    fn rest(&mut self, shared: &Shared, paced: bool) -> bool {
        let mut state = shared.lock();
        let output = state.session.has_output() && !self.write_waits && self.broken.is_none();
        let input = !self.read_waits || state.session.has_events();
        let rest = !output && (paced || !input);
        state.driver_waits = rest;
        rest
    }

    /// Delivers what happened: to those who wait at once, to the handler by the list.
    fn take_events(&mut self, shared: &Arc<Shared>) {
        let mut changed = false;
        let mut guard = shared.lock();
        let state = &mut *guard;
        while self.happened.len() < HANDED
            && let Some(event) = state.session.poll_event()
        {
            match event {
                Event::Ready(_) => changed = true,
                Event::Call(call) => {
                    let id = call.id;
                    self.happened.push(Happened::Call(id, incoming(call, state, shared)));
                }
                Event::Withdrawn { id } => {
                    state.close_incoming(id, &mut self.wake);
                    self.happened.push(Happened::Withdrawn(id));
                }
                Event::Reply { id, result } => {
                    state.close_outgoing(id, &mut self.wake);
                    if let Some(slot) = state.replies.get_mut(&id) {
                        slot.result = Some(result);
                        self.wake.extend(slot.waker.take());
                    }
                }
                Event::Event { topic, payload, trace } => {
                    self.happened.push(Happened::Event { topic, payload, trace });
                }
                Event::Drain(drain) => self.happened.push(Happened::Drain(drain)),
                Event::Drained => {
                    state.drained = true;
                    changed = true;
                }
                Event::Pong { token, round_trip } => {
                    for waiter in state.pings.remove(&token).into_iter().flatten() {
                        // It may have stopped waiting.
                        let _ = waiter.send(round_trip);
                    }
                }
                Event::Chunk { stream, data } => {
                    if let Some(slot) = state.readers.get_mut(&stream) {
                        slot.chunks.push_back(data);
                        self.wake.extend(slot.waker.take());
                    }
                }
                Event::StreamOver { stream, complete } => {
                    if let Some(slot) = state.readers.get_mut(&stream) {
                        slot.over = Some(complete);
                        self.wake.extend(slot.waker.take());
                    }
                }
                Event::StreamChanged { stream } => state.wake_writer(stream, &mut self.wake),
                Event::Writable => state.wake_writers(&mut self.wake),
                Event::Ended(reason) => self.ended = Some(reason),
            }
        }
        drop(guard);
        if changed {
            shared.changed.notify_waiters();
        }
    }
}

/// A call as the handler sees it, its streams registered.
fn incoming(call: CallReceived, state: &mut State, shared: &Arc<Shared>) -> IncomingCall {
    let CallReceived { id, method, payload, deadline, trace, on_behalf_of, streams } = call;
    let upload = streams.upload.then(|| {
        let stream = StreamId { call: id, direction: Direction::Upload };
        StreamReader::new(stream, state, shared)
    });
    let download = streams.download.then(|| {
        let stream = StreamId { call: id, direction: Direction::Download };
        StreamWriter::new(stream, state, shared)
    });
    let deadline = deadline.map(Instant::from_std);
    IncomingCall { method, payload, deadline, trace, on_behalf_of, upload, download }
}

/// A peer that is gone is an end of its own; anything else is told as the system told it.
fn end_reason(error: &io::Error) -> EndReason {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => EndReason::Closed,
        _ => EndReason::Stream(error.to_string()),
    }
}

/// The one timer of a session. It is only ever moved forward to an earlier moment: most deadlines
/// are met, and asking once in a while in vain is cheaper than moving it with every call.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<std::time::Instant>,
    /// Whom the timer wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Lets deadlines pass that have come.
    fn handle(&mut self, now: std::time::Instant, shared: &Shared) {
        if self.armed.is_some_and(|at| at <= now) {
            self.armed = None;
            shared.lock().session.handle_timeout(now);
        }
    }

    /// Makes sure that we are woken for the next deadline. True if that has come already.
    fn arm(&mut self, context: &mut Context<'_>, shared: &Shared) -> bool {
        let next = shared.lock().session.next_timeout();
        let earlier = match (next, self.armed) {
            (Some(next), Some(armed)) => next < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(at) = next
            && earlier
        {
            self.armed = next;
            self.waker = None;
            let at = Instant::from_std(at);
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(at),
                None => self.sleep = Some(Box::pin(sleep_until(at))),
            }
        }
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if self.armed.is_none() || known {
            return false;
        }
        self.waker = Some(context.waker().clone());
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready())
    }
}
