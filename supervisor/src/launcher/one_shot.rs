//! A program that runs once, in a compartment of its own, for the launcher.
//!
//! Theory of operation. Some work needs a parser, or a plugin's own uid, and so must not be done by
//! the launcher itself: opening a package, archiving a plugin's data. For that a program is started
//! like a plugin (own uid, own cgroup, no network, no capability) with one file as its standard
//! input, one directory, a deadline, and its answer on standard output: either kept here, bounded, or
//! written to a file that it is given. The loop watches it by its descriptors and never waits. What
//! it did is believed only as far as whoever started it checks it afterwards.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::{
    Child, CpuMax, Exit, Filesystem, Identity, Launch, Limits, Mount, Policy, Program, ProgramFile,
    Stdio, Strictness,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::channels::output;
use super::plugins::no_descriptors;
use crate::clock::Monotonic;
use crate::failure::Failure;

/// The most of its standard output that is kept. What follows is read and forgotten.
const MAX_OUTPUT: usize = 64 << 10;
/// Where it finds the directory that it is given, which is also its working directory.
const WORK: &str = "/data";
/// Memory of the whole compartment.
const MEMORY: u64 = 512 << 20;
const PIDS: u32 = 16;
const OPEN_FILES: u64 = 64;
/// How long to wait for processes that are dying.
const MOMENT: Duration = Duration::from_millis(100);

/// What is to be run.
pub(crate) struct Task {
    /// Of the compartment: no plugin's, so it has a character that no plugin's id can have.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    /// The executable, on the machine.
    pub(crate) program: PathBuf,
    /// With the program's own name first.
    pub(crate) arguments: Vec<String>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: Stdout,
    /// The one directory of the machine that it sees beyond the system's, and whether it may write
    /// there.
    pub(crate) directory: PathBuf,
    pub(crate) writable: bool,
    /// The largest file that it can write, there or to its standard output.
    pub(crate) file_size: u64,
    pub(crate) strictness: Strictness,
    pub(crate) within: Duration,
}

/// Where what it says goes.
pub(crate) enum Stdout {
    /// To whom it concerns, when it has ended: [`Ended::output`].
    Kept,
    File(OwnedFd),
}

/// A program that runs, or that is not all gone yet.
pub(crate) struct OneShot {
    name: String,
    child: Child,
    /// Our end of its standard output, until it ends or everything is gone.
    stdout: Option<File>,
    output: Vec<u8>,
    deadline: Monotonic,
    within: Duration,
    /// It was killed at its deadline.
    late: bool,
    killed: bool,
    exit: Option<Exit>,
}

/// How it ended. Nothing of it is left.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// What it wrote, where that was [`Stdout::Kept`].
    pub(crate) output: Vec<u8>,
    /// The time that it had, where it was killed because it took longer.
    pub(crate) late: Option<Duration>,
}

impl OneShot {
    /// Starts it. An error leaves nothing behind.
    pub(crate) fn start(tree: Option<&Tree>, task: Task) -> Result<Self, Failure> {
        let no_descriptors = |error: std::io::Error| no_descriptors(&error);
        let program = File::open(&task.program).map_err(no_descriptors)?;
        let (stdout, ours) = match task.stdout {
            Stdout::File(file) => (file, None),
            Stdout::Kept => {
                let (theirs, ours) = output().map_err(no_descriptors)?;
                (theirs, Some(File::from(ours)))
            }
        };
        // What it has to say goes to its standard output: nobody would read this one.
        let stderr = File::options().write(true).open("/dev/null").map_err(no_descriptors)?.into();
        let mount = if task.writable {
            Mount::read_write(&task.directory, WORK)
        } else {
            Mount::read_only(&task.directory, WORK)
        };
        let policy = Policy {
            limits: Limits {
                memory: Some(MEMORY),
                pids: Some(PIDS),
                // With the deadline this also bounds the CPU time that it can use.
                cpu: Some(CpuMax::percent(100)),
                nofile: OPEN_FILES,
                file_size: Some(task.file_size),
                ..Limits::default()
            },
            filesystem: Filesystem { mounts: vec![mount], tmp_bytes: 0, ..Filesystem::default() },
            strictness: task.strictness,
            ..Policy::default()
        };
        let launch = Launch {
            name: &task.name,
            policy: &policy,
            identity: task.identity,
            program: Program {
                file: ProgramFile::Descriptor(program.into()),
                args: task.arguments.into_iter().map(Into::into).collect(),
                env: Vec::new(),
                cwd: WORK.into(),
            },
            stdio: Stdio { stdin: task.stdin, stdout, stderr },
            bootstrap: None,
            learner: None,
        };
        let deadline = Monotonic::now().plus(task.within);
        let child = bulkhead_sandbox::spawn(tree, launch)?;
        tracing::debug!(name = task.name, pid = child.pid(), "helper started");
        Ok(Self {
            name: task.name,
            child,
            stdout: ours,
            output: Vec::new(),
            deadline,
            within: task.within,
            late: false,
            killed: false,
            exit: None,
        })
    }

    /// Starts it and waits for its end: for who has nothing else to do meanwhile.
    pub(crate) fn run(tree: Option<&Tree>, task: Task) -> Result<Ended, Failure> {
        let mut one_shot = Self::start(tree, task)?;
        while !one_shot.observe() {
            one_shot.wait();
            one_shot.keep_time(Monotonic::now());
        }
        Ok(one_shot.finish())
    }

    /// Until it says something, or ends, or its time is over; or a moment.
    fn wait(&self) {
        let left = self.deadline().map_or(MOMENT, |at| Monotonic::now().until(at));
        // Rounded up, so that a rest of less than a millisecond does not spin.
        let millis = left.as_micros().div_ceil(1000).min(60_000) as u16;
        let mut polled = Vec::new();
        // Once it has ended this would be readable for ever, and its cgroup tells when it is empty.
        if !self.has_exited() {
            polled.push(PollFd::new(self.child.pidfd(), PollFlags::POLLIN));
        }
        polled.extend(self.child.events_fd().map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        polled.extend(self.stdout().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Interrupted or not, everything is looked at again.
        let _ = poll(&mut polled, PollTimeout::from(millis));
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Readable when it has said something.
    pub(crate) fn stdout(&self) -> Option<BorrowedFd<'_>> {
        self.stdout.as_ref().map(File::as_fd)
    }

    /// When [`OneShot::keep_time`] must be asked next.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        (!self.killed && self.exit.is_none()).then_some(self.deadline)
    }

    /// Kills it if its time is over.
    pub(crate) fn keep_time(&mut self, now: Monotonic) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.late = true;
            self.kill();
        }
    }

    /// Ends it, with all that it has started. [`OneShot::observe`] tells when it is gone.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        if let Err(error) = self.child.kill() {
            tracing::error!(name = self.name, %error, "a helper cannot be killed");
        }
    }

    /// Whether its main process has ended: its pidfd has no more to tell.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Takes what it said, and looks what is left of it. `true` when no process is.
    pub(crate) fn observe(&mut self) -> bool {
        // First: what is in the pipe when it has ended is all that there will be.
        let exit = match self.child.try_reap() {
            Ok(exit) => exit,
            Err(error) => {
                tracing::error!(name = self.name, %error, "a helper cannot be reaped");
                None
            }
        };
        self.listen();
        let Some(exit) = exit else { return false };
        self.exit.get_or_insert(exit);
        match self.child.is_empty() {
            Ok(true) => true,
            Ok(false) => {
                // Nothing outlives it.
                if !self.killed {
                    self.kill();
                }
                false
            }
            Err(error) => {
                tracing::error!(name = self.name, %error, "a helper's cgroup cannot be read");
                false
            }
        }
    }

    /// Reads what is there, up to the most that is kept. Never waits.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(&mut buffer) {
                Ok(count) if count > 0 && self.output.len() + count <= MAX_OUTPUT => {
                    self.output.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It ended, or says more than anybody would read: then it is cut off.
                _ => self.stdout = None,
            }
        }
    }

    /// Removes its cgroup. Only when [`OneShot::observe`] said that no process is left.
    pub(crate) fn finish(self) -> Ended {
        let Self { name, child, output, within, late, exit, .. } = self;
        let mut exit = exit.expect("observe says `true` only after it was reaped");
        match child.remove() {
            Ok(last) => exit.usage = last.usage,
            Err(error) => tracing::warn!(name, %error, "a helper's cgroup stays behind"),
        }
        tracing::debug!(name, cause = ?exit.cause, "helper gone");
        Ended { exit, output, late: late.then_some(within) }
    }
}

#[cfg(test)]
#[path = "one_shot_tests.rs"]
mod tests;
