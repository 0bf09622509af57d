//! What may be called, and why. `docs/seccomp.md` is made from these lists.
//!
//! A line's reason says what needs the call, or what its argument rule keeps out. The base was found by
//! running tokio plugins (dynamic and static glibc, musl) and ordinary programs under the filter; the
//! rules come from the attack list.

#![allow(
    clippy::cast_lossless,
    reason = "constants of different widths become the 32 bits checked"
)]

mod descriptors;
mod files;
mod init;
mod network;
mod process;
mod program;
mod refusals;
mod supervisor;

use super::Profile;
use super::line::List;

pub use refusals::{NEVER, Never};

/// The lists that make up `profile`.
pub const fn of(profile: Profile) -> &'static [&'static List] {
    match profile {
        Profile::Compute => COMPUTE,
        Profile::Plugin => PLUGIN,
        Profile::Program => PROGRAM,
    }
}

/// What the init of a compartment may call. Its code is our own, so nothing is answered by an error.
pub static INIT: &[&List] = &[&init::INIT];

/// What the supervisor may call. All else is answered by EPERM, as some library may try it on a day that no
/// test has seen; but what is on the never-list, and [`EXECUTING`], kills.
pub static SUPERVISOR: &[&List] = &[
    &process::RUNTIME,
    &process::MEMORY,
    &process::THREADS,
    &process::TIME,
    &descriptors::DESCRIPTORS,
    &descriptors::SESSION,
    &files::LOOKING,
    &files::WRITING,
    &supervisor::SUPERVISOR,
    &refusals::FALLBACKS,
];

/// The ways to run another program or another process. Nothing of the supervisor's is ever one of these.
pub const EXECUTING: &[&str] = &["execve", "execveat", "fork", "vfork"];

static COMPUTE: &[&List] = &[
    &process::START,
    &process::RUNTIME,
    &process::MEMORY,
    &process::THREADS,
    &process::TIME,
    &process::OWN_SIGNALS,
    &descriptors::DESCRIPTORS,
    &descriptors::SESSION,
    &descriptors::PAIRS,
    &files::LOOKING,
    &files::READING,
    &refusals::FALLBACKS,
];

static PLUGIN: &[&List] = &[
    &process::START,
    &process::RUNTIME,
    &process::MEMORY,
    &process::THREADS,
    &process::TIME,
    &process::OWN_SIGNALS,
    &descriptors::DESCRIPTORS,
    &descriptors::SESSION,
    &descriptors::PAIRS,
    &files::LOOKING,
    &files::WRITING,
    &network::INTERNET,
    &refusals::FALLBACKS,
];

static PROGRAM: &[&List] = &[
    &process::START,
    &process::RUNTIME,
    &process::MEMORY,
    &process::THREADS,
    &process::TIME,
    &descriptors::DESCRIPTORS,
    &descriptors::SESSION,
    &descriptors::PAIRS,
    &files::LOOKING,
    &files::WRITING,
    &network::INTERNET,
    &network::LOCAL,
    &program::PROCESSES,
    &program::IDENTITY,
    &program::TERMINAL,
    &program::TREES,
    &files::NODES,
    &program::SELF_CONFINEMENT,
    &refusals::FALLBACKS,
    &refusals::ORDINARY,
];
