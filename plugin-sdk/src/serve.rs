//! The life of a plugin's process, from the first session to the last goodbye.
//!
//! ```text
//!   sessions ──▶ attach ──▶ driver of the session ──▶ init, health, calls, events
//!     (a new one replaces the old)     │
//!                                      ├─ drain ───────────┐
//!   SIGTERM ───────────────────────────┼───────────────────┼──▶ stop: calls in flight → save → shutdown → goodbye
//!   no session for the resume time ────┴─ launcher gone ───┘
//! ```
//!
//! One task takes in sessions and goes on doing so while the plugin stops, so that a supervisor which restarts at
//! that moment still receives the saved state. The first cause to stop counts; later ones change nothing.

mod listening;
mod session;
mod stop;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bulkhead_ipc_protocol::{EndReason, Hello, Limits};
use semver::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::deadline::Deadline;
use crate::host::{Arrivals, Host, Link, LogSink, Registry, push};
use crate::pending::Pending;
use crate::plugin::Plugin;
use crate::reason::Reason;
use crate::router::Router;
use listening::Listening;
use session::Session;
pub(crate) use stop::Ending;

/// The environment variable with the id under which the plugin is installed.
const PLUGIN_ID: &str = "BULKHEAD_PLUGIN_ID";

/// Where sessions come from: the bootstrap socket, or a test.
pub(crate) trait Sessions: 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The next session; `None` when none will come any more.
    async fn next(&mut self) -> Option<Self::Stream>;
}

/// The times that a process keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long it waits for a session before it stops itself.
    pub(crate) resume: Duration,
    /// The budget of a stop that comes without one: by SIGTERM, or for want of a session.
    pub(crate) stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { resume: Duration::from_secs(30), stop: Duration::from_secs(5) }
    }
}

/// What a process has besides its sessions.
pub(crate) struct Given {
    /// Connections that were made for it, as they arrive.
    pub(crate) connections: Arrivals,
    pub(crate) log_sink: LogSink,
    pub(crate) metrics: Registry,
    /// What the manifest subscribes to, if that is known.
    pub(crate) subscribed: Option<Vec<String>>,
    pub(crate) patience: Patience,
}

/// A cause to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    pub(crate) by: Deadline,
    pub(crate) save_state: bool,
}

/// What all sessions of the process share.
pub(crate) struct Shared<P> {
    pub(crate) router: Router<P>,
    pub(crate) host: Host,
    /// Made by the first `init` that succeeds.
    pub(crate) plugin: OnceCell<Rc<P>>,
    pub(crate) initializing: tokio::sync::Mutex<()>,
    pub(crate) stopping: Cell<bool>,
    pub(crate) pending: Pending,
    /// What the manifest subscribes to, where that is known.
    subscribed: Option<Vec<String>>,
    listening: RefCell<Listening>,
    hello: Hello,
    stops: mpsc::UnboundedSender<Stop>,
}

impl<P> Shared<P> {
    pub(crate) fn stop(&self, stop: Stop) {
        // The receiver is gone only when the process ends anyway.
        let _ = self.stops.send(stop);
    }
}

/// Runs the plugin until it is asked to stop. Must be polled inside a `LocalSet`.
pub(crate) async fn serve<P: Plugin, S: Sessions>(
    sessions: S,
    terminated: impl Future<Output = ()>,
    given: Given,
) -> Ending {
    let Given { connections, log_sink, metrics, subscribed, patience } = given;
    let (stops, mut stopped) = mpsc::unbounded_channel();
    let link = Link::new();
    let pending = Pending::new();
    let router = P::routes();
    let host = Host::new(link.clone(), log_sink, connections, metrics.clone(), pending.clone());
    // Before there is a session: no event is missed.
    let listening = RefCell::new(Listening::new(&router, &host));
    let shared = Rc::new(Shared {
        router,
        host,
        plugin: OnceCell::new(),
        initializing: tokio::sync::Mutex::new(()),
        stopping: Cell::new(false),
        pending,
        subscribed,
        listening,
        hello: hello::<P>(),
        stops,
    });
    let pushing = tokio::task::spawn_local(push(metrics, link.clone()));
    let intake = tokio::task::spawn_local(take_in(sessions, shared.clone(), patience));

    let unannounced =
        |reason| Stop { reason, by: Deadline::after(patience.stop), save_state: true };
    let stop = tokio::select! {
        stop = stopped.recv() => stop.expect("`shared` keeps a sender"),
        () = terminated => unannounced(Reason::Terminated),
    };
    let ending = stop::run(&shared, &stop).await;
    intake.abort();
    pushing.abort();
    ending
}

/// Attaches each session that comes; asks to stop when none comes for too long, or none can come any more.
async fn take_in<P: Plugin, S: Sessions>(
    mut sessions: S,
    shared: Rc<Shared<P>>,
    patience: Patience,
) {
    let link = shared.host.link().clone();
    let orphaned =
        || Stop { reason: Reason::Orphaned, by: Deadline::after(patience.stop), save_state: true };
    let mut driver: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let alone = async {
            link.changed_to(false).await;
            tokio::time::sleep(patience.resume).await;
        };
        let stream = tokio::select! {
            stream = sessions.next() => stream,
            // A session that comes in meanwhile begins this wait anew, as the loop turns.
            () = alone => {
                eprintln!("no session with the supervisor for {} s: stopping", patience.resume.as_secs());
                link.close();
                shared.stop(orphaned());
                return;
            }
        };
        let Some(stream) = stream else {
            // The launcher is gone, and with it everyone who could take what is saved.
            link.close();
            shared.stop(orphaned());
            return;
        };
        if let Some(old) = driver.take() {
            old.abort();
        }
        driver = Some(attach(stream, &shared));
    }
}

fn attach<P: Plugin, T>(stream: T, shared: &Rc<Shared<P>>) -> tokio::task::JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (hello, session) = (shared.hello.clone(), Session::new(shared.clone()));
    let (peer, driver) = bulkhead_ipc_driver::connect(stream, hello, Limits::default(), session);
    let link = shared.host.link().clone();
    let generation = link.attach(peer);
    let metrics = shared.host.metric_registry();
    if !metrics.is_empty() {
        // A supervisor that starts anew knows none of it.
        metrics.change().make();
    }
    tokio::task::spawn_local(async move {
        // Also when this task is aborted, because another session takes over.
        let _detached = Detach { link, generation };
        match driver.await {
            EndReason::Goodbye(_) | EndReason::Finished(_) | EndReason::Closed => {}
            failed => eprintln!("the session with the supervisor failed: {failed}"),
        }
    })
}

/// How the plugin introduces itself: under the id it is installed as, if it is told, else under its crate's name.
fn hello<P: Plugin>() -> Hello {
    let version = || {
        Version::parse(P::ABOUT.version).unwrap_or_else(|_| {
            eprintln!("the plugin's version, \"{}\", is no semantic version", P::ABOUT.version);
            Version::new(0, 0, 0)
        })
    };
    std::env::var(PLUGIN_ID)
        .ok()
        .and_then(|id| Hello::new(id, version()).ok())
        .or_else(|| Hello::new(P::ABOUT.name, version()).ok())
        .unwrap_or_else(|| {
            Hello::new("plugin", Version::new(0, 0, 0)).expect("a short name and a short version")
        })
}

struct Detach {
    link: Link,
    generation: u64,
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.link.detach(self.generation);
    }
}
