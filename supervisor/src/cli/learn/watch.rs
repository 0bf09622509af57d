//! Who is asked about the plugin's calls: a thread of this process, for as long as the run lasts.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_sandbox::Policy;
use bulkhead_sandbox::descriptors::stream_pair;
use bulkhead_sandbox::learning::{LearningError, Listener};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::observed::{Observed, Profiles};
use super::places::Ground;
use crate::cli::problem::Problem;
use crate::failure::Code;

/// How long the program of a start may take to come to its filter: more than a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Watch {
    /// Closed to end the thread.
    stop: OwnedFd,
    thread: JoinHandle<Result<Observed, LearningError>>,
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
            Ok(observed) => observed.map_err(|error| unlearned(&error)),
            Err(_) => Err(Problem::new(Code::Internal, "what watches the plugin has panicked")),
        }
    }
}

fn watch(
    listener: &UnixListener,
    policy: &Policy,
    ground: &Ground,
    stop: &OwnedFd,
) -> Result<Observed, LearningError> {
    let mut observed = Observed::default();
    loop {
        match wait(listener.as_fd(), stop, PollTimeout::NONE)? {
            Wait::Ready => {}
            Wait::Late => continue,
            Wait::Stopped => return Ok(observed),
        }
        let (stream, _) = listener.accept()?;
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        match wait(stream.as_fd(), stop, patience)? {
            Wait::Ready => {}
            Wait::Late => continue,
            Wait::Stopped => return Ok(observed),
        }
        // One that failed before its program was executed: its start says why.
        let Ok(asked) = Listener::receive(stream.as_fd(), policy) else { continue };
        let profiles = Profiles::of(asked.facts())?;
        while let Some(seen) =
            asked.next(stop.as_fd(), &mut |subject| observed.look(subject, ground))?
        {
            observed.add(&seen, &profiles);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wait {
    /// It can be read, or was closed.
    Ready,
    Late,
    Stopped,
}

fn wait(from: BorrowedFd<'_>, stop: &OwnedFd, patience: PollTimeout) -> io::Result<Wait> {
    loop {
        let mut polled =
            [PollFd::new(from, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut polled, patience) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        return Ok(if polled[1].any().unwrap_or(true) && ready > 0 {
            Wait::Stopped
        } else if ready > 0 {
            Wait::Ready
        } else {
            Wait::Late
        });
    }
}

fn unlearned(error: &LearningError) -> Problem {
    let why = match error {
        LearningError::Unreadable { .. } => {
            "; what it names would look unused, so nothing is learned. Run `bulkhead learn` as root, or with \
             kernel.yama.ptrace_scope at 0 or 1 and a /proc without hidepid; a plugin that makes itself \
             unreadable (PR_SET_DUMPABLE) is to be learned from as root"
        }
        LearningError::Elsewhere => {
            "; run `bulkhead learn` in the pid namespace in which the service starts its plugins"
        }
        _ => return cannot(&error),
    };
    Problem::new(
        Code::SandboxUnavailable,
        format!("cannot watch what the plugin calls: {error}{why}"),
    )
}

fn cannot(error: &dyn std::error::Error) -> Problem {
    Problem::new(Code::SandboxFailed, format!("cannot watch what the plugin calls: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn watching() -> (tempfile::TempDir, std::path::PathBuf, Watch) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("learn.sock");
        let watch = Watch::at(&socket, Policy::default(), Ground::default()).unwrap();
        (directory, socket, watch)
    }

    #[test]
    fn a_start_of_which_nothing_comes_does_not_keep_it_from_ending() {
        let (_directory, socket, watch) = watching();
        // Two of them, so the first one is waited for when the second has been put in the queue.
        let _starts =
            [UnixStream::connect(&socket).unwrap(), UnixStream::connect(&socket).unwrap()];
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || ended.send(watch.end().map(|seen| seen.subjects.len())));
        assert_eq!(end.recv_timeout(Duration::from_secs(20)).unwrap(), Ok(0));
    }

    #[test]
    fn one_is_waited_for_until_it_comes_or_is_late_or_nobody_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stop, stopped) = stream_pair().unwrap();
        let now = || wait(ours.as_fd(), &stopped, PollTimeout::ZERO).unwrap();
        assert_eq!(now(), Wait::Late);
        drop(theirs);
        assert_eq!(now(), Wait::Ready);
        drop(stop);
        assert_eq!(now(), Wait::Stopped);
    }

    #[test]
    fn what_cannot_be_read_is_no_run_and_says_what_to_do() {
        let source = Errno::EACCES.into();
        let path = "/proc/7/mem".into();
        let problem = unlearned(&LearningError::Unreadable { path, source });
        assert_eq!(problem.code, "SANDBOX_UNAVAILABLE");
        for word in ["/proc/7/mem", "ermission denied", "ptrace_scope", "hidepid"] {
            assert!(problem.message.contains(word), "{}", problem.message);
        }
        let problem = unlearned(&io::Error::other("x").into());
        assert_eq!(problem.code, "SANDBOX_FAILED");
    }
}
