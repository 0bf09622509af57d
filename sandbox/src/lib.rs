//! From a policy to an enforced process. Linux only, synchronous.
//!
//! Theory of operation. [`spawn`] takes a [`Launch`] (what, as whom, confined how) and gives a
//! [`Child`]: a process tree in a cgroup of its own, in namespaces of its own, beneath an init of
//! ours, restricted by Landlock and seccomp, without a capability. Nothing here polls and nothing
//! waits for a pipe to end: a child tells of its end by descriptors that any event loop can watch.
//! What the compartment turned out to be is measured and kept as its [`Enforcement`]; what a machine
//! can give at all is told by [`probe::probe`].
//!
//! This crate is the privileged audit surface: its dependencies are few, none is asynchronous, and
//! all unsafe code of the workspace lives here, one file per need.

#![allow(unsafe_code, reason = "system calls without a safe wrapper; SAFETY comments per call")]
#![warn(missing_docs)]

pub mod attack;
mod capabilities;
pub mod cgroup;
mod child;
pub mod confinement;
mod cover;
pub mod descriptors;
mod enforcement;
mod exit;
pub mod floors;
mod identity;
mod init;
pub mod kernel_audit;
mod launch;
mod layer;
#[cfg(debug_assertions)]
pub mod layers_off;
/// A release build has no such switch.
#[cfg(not(debug_assertions))]
mod layers_off {
    pub(crate) const fn is_off(_: crate::Layer) -> bool {
        false
    }

    pub(crate) const fn filter(filter: Vec<libc::sock_filter>) -> Vec<libc::sock_filter> {
        filter
    }
}
pub mod learning;
mod measure;
pub mod mount_id;
mod policy;
pub mod privilege;
pub mod probe;
mod process;
pub mod quota;
mod report;
mod root;
mod ruleset;
pub mod seccomp;
mod spawn;
mod stage;
mod status;
pub mod stop;
mod support;
mod syscall;
pub mod unprivileged;

pub use child::MAX_MOUNTS;
pub use enforcement::{Enforcement, Measured, Missing};
pub use exit::{Cause, Exit, Status, Usage};
pub use launch::{Identity, Launch, Program, ProgramFile, Stdio};
pub use layer::Layer;
pub use nix::sys::signal::Signal;
pub use policy::{
    Access, CpuMax, DiskMax, Filesystem, IoMax, Limits, Mount, Network, Policy, Strictness, overlap,
};
pub use process::{Child, ChildError};
pub use root::{SYSTEM, is_system};
pub use ruleset::{CONFIGURATION, LOADERS};
pub use spawn::{SpawnError, spawn};
pub use stage::Stage;
