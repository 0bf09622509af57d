//! The launcher: the one process with privilege.
//!
//! Theory of operation. One loop ([`event_loop`]) in one thread, no parser of anything a plugin or a client
//! wrote. Beside it threads that decide nothing do what it must not wait for ([`worker`]): one waits for the disk,
//! one starts the plugins, and some look at places of the machine ([`starts`]). It does what the supervisor asks over the link ([`requests`]), after it has held
//! each request against what it knows itself ([`admission`]): its own store ([`package_store`]), its
//! own storage and uids ([`storage`]), the administrator's configuration and the sandbox's floors.
//! Whatever would take long is done piece by piece ([`jobs`]), so that a deadline of a stop
//! ([`stopping`]) is never missed for it.
//!
//! ```text
//!            requests, descriptors                  pidfd, cgroup.events
//! supervisor ◀───────────────────▶ launcher ◀────────────────────────────── plugins
//!      dies: is started anew          │ sd_notify            (bootstrap socket, stdio pipes)
//!      and told all that runs         ▼
//!                               service manager
//! ```
//! What must outlive a supervisor is kept here: the admin listener, each plugin's bootstrap socket
//! and the read ends of its output, and every exit that no supervisor has acknowledged ([`plugins`]).
//! So a supervisor can die at any moment and lose nothing but the calls that were under way. What
//! must not outlive the launcher does not: its children die with it (PR_SET_PDEATHSIG), and the next
//! launcher removes the directories that are left.
//!
//! Deliberately absent: tokio, SQLite, HTTP, manifests, and any waiting but that of the loop.

mod admin_socket;
mod admission;
pub(crate) mod audit_anchor;
mod channels;
mod clearing;
mod credentials;
mod data;
mod durable;
mod errands;
mod event_loop;
mod jobs;
mod learning;
mod mailbox;
mod measuring;
mod notify;
mod one_shot;
mod outbox;
mod package_store;
mod packages;
mod plugins;
pub(crate) mod removal;
mod requests;
mod restarts;
mod shutdown;
mod starts;
mod startup;
mod stopping;
mod storage;
mod supervision;
mod supervisor;
#[cfg(test)]
mod tests;
mod trust_log;
pub(crate) mod unpacking;
mod whole_file;
mod worker;

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_sandbox::kernel_audit;
use nix::sys::stat::{Mode, umask};

use crate::config::Config;
use crate::journal;
pub(crate) use learning::Learning;
use shutdown::End;

/// Serves until SIGTERM or SIGINT, and stops every plugin before it returns.
///
/// Must be called on the main thread of a process that has no other: privilege is given up by each thread for
/// itself, and the threads that are started here have what is left. The exit code is 0 after a stop that was asked for, 1 if the service could not start, or could not go on, or could not end a process.
pub(crate) fn serve(config: &Config, learning: Option<Learning>) -> ExitCode {
    // First of all: what the service manager gave is known by its number, which is nothing else's only until
    // something is opened.
    let given = kernel_audit::given();
    // Whoever starts it by hand may have one by which the supervisor and the plugins, other users, would not get
    // through to what is theirs. What is nobody else's is made with a mode that says so.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    crate::logging::init();
    let (mut launcher, held) = match startup::prepare(config, given, learning) {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(%error, "the service cannot start");
            // Systemd's journal has it, and could keep us waiting.
            if !journal::has_our_output() {
                let _ = writeln!(io::stderr(), "error: {error}");
            }
            return ExitCode::FAILURE;
        }
    };
    let end = launcher.run();
    // The socket, the cgroups, and last the lock that guards them.
    drop(launcher);
    drop(held);
    match end {
        End::Stopped => ExitCode::SUCCESS,
        End::Failed => ExitCode::FAILURE,
    }
}
