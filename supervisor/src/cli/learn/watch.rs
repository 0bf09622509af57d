//! Who is asked about the plugin's calls: a thread of this process, for as long as the run lasts.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use bulkhead_sandbox::Policy;
use bulkhead_sandbox::descriptors::stream_pair;
use bulkhead_sandbox::learning::Listener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::observed::{Observed, Profiles};
use super::places::Ground;
use crate::cli::problem::Problem;
use crate::failure::Code;

pub(super) struct Watch {
    /// Closed to end the thread.
    stop: OwnedFd,
    thread: JoinHandle<io::Result<Observed>>,
}

impl Watch {
    /// Listens at `socket` for starts of a plugin with this policy, one after the other.
    pub(super) fn at(socket: &Path, policy: Policy, ground: Ground) -> Result<Self, Problem> {
        let listener = UnixListener::bind(socket).map_err(|error| cannot(&error))?;
        let (stop, stopped) = stream_pair().map_err(|error| cannot(&error))?;
        let work = move || watch(&listener, &policy, &ground, &stopped);
        let thread = std::thread::Builder::new().name("learn".to_owned()).spawn(work);
        Ok(Self { stop, thread: thread.map_err(|error| cannot(&error))? })
    }

    /// What was seen until now. Nobody is asked any more.
    pub(super) fn end(self) -> Result<Observed, Problem> {
        drop(self.stop);
        match self.thread.join() {
            Ok(observed) => observed.map_err(|error| cannot(&error)),
            Err(_) => Err(Problem::new(Code::Internal, "what watches the plugin has panicked")),
        }
    }
}

fn watch(
    listener: &UnixListener,
    policy: &Policy,
    ground: &Ground,
    stop: &OwnedFd,
) -> io::Result<Observed> {
    let mut observed = Observed::default();
    loop {
        let mut polled = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        if polled[1].revents().is_some_and(|events| !events.is_empty()) {
            return Ok(observed);
        }
        let (stream, _) = listener.accept()?;
        // One that failed before its program was executed: its start says why.
        let Ok(asked) = Listener::receive(stream.as_fd(), policy) else { continue };
        let profiles = Profiles::of(asked.facts()).map_err(io::Error::other)?;
        while let Some(seen) =
            asked.next(stop.as_fd(), &mut |subject| observed.look(subject, ground))?
        {
            observed.add(&seen, &profiles);
        }
    }
}

fn cannot(error: &io::Error) -> Problem {
    Problem::new(Code::SandboxFailed, format!("cannot watch what the plugin calls: {error}"))
}
