//! Starts a program in a compartment and waits for its end, as the tests need it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_sandbox::attack;
use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{
    Child, Enforcement, Exit, Identity, Launch, Limits, Policy, Program, ProgramFile, SpawnError,
    Stdio, Strictness, spawn,
};

use crate::lane;

/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A policy under which a shell and its tools run, with whatever this machine has.
pub fn program() -> Policy {
    Policy {
        profile: Profile::Program,
        limits: Limits { memory: None, ..Limits::default() },
        strictness: Strictness::BestEffort,
        ..Policy::default()
    }
}

/// Has this test binary run the test in which an attempt is made.
pub const ATTEMPT_INSIDE: [&str; 4] = ["attempt_inside", "--exact", "--ignored", "--nocapture"];

/// What to start.
pub struct Command<'a> {
    pub tree: Option<&'a Tree>,
    pub policy: Policy,
    pub identity: Identity,
    pub file: ProgramFile,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    pub bootstrap: Option<OwnedFd>,
    pub learner: Option<OwnedFd>,
}

/// A program that has ended.
pub struct Finished {
    pub exit: Exit,
    pub enforcement: Enforcement,
    pub stdout: String,
    pub stderr: String,
}

/// One that runs, and the read ends of its output.
pub struct Running {
    pub child: Child,
    pub stdout: File,
    pub stderr: File,
}

impl<'a> Command<'a> {
    pub fn new(policy: Policy, file: &str, args: &[&str]) -> Command<'a> {
        Command {
            tree: None,
            policy,
            identity: lane::identity(),
            file: ProgramFile::Path(file.into()),
            args: std::iter::once(&file).chain(args).map(OsString::from).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: "/".into(),
            bootstrap: None,
            learner: None,
        }
    }

    /// This test binary again, in its test `attempt_inside`, which makes that attempt.
    pub fn attempt(policy: Policy, name: &str, argument: &str) -> Command<'a> {
        let mut command = Command::new(policy, "attempt", &ATTEMPT_INSIDE);
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        command.file = ProgramFile::Descriptor(own.into());
        command.env.push((attack::NAME.into(), name.into()));
        command.env.push((attack::ARGUMENT.into(), argument.into()));
        command
    }

    /// A shell with a script.
    pub fn shell(policy: Policy, script: &str) -> Command<'a> {
        Command::new(policy, "/bin/sh", &["-c", script])
    }

    pub fn tree(mut self, tree: Option<&'a Tree>) -> Self {
        self.tree = tree;
        self
    }

    pub fn start(self) -> Result<Running, SpawnError> {
        let (stdout, stdout_theirs) = pipe();
        let (stderr, stderr_theirs) = pipe();
        let null = File::open("/dev/null").unwrap();
        let name =
            format!("test-{}", std::thread::current().name().unwrap_or("main").replace("::", "-"));
        let launch = Launch {
            name: &name[..name.len().min(64)],
            policy: &self.policy,
            identity: self.identity,
            program: Program { file: self.file, args: self.args, env: self.env, cwd: self.cwd },
            stdio: Stdio { stdin: null.into(), stdout: stdout_theirs, stderr: stderr_theirs },
            bootstrap: self.bootstrap,
            learner: self.learner,
        };
        let child = spawn(self.tree, launch)?;
        Ok(Running { child, stdout, stderr })
    }

    pub fn run(self) -> Finished {
        self.start().unwrap_or_else(|error| panic!("not started: {error}")).finish()
    }
}

impl Running {
    /// Waits for the end; the output is read then, so it must fit a pipe.
    pub fn finish(self) -> Finished {
        let Running { mut child, mut stdout, mut stderr } = self;
        let deadline = Instant::now() + DEADLINE;
        assert!(child.wait_exited(Some(deadline)), "still running after {DEADLINE:?}");
        child.try_reap().unwrap().unwrap();
        child.kill().unwrap();
        assert!(child.wait_empty(deadline).unwrap(), "processes are left");
        let enforcement = child.enforcement().clone();
        let exit = child.remove().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).unwrap();
        stderr.read_to_string(&mut err).unwrap();
        Finished { exit, enforcement, stdout: out, stderr: err }
    }
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (read.into(), write)
}

/// A directory that the compartment's uid owns.
pub fn data(identity: Identity) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    if let Identity::Leased { uid, gid } = identity {
        std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
    }
    directory
}
