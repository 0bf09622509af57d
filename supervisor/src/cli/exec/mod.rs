//! `bulkhead exec`: any command in a compartment.
//!
//! Theory of operation. Flags and policy file become a policy; the command is found as a shell
//! would find it, and where it lies outside the system directories its own file is made visible,
//! read-only; a cgroup is found, if need be by running again inside a systemd scope that is
//! delegated to us. Then the sandbox starts it on our own standard streams, and a loop over a
//! signalfd and the pidfd passes signals on until it has ended or its time is over. Everything is
//! synchronous and single-threaded: the compartment dies with this thread.

pub(super) mod delegation;
mod environment;
mod policy;
mod program;
mod report;
mod watch;

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bulkhead_sandbox::cgroup::{CgroupError, Tree};
use bulkhead_sandbox::kernel_audit::{self, Awaited, Gathered};
use bulkhead_sandbox::{
    Access, Cause, Child, Exit, Identity, Launch, Policy, Program, ProgramFile, SpawnError, Status,
    Stdio, Strictness, is_system,
};
use nix::errno::Errno;
use nix::unistd::{User, geteuid};

use self::report::Report;
use super::args::{Exec, Global};
use super::problem::{Problem, printable};
use crate::config::EXEC_UIDS;
use crate::failure::{Code, Failure};

/// The compartment could not be made (as env(1), timeout(1) and others have it).
const COULD_NOT_START: u8 = 125;
/// The command is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Different denials in a report.
const MOST_DENIALS: usize = 32;
/// There is no such command.
const NOT_FOUND: u8 = 127;

pub(super) fn run(arguments: &Exec, global: &Global) -> ExitCode {
    let mut target = match report::Target::open(arguments.report.as_deref()) {
        Ok(target) => target,
        Err(problem) => return problem.exiting(COULD_NOT_START).report(global.json),
    };
    match start_and_watch(arguments) {
        Ok(report) => {
            tell_a_person(&report);
            target.write(&report);
            ExitCode::from(report.exit_code)
        }
        Err(problem) => {
            target.write_problem(&problem);
            problem.report(global.json)
        }
    }
}

fn start_and_watch(arguments: &Exec) -> Result<Report, Problem> {
    let command = &arguments.command;
    let not_yet = |problem: Problem| problem.exiting(COULD_NOT_START);
    let mut policy = policy::of(arguments).map_err(not_yet)?;
    let working_directory = std::env::current_dir().map_err(|error| {
        could_not(format!("the working directory cannot be read: {error}; change to another"))
    })?;
    let search = std::env::var_os("PATH");
    let found =
        program::find(&command[0], search.as_deref(), &working_directory, &policy.filesystem)?;
    policy.filesystem.mounts.extend(found.mounts);
    let env = environment::of(&arguments.env).map_err(not_yet)?;
    let identity = identity(arguments.uid).map_err(not_yet)?;
    warn_of_unwritable(&policy, identity);
    let tree = cgroup(policy.strictness)?;
    let cwd = inside(&working_directory, &policy);
    let signals = watch::Signals::block().map_err(could_not)?;

    let audit = kernel_audit::open().ok();
    let started = Instant::now();
    let launch = Launch {
        name: &format!("exec-{}", std::process::id()),
        policy: &policy,
        identity,
        program: Program { file: ProgramFile::Path(found.path), args: command.clone(), env, cwd },
        stdio: our_streams().map_err(could_not)?,
        bootstrap: None,
        learner: None,
    };
    let child = bulkhead_sandbox::spawn(tree.as_ref(), launch)
        .map_err(|error| not_started(error, &command[0].to_string_lossy(), identity))?;
    say_what_is_missing(&child);

    let pid = child.pid();
    let enforcement = child.enforcement().clone();
    let mut ended = watch::until_end(child, &signals, arguments.timeout, arguments.kill_after)?;
    let mut gathered = Gathered::default();
    if let (Some(audit), Identity::Leased { uid, .. }) = (&audit, identity) {
        let awaited = match ended.exit.cause {
            Cause::Code(0) => Awaited::Nothing,
            Cause::Seccomp => Awaited::Call,
            _ => Awaited::Any,
        };
        gathered = kernel_audit::gather(audit.as_fd(), uid, awaited, MOST_DENIALS);
    }
    ended.exit.denied_call = gathered.last_call().map(str::to_owned);
    let denials = report::Denials::of(gathered);
    ended.exit.denied_accesses = denials.accesses();
    Ok(Report {
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        pid,
        identity: report::Identity::of(identity),
        exit_code: exit_code(&ended.exit),
        explanation: ended.exit.explain(),
        wall_ms: started.elapsed().as_millis() as u64,
        timed_out: ended.timed_out,
        exit: ended.exit,
        timeline: ended.timeline,
        complete: enforcement.is_complete(),
        denials,
        enforcement,
        policy,
    })
}

/// A death that the exit code alone does not tell.
fn tell_a_person(report: &Report) {
    let command = printable(&report.command[0]);
    if report.timed_out {
        let stages: Vec<String> = report
            .timeline
            .iter()
            .map(|step| format!("{} {} ms", report::step_name(step.name), step.at_ms))
            .collect();
        say(&format!("{command}: out of time, stopped ({})", stages.join(", ")));
    } else if !matches!(report.exit.cause, Cause::Code(_) | Cause::Signal(_)) {
        say(&format!("{command}: {}", report.explanation));
    }
    let refused = report.exit.usage.pids_refused;
    if refused > 0 {
        say(&format!(
            "{command}: {refused} forks were refused at the limit on processes; raise --pids if it needs more"
        ));
    }
}

/// As the command did: its code, or 128 and its signal; 137 where only the kill is known.
fn exit_code(exit: &Exit) -> u8 {
    match exit.status {
        Status::Exited(code) => code as u8,
        Status::Signaled { signal, .. } => 128u8.saturating_add(signal as u8),
        Status::Unknown => 137,
    }
}

pub(super) fn say(message: &str) {
    // In one piece, as the command writes there too. Nobody is left to be told of a failure.
    let _ = io::stderr().lock().write_all(format!("bulkhead: {message}\n").as_bytes());
}

fn could_not(message: impl std::fmt::Display) -> Problem {
    Problem::new(Code::SandboxFailed, message.to_string()).exiting(COULD_NOT_START)
}

fn not_started(error: SpawnError, command: &str, identity: Identity) -> Problem {
    let errno = match &error {
        SpawnError::Stage { source, .. } => source.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    let failure = Failure::from(error);
    let exit_code = match (failure.code, errno) {
        (Code::EntryInvalid, Some(Errno::ENOENT)) => NOT_FOUND,
        (Code::EntryInvalid, _) => NOT_EXECUTABLE,
        _ => COULD_NOT_START,
    };
    let mut problem = Problem::from(failure).exiting(exit_code);
    if exit_code == NOT_EXECUTABLE {
        problem.message = format!("{}: {}", printable(command), problem.message);
        if let (Identity::Leased { uid, .. }, Some(Errno::EACCES)) = (identity, errno) {
            problem.message += &uid_hint(uid);
        }
    }
    problem
}

fn uid_hint(uid: u32) -> String {
    format!("; the command runs as uid {uid}, which must be able to read and execute it")
}

/// The cgroup to work in. Without one a best-effort start goes on, and the sandbox names every
/// missing controller; strict does not start.
fn cgroup(strictness: Strictness) -> Result<Option<Tree>, Problem> {
    let error = match Tree::discover() {
        Ok(tree) => return Ok(Some(tree)),
        Err(error) => error,
    };
    if !matches!(error, CgroupError::NotMounted) {
        // Comes back only where that is no way out.
        delegation::run_again_in_a_scope();
    }
    match strictness {
        Strictness::BestEffort => Ok(None),
        Strictness::Strict => Err(Problem::from(Failure::from(error)).exiting(COULD_NOT_START)),
    }
}

/// As root every command gets a uid of its own; the process id makes it one that no other `exec` on
/// this machine has at the same time.
pub(super) fn identity(asked: Option<u32>) -> Result<Identity, Problem> {
    if !geteuid().is_root() {
        return match asked {
            Some(uid) if uid != geteuid().as_raw() => Err(Problem::new(
                Code::PermissionDenied,
                format!("--uid {uid}: only root can run a command as another user; leave it out"),
            )),
            _ => Ok(Identity::Invoker),
        };
    }
    let uid = asked.unwrap_or(EXEC_UIDS.start + std::process::id());
    let user = User::from_uid(uid.into()).ok().flatten();
    let gid = user.map(|user| user.gid.as_raw()).filter(|gid| *gid != 0).unwrap_or(uid);
    Ok(Identity::Leased { uid, gid })
}

/// A writable mount does not make files writable that belong to somebody else, which is a surprise
/// to root.
fn warn_of_unwritable(policy: &Policy, identity: Identity) {
    let Identity::Leased { uid, gid } = identity else { return };
    let writable = policy.filesystem.mounts.iter().filter(|it| it.access == Access::ReadWrite);
    for mount in writable {
        let Ok(found) = mount.source.metadata() else { continue };
        let allowed = found.mode() & 0o002 != 0
            || found.uid() == uid && found.mode() & 0o200 != 0
            || found.gid() == gid && found.mode() & 0o020 != 0;
        if !allowed {
            say(&format!(
                "warning: {} belongs to uid {} and the command runs as uid {uid}, so it cannot write there: name a user who can with --uid, or change the owner",
                mount.source.display(),
                found.uid()
            ));
        }
    }
}

fn say_what_is_missing(child: &Child) {
    let names: Vec<&str> =
        child.enforcement().missing().map(|missing| missing.layer.name()).collect();
    if !names.is_empty() {
        say(&format!("not in force here: {}; `bulkhead doctor` says what to do", names.join(", ")));
    }
}

/// Our working directory where the compartment shows it, else where the command can write.
fn inside(directory: &Path, policy: &Policy) -> PathBuf {
    let shown = policy.filesystem.mounts.iter().any(|mount| directory.starts_with(&mount.target));
    let system = policy.filesystem.system && is_system(directory);
    if shown || system {
        directory.to_owned()
    } else if policy.filesystem.tmp_bytes > 0 {
        PathBuf::from("/tmp")
    } else {
        PathBuf::from("/")
    }
}

fn our_streams() -> io::Result<Stdio> {
    // A stream that we were started without is the null device: any other file in its place would
    // be written to by mistake.
    let or_null = |descriptor: io::Result<OwnedFd>| match descriptor {
        Ok(descriptor) => Ok(descriptor),
        Err(_) => File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from),
    };
    Ok(Stdio {
        stdin: or_null(io::stdin().as_fd().try_clone_to_owned())?,
        stdout: or_null(io::stdout().as_fd().try_clone_to_owned())?,
        stderr: or_null(io::stderr().as_fd().try_clone_to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::{Stage, Usage};

    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        let code = |status| {
            exit_code(&Exit {
                status,
                usage: Usage::default(),
                cause: Cause::Unknown,
                denied_call: None,
                denied_accesses: vec![],
            })
        };
        assert_eq!(code(Status::Exited(7)), 7);
        assert_eq!(code(Status::Exited(255)), 255);
        assert_eq!(code(Status::Signaled { signal: 15, core: false }), 143);
        assert_eq!(code(Status::Unknown), 137);
    }

    #[test]
    fn a_failed_start_has_the_code_of_its_reason() {
        let at = |stage, errno: Errno| {
            let error =
                SpawnError::Stage { stage, subject: None, source: errno.into(), hint: None };
            not_started(error, "x", Identity::Leased { uid: 7, gid: 7 })
        };
        assert_eq!(at(Stage::Exec, Errno::ENOENT).exit_code, 127);
        let denied = at(Stage::Exec, Errno::EACCES);
        assert_eq!(denied.exit_code, 126);
        assert!(denied.message.contains("uid 7"), "{denied:?}");
        assert_eq!(at(Stage::Mount, Errno::ENOENT).exit_code, 125);
    }
}
