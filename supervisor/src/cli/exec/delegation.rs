//! A cgroup of our own where the one that we run in is somebody else's: a login session's.
//!
//! systemd delegates a subtree to a service or a scope that asks for it, so we run again, with the
//! same arguments and streams, inside a transient scope. `systemd-run --scope` executes the command
//! in its own process: pid, terminal and descriptors stay.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

/// Set for the second run, so that there is no third.
const GUARD: &str = "BULKHEAD_IN_SCOPE";

/// Replaces this process by one inside a delegated scope; returns if that is not possible here, or
/// would not help.
pub(in crate::cli) fn run_again_in_a_scope() {
    if std::env::var_os(GUARD).is_some() {
        return;
    }
    let Ok(this_program) = std::env::current_exe() else { return };
    let Some(mut command) = in_a_scope(&this_program) else { return };
    // Only comes back if it could not be executed; then we go on without.
    let _ = command.args(std::env::args_os().skip(1)).env(GUARD, "1").exec();
}

/// A command that runs `program` in a scope of its own, for the caller to complete; `None` where
/// there is no systemd to make one.
pub(in crate::cli) fn in_a_scope(program: &Path) -> Option<Command> {
    if !has_manager() {
        return None;
    }
    let mut command = Command::new(systemd_run()?);
    command.args(["--scope", "--quiet", "--collect", "--property=Delegate=yes"]);
    if !geteuid().is_root() {
        command.arg("--user");
    }
    command.arg("--").arg(program);
    Some(command)
}

/// Whether there is a systemd that can be asked: the system's, or the user's own
/// (sd_booted(3); the private socket of the user's manager).
fn has_manager() -> bool {
    if geteuid().is_root() {
        return Path::new("/run/systemd/system").is_dir();
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .is_some_and(|runtime| Path::new(&runtime).join("systemd/private").exists())
}

fn systemd_run() -> Option<PathBuf> {
    ["/usr/bin/systemd-run", "/bin/systemd-run"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}
