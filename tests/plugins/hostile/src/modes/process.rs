//! Signals, children, and calls that the compartment forbids. Children need the seccomp profile `program`.

use std::fs::File;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use bulkhead_ipc_protocol::message::{GoodbyeCause, Header};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal, raise};

use super::{Act, DONE, Mode, Moment, Next, at, exit, hang, mode};

pub(super) static MODES: &[Mode] = &[
    mode(
        "ignore-sigterm",
        "ignores SIGTERM and Drain",
        0,
        Act::At(|_, moment| match moment {
            Moment::Hello => {
                ignore(Signal::SIGTERM)?;
                Ok(Next::Well)
            }
            Moment::Drain => Ok(Next::Instead),
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "ignore-drain",
        "ignores Drain; SIGTERM ends it",
        0,
        at!(Moment::Drain => |_| Ok(Next::Instead)),
    ),
    mode(
        "goodbye-and-stay",
        "says goodbye to Drain and lives on, without minding SIGTERM",
        0,
        at!(Moment::Drain => |plugin| {
            ignore(Signal::SIGTERM)?;
            plugin.wire.send(&Header::Goodbye { cause: GoodbyeCause::Done, reason: "drained".into() }, &[])?;
            hang()
        }),
    ),
    mode(
        "goodbye-and-fail",
        "says goodbye to Drain and exits with NUMBER, as one does that could not save",
        1,
        at!(Moment::Drain => |plugin| {
            plugin.wire.send(&Header::Goodbye { cause: GoodbyeCause::Done, reason: "drained".into() }, &[])?;
            exit(plugin.number)
        }),
    ),
    mode(
        "stop-self",
        "stops itself (SIGSTOP) once ready",
        0,
        at!(Moment::Ready => |_| {
            raise(Signal::SIGSTOP)?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "stop-in-drain",
        "stops itself (SIGSTOP) at Drain",
        0,
        at!(Moment::Drain => |_| {
            raise(Signal::SIGSTOP)?;
            Ok(Next::Instead)
        }),
    ),
    mode(
        "exit-in-drain",
        "exits with status NUMBER at Drain",
        9,
        at!(Moment::Drain => |plugin| exit(plugin.number)),
    ),
    mode(
        "detached-child",
        "leaves a child in a session of its own, its parent gone, and behaves",
        0,
        at!(Moment::Ready => |_| {
            child("orphan", Stdio::null(), Stdio::null())?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "child-holds-stdout",
        "leaves a child that holds standard output, and exits once ready",
        0,
        at!(Moment::Ready => |_| {
            child("orphan", Stdio::inherit(), Stdio::inherit())?;
            exit(0)
        }),
    ),
    mode(
        "child-holds-session",
        "leaves a child that holds the session, and exits once ready",
        0,
        at!(Moment::Ready => |plugin| {
            fcntl(&plugin.wire.stream, FcntlArg::F_SETFD(FdFlag::empty()))?;
            child("orphan", Stdio::null(), Stdio::null())?;
            exit(0)
        }),
    ),
    mode(
        "stubborn-child",
        "leaves a child that ignores SIGTERM, and behaves",
        0,
        at!(Moment::Ready => |_| {
            child("stubborn", Stdio::null(), Stdio::null())?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "forks",
        "starts children until refused, at most NUMBER, and tells how many on standard error",
        200,
        at!(Moment::Ready => |plugin| {
            let started = (0..plugin.number).take_while(|_| child("stubborn", Stdio::null(), Stdio::null()).is_ok());
            eprintln!("started {} children", started.count());
            Ok(Next::Well)
        }),
    ),
    mode(
        "forbidden-call",
        "calls unshare(CLONE_NEWUSER) once ready",
        0,
        at!(Moment::Ready => |_| {
            match nix::sched::unshare(CloneFlags::CLONE_NEWUSER) {
                Ok(()) => eprintln!("unshare was allowed"),
                Err(errno) => eprintln!("unshare was refused: {errno}"),
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "rare-call",
        "calls syncfs once ready, which a profile can be given",
        0,
        at!(Moment::Ready => |_| {
            match nix::unistd::syncfs(File::open("/dev/null")?) {
                Ok(()) => eprintln!("syncfs was allowed"),
                Err(errno) => eprintln!("syncfs was refused: {errno}"),
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "own-session",
        "starts a session of its own (setsid) once ready, which only the profile `program` allows",
        0,
        at!(Moment::Ready => |_| {
            // Refused: it leads one already. What counts is that it calls.
            let _ = nix::unistd::setsid();
            Ok(Next::Well)
        }),
    ),
    mode(
        "read-outside",
        "lists /etc NUMBER times once ready, tells what came of it, and behaves",
        3,
        at!(Moment::Ready => |plugin| {
            (0..plugin.number).for_each(|_| list_outside());
            Ok(Next::Well)
        }),
    ),
    mode(
        "read-outside-and-exit",
        "lists /etc once ready, tells what came of it, and exits with status NUMBER",
        3,
        at!(Moment::Ready => |plugin| {
            list_outside();
            exit(plugin.number)
        }),
    ),
];

fn list_outside() {
    match std::fs::read_dir("/etc") {
        Ok(_) => eprintln!("/etc was listed"),
        Err(error) => eprintln!("/etc was not listed: {error}"),
    }
}

fn ignore(which: Signal) -> io::Result<()> {
    // A blocked signal is not delivered: the same to an observer as an ignored one, and no unsafe call.
    let mut set = SigSet::empty();
    set.add(which);
    Ok(set.thread_block()?)
}

/// The argument that makes this program a child of itself.
pub(crate) const LINGER: &str = "--linger";

/// Starts this program again as a child that stays.
fn child(how: &str, stdout: Stdio, stderr: Stdio) -> io::Result<()> {
    let program = std::env::args_os().next().ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(program)
        .args([LINGER, how])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    if how == "orphan" {
        // It starts another and ends: that one's parent is then the init.
        child.wait()?;
    }
    Ok(())
}

/// The child's life.
pub(crate) fn linger(arguments: &[String]) -> ExitCode {
    if arguments.get(1).is_some_and(|how| how == "orphan") {
        return match child_of_child() {
            Ok(()) => DONE,
            Err(error) => {
                eprintln!("no grandchild: {error}");
                ExitCode::FAILURE
            }
        };
    }
    // A session of its own, where that is allowed; it stays in its cgroup all the same.
    let _ = nix::unistd::setsid();
    if let Err(error) = ignore(Signal::SIGTERM) {
        eprintln!("SIGTERM is not ignored: {error}");
    }
    hang()
}

fn child_of_child() -> io::Result<()> {
    let program = std::env::args_os().next().ok_or(io::ErrorKind::NotFound)?;
    Command::new(program).args([LINGER, "stubborn"]).stdin(Stdio::null()).spawn().map(drop)
}
