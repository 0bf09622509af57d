//! One attack, made outside and inside.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use super::{ARGUMENT, Attack, NAME, Outcome};
use crate::cgroup::Tree;
use crate::{
    Child, Identity, Launch, Policy, Program, ProgramFile, SpawnError, Status, Stdio, spawn,
};

/// Far more than any attack takes; one that hangs is no success.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the two attempts together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeds outside, and not inside.
    Stopped,
    /// It succeeds inside.
    Through,
    /// It succeeds nowhere on this machine, so it proves nothing.
    NoControl,
}

/// Compares the two attempts.
#[must_use]
pub fn judge(attack: &Attack, outside: Outcome, inside: Outcome) -> Verdict {
    match (attack.succeeds(outside), attack.succeeds(inside)) {
        (_, true) => Verdict::Through,
        (true, false) => Verdict::Stopped,
        (false, false) => Verdict::NoControl,
    }
}

/// How the attacks are made inside: by this very program with these arguments, which must come to
/// [`super::main`].
#[derive(Debug)]
pub struct Inside<'a> {
    /// The policy of the compartment.
    pub policy: &'a Policy,
    /// As whom.
    pub identity: Identity,
    /// Where its cgroup is made.
    pub tree: Option<&'a Tree>,
    /// The arguments after the program's name.
    pub arguments: &'a [&'a str],
}

/// Makes an attack as the process that asks.
///
/// # Errors
/// The program cannot be started, or does not know the attack.
pub fn outside(attack: &Attack, argument: &str, arguments: &[&str]) -> io::Result<Outcome> {
    let status = Command::new("/proc/self/exe")
        .args(arguments)
        .env(NAME, attack.name)
        .env(ARGUMENT, argument)
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null())
        .status()?;
    told(match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, Some(signal)) => Status::Signaled { signal, core: status.core_dumped() },
        (None, None) => Status::Unknown,
    })
}

/// Makes an attack in a compartment of its own.
///
/// # Errors
/// The compartment cannot be made, or the attempt does not end.
pub fn inside(attack: &Attack, argument: &str, how: &Inside<'_>) -> Result<Outcome, SpawnError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |source: io::Error| SpawnError::Parent { action, source }
    };
    let null = || File::options().read(true).write(true).open("/dev/null");
    let open = || Ok(null()?.into());
    let own = File::open("/proc/self/exe").map_err(failed("opening this program"))?;
    let (stdin, stdout, stderr) = open()
        .and_then(|stdin| Ok((stdin, open()?, open()?)))
        .map_err(failed("opening /dev/null"))?;
    let args = std::iter::once("bulkhead").chain(how.arguments.iter().copied());
    let launch = Launch {
        name: &format!("attack-{}", std::process::id()),
        policy: how.policy,
        identity: how.identity,
        program: Program {
            file: ProgramFile::Descriptor(own.into()),
            args: args.map(OsString::from).collect(),
            env: vec![(NAME.into(), attack.name.into()), (ARGUMENT.into(), argument.into())],
            cwd: "/".into(),
        },
        stdio: Stdio { stdin, stdout, stderr },
        bootstrap: None,
        learner: None,
    };
    let child = spawn(how.tree, launch)?;
    end(child).map_err(failed("waiting for the attack"))
}

fn end(mut child: Child) -> io::Result<Outcome> {
    let deadline = Instant::now() + PATIENCE;
    let in_time = child.wait_exited(Some(deadline));
    // What is left of it is killed when the child is dropped.
    if !in_time {
        return Err(io::ErrorKind::TimedOut.into());
    }
    child.try_reap().map_err(io::Error::other)?;
    child.kill().map_err(io::Error::other)?;
    child.wait_empty(deadline).map_err(io::Error::other)?;
    told(child.remove().map_err(io::Error::other)?.status)
}

fn told(status: Status) -> io::Result<Outcome> {
    let unsaid = "this program knows no such attack, or how it ended is not known";
    Outcome::of(status).ok_or_else(|| io::Error::other(unsaid))
}
