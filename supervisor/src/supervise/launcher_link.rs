//! The supervisor's end of the link to the launcher.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_sandbox::descriptors::{self, ReceiveError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::failure::{Code, Failure};
use crate::link::{
    self, LinkError, MAX_DESCRIPTORS, MAX_PACKET, Message, Numbered, Received, Reply, Request,
    RequestNumber,
};

/// How many starts the launcher is asked for at a time. It refuses what is more than it takes, and who is
/// refused when the service starts stays down.
const STARTS_AT_ONCE: usize = 16;
const _: () = assert!(STARTS_AT_ONCE * 2 <= link::MAX_JOBS);

/// What the launcher answered, with the descriptors that came along.
type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// Where the answer to a request comes, once it is written.
type Written = Result<oneshot::Receiver<Answer>, Failure>;

/// A handle for asking the launcher; cheap to clone.
#[derive(Clone)]
pub(crate) struct Launcher {
    shared: Arc<Shared>,
}

struct Shared {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<HashMap<RequestNumber, oneshot::Sender<Answer>>>,
    /// Places for starts.
    starts: Semaphore,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<RequestNumber, oneshot::Sender<Answer>>> {
        // Nothing that holds it can leave the map half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launcher {
    /// Takes the link's socket. Must run inside the runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types that close early: OwnedFd does not"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE)?;
        let shared = Shared {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            starts: Semaphore::new(STARTS_AT_ONCE),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for a place among the starts that the launcher is asked for at a time, which is given back when
    /// what this returns is dropped.
    pub(crate) async fn place_to_start(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.shared.starts.acquire().await.ok()
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&self, request: Request) -> Answer {
        self.ask_with(request, None).await
    }

    /// The same, for a request with which a descriptor goes.
    pub(crate) async fn ask_with(&self, request: Request, descriptor: Option<OwnedFd>) -> Answer {
        answer(self.write(request, descriptor).await).await
    }

    /// Asks for something that is answered with [`Reply::Done`].
    pub(crate) async fn ask_done(&self, request: Request) -> Result<(), Failure> {
        self.write_done(request).await.await
    }

    /// The same, and does not wait for the answer: what is returned once the request is written does.
    pub(crate) async fn write_done(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<(), Failure>> + use<> {
        let written = self.write(request, None).await;
        async move {
            match answer(written).await? {
                (Reply::Done, _) => Ok(()),
                (other, _) => Err(unexpected(&other)),
            }
        }
    }

    async fn write(&self, request: Request, descriptor: Option<OwnedFd>) -> Written {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(number, answer);
        let sent = self.send(&Numbered { number, request }, descriptor).await;
        sent.map(|()| answered).map_err(|error| {
            self.shared.waiting().remove(&number);
            gone(&error)
        })
    }

    /// Says something that is not answered.
    pub(crate) async fn tell(&self, request: Request) -> Result<(), LinkError> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.send(&Numbered { number, request }, None).await
    }

    async fn send(&self, packet: &Numbered, descriptor: Option<OwnedFd>) -> Result<(), LinkError> {
        let bytes = link::encode(packet)?;
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        self.shared
            .socket
            .async_io(Interest::WRITABLE, |socket| {
                descriptors::send_with_fds(socket.as_fd(), &bytes, &descriptors)
            })
            .await?;
        Ok(())
    }

    /// The next thing that the launcher says by itself; replies go to those who asked.
    pub(crate) async fn next(&self) -> Result<Received<Message>, LinkError> {
        loop {
            let received = self.receive().await?;
            let Message::Reply { number, result } = received.value else { return Ok(received) };
            // Who asked may have given up; the descriptors are then closed here.
            if let Some(answer) = self.shared.waiting().remove(&number) {
                let _ = answer.send(match *result {
                    Ok(reply) => Ok((reply, received.descriptors)),
                    Err(failure) => Err(failure.0),
                });
            }
        }
    }

    async fn receive(&self) -> Result<Received<Message>, LinkError> {
        let packet = self
            .shared
            .socket
            .async_io(Interest::READABLE, |socket| {
                match descriptors::recv_with_fds(socket.as_fd(), MAX_PACKET, MAX_DESCRIPTORS) {
                    Ok(packet) => Ok(Ok(packet)),
                    Err(ReceiveError::Io(error)) => Err(error),
                    Err(other) => Ok(Err(other)),
                }
            })
            .await?
            .map_err(|error| match error {
                ReceiveError::Closed => LinkError::Closed,
                other => LinkError::Io(io::Error::other(other)),
            })?;
        Ok(Received { value: link::decode(&packet.data)?, descriptors: packet.descriptors })
    }
}

async fn answer(written: Written) -> Answer {
    written?.await.unwrap_or_else(|_| Err(gone(&LinkError::Closed)))
}

fn gone(error: &LinkError) -> Failure {
    Failure::new(
        Code::Internal,
        format!("the launcher cannot be asked: {error}; the service is about to end"),
    )
}

/// The launcher answered with the wrong kind of reply.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure::internal(format!("the launcher answered {reply:?}, which was not asked for"))
}
