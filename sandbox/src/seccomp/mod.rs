//! The system calls that a compartment may make.
//!
//! Policy is data: named lists, a reason on every line, composed into three [`Profile`]s. [`compile`]
//! turns a profile into a classic BPF program for `seccomp(2)`; [`install`] gives it to the kernel.
//!
//! Sources: `seccomp(2)`, `Documentation/userspace-api/seccomp_filter.rst`.

mod install;
mod profile;

pub use install::install;
pub use profile::{Facts, Profile, SocketGrant, UnknownProfile};

/// Why a filter could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No call of that name exists on this architecture.
    #[error("no system call is named `{call}`{}; see syscalls(2)", suggestion.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default())]
    Unknown {
        /// The name as it was given.
        call: String,
        /// The nearest name that exists, where one is near.
        suggestion: Option<&'static str>,
    },
    /// The call is on the never-list, which no policy can lower.
    #[error("system call `{call}` can never be allowed: {reason}")]
    Never {
        /// The call.
        call: String,
        /// Why it is on the list.
        reason: &'static str,
    },
}

/// Compiles `profile`, with the calls named in `extra` allowed besides, into a BPF program.
///
/// # Errors
/// When a name in `extra` does not exist or is one that can never be allowed.
pub fn compile(
    profile: Profile,
    extra: &[String],
    facts: &Facts,
) -> Result<Vec<libc::sock_filter>, CompileError> {
    // The lists come with the next commit; until then nothing compiles, rather than everything.
    let _ = (profile, facts);
    Err(CompileError::Unknown {
        call: extra.first().cloned().unwrap_or_else(|| "read".to_owned()),
        suggestion: None,
    })
}
