//! The system calls that a compartment may make.
//!
//! Policy is data: [`lists`] hold a line for every decision, each with its reason, and a [`Profile`] is a
//! few lists composed. [`compile`] turns a profile into a classic BPF program: first the architecture and
//! x32 are checked, then a binary tree over ranges of call numbers leads to a verdict or to the call's
//! argument rules, which `seccompiler` compiles. [`install`] gives the program to the kernel.
//!
//! A call is answered in one of four ways: it is allowed (perhaps only with certain arguments); it is
//! refused by an error, where a line says so; it is as on a kernel that lacks it (`ENOSYS`), when its number
//! is newer than the table, so that a newer libc falls back; or else the process is killed.
//!
//! Deliberately absent: any way to allow a call on the [never-list](lists::NEVER), or to lift the argument
//! rules of another. That floor holds for every policy.
//!
//! Sources: `seccomp(2)`; the kernel's `Documentation/userspace-api/seccomp_filter.rst`.

mod assembler;
pub mod calls;
mod dispatch;
mod install;
pub mod learning;
mod line;
pub mod lists;
mod profile;
mod rules;

pub use install::install;
pub(crate) use install::install_asking;
pub use line::{Check, Clause, Errno, Given, Line, List, Test, Verdict};
pub use profile::{Facts, Profile, SocketGrant, UnknownProfile};

/// Why a filter could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No call of that name exists on this architecture.
    #[error(
        "no system call is named `{call}`{}; syscalls(2) lists them",
        suggestion.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
    )]
    Unknown {
        /// The name as it was given.
        call: String,
        /// The nearest name that exists, where one is near.
        suggestion: Option<&'static str>,
    },
    /// The call is on the never-list, which no policy can lower.
    #[error("system call `{call}` can never be allowed: {reason}; remove it from the policy")]
    Never {
        /// The call.
        call: String,
        /// Why it is on the list.
        reason: &'static str,
    },
}

/// Checks the calls that a policy names beyond its profile: each must exist, and none may be on the
/// never-list. The launcher's floor is this function.
///
/// # Errors
/// The first name that does not exist or can never be allowed.
pub fn check_extra(extra: &[String], facts: &Facts) -> Result<(), CompileError> {
    for call in extra {
        if let Some(never) = never(call, *facts) {
            return Err(CompileError::Never { call: call.clone(), reason: never.reason });
        }
        if calls::number(call).is_none() {
            let suggestion = calls::nearest(call);
            return Err(CompileError::Unknown { call: call.clone(), suggestion });
        }
    }
    Ok(())
}

/// Checks the name of a call that a policy is to allow on some machine, which need not be this one.
///
/// # Errors
/// No architecture has such a call, or no policy whatever can allow it.
pub fn check_name(call: &str) -> Result<(), CompileError> {
    if let Some(reason) = never_allowed(call) {
        return Err(CompileError::Never { call: call.to_owned(), reason });
    }
    if !calls::exists(call) {
        let suggestion = calls::nearest(call);
        return Err(CompileError::Unknown { call: call.to_owned(), suggestion });
    }
    Ok(())
}

/// Why no policy whatever can allow `call`, if that is so.
pub fn never_allowed(call: &str) -> Option<&'static str> {
    let line = lists::NEVER.iter().find(|line| line.calls.contains(&call))?;
    line.unless.is_none().then_some(line.reason)
}

/// The line of the never-list that holds for `call` in a compartment of these facts.
fn never(call: &str, facts: Facts) -> Option<&'static lists::Never> {
    lists::NEVER.iter().find(|line| {
        line.calls.contains(&call) && !line.unless.is_some_and(|given| facts.meet(given))
    })
}

/// Compiles `profile`, with the calls named in `extra` besides, into a BPF program for [`install`].
///
/// A call in `extra` whose arguments the lists check anywhere is added with those checks; any other is added
/// for all arguments.
///
/// # Errors
/// As [`check_extra`].
pub fn compile(
    profile: Profile,
    extra: &[String],
    facts: &Facts,
) -> Result<Vec<libc::sock_filter>, CompileError> {
    Ok(dispatch::assemble(&decisions(profile, extra, *facts)?))
}

/// What a profile decides, with the calls named in `extra` besides.
fn decisions(
    profile: Profile,
    extra: &[String],
    facts: Facts,
) -> Result<rules::Rules, CompileError> {
    check_extra(extra, &facts)?;
    let mut rules = rules::Rules::of(lists::of(profile), facts);
    if !extra.is_empty() {
        // Every argument rule that there is stands in the broadest profile.
        let broadest = rules::Rules::of(lists::of(Profile::Program), facts);
        for number in extra.iter().filter_map(|call| calls::number(call)) {
            rules.add(number, &broadest);
        }
    }
    Ok(rules)
}

/// The filter for pid 1 of a compartment once it has started the program: a dozen calls, of which none opens,
/// maps or executes.
pub fn compile_init() -> Vec<libc::sock_filter> {
    dispatch::assemble(&rules::Rules::of(lists::INIT, Facts::default()))
}

/// The filter that the supervisor puts itself under. What is neither allowed nor answered is refused by
/// EPERM, but for what is on the never-list or would execute something: that kills.
pub fn compile_supervisor(facts: Facts) -> Vec<libc::sock_filter> {
    let mut rules = rules::Rules::of(lists::SUPERVISOR, facts);
    rules.refuse_rest(line::e!(EPERM), |call| {
        never_allowed(call).is_some() || lists::EXECUTING.contains(&call)
    });
    dispatch::assemble(&rules)
}

#[cfg(test)]
mod document;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
