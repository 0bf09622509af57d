//! System calls that neither std nor nix wraps, each with a safe face.
//!
//! Most of them are made in the child, between clone3 and execve, where nothing may allocate, lock or
//! rely on glibc's idea of the current thread: the process may have been cloned while another thread
//! held any lock. So these are bare calls, and ids are changed here rather than by glibc, whose
//! setresuid(3) signals the threads that it remembers and waits for them for ever.

mod descriptor;
mod notification;
mod privilege;
mod process;
mod quota;
mod signal;
mod tree;

use std::ffi::c_long;

use nix::errno::Errno;

pub(crate) use descriptor::*;
pub(crate) use notification::*;
pub(crate) use privilege::*;
pub(crate) use process::*;
pub(crate) use quota::*;
pub(crate) use signal::*;
pub(crate) use tree::*;

/// The result of one call: nothing is allocated on either side.
pub(crate) type Call<T = ()> = Result<T, Errno>;

fn check(result: c_long) -> Call<c_long> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn done(result: c_long) -> Call {
    check(result).map(|_| ())
}
