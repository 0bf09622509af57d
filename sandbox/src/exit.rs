//! How a compartment ended, and why.
//!
//! Exit codes lie: a group out-of-memory kill, a seccomp violation and a stop of ours all look like
//! a signal. So the cause is taken from what the kernel counted (`memory.events`, `pids.events`),
//! compared with its value at the start, and only then from the wait status.

use serde::{Deserialize, Serialize};

use crate::seccomp;

/// The end of a compartment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The program's own wait status.
    pub status: Status,
    /// What it used, from its cgroup.
    pub usage: Usage,
    /// Why it ended.
    pub cause: Cause,
    /// Where the cause is [`Cause::Seccomp`]: the system call, if somebody has learned it from
    /// [`crate::kernel_audit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_call: Option<String>,
    /// What Landlock had refused it last, for a person, if somebody has learned it from there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_accesses: Vec<String>,
}

/// The program's wait status (wait(2)), as the compartment's init saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It called exit(2) or returned from main.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core: bool,
    },
    /// The init was gone before it could tell.
    Unknown,
}

/// What a compartment used. `None`: no cgroup, or no such controller in it; never invented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes, now (`memory.current`).
    pub memory_current: Option<u64>,
    /// Bytes, at most (`memory.peak`, kernel 5.19).
    pub memory_peak: Option<u64>,
    /// Microseconds of CPU time (`cpu.stat usage_usec`).
    pub cpu_usec: Option<u64>,
    /// Periods in which CPU bandwidth ran out (`cpu.stat nr_throttled`).
    pub nr_throttled: Option<u64>,
    /// Microseconds for which it was held back (`cpu.stat throttled_usec`).
    pub throttled_usec: Option<u64>,
    /// Processes and threads, now, our init included (`pids.current`).
    pub pids_current: Option<u64>,
    /// Processes that the kernel killed for memory since the start (`memory.events oom_kill`).
    pub oom_kills: u64,
    /// Forks refused by the limit since the start (`pids.events max`).
    pub pids_refused: u64,
    /// Bytes read from block devices (`io.stat rbytes`, all devices).
    pub io_read: Option<u64>,
    /// Bytes written to block devices (`io.stat wbytes`, all devices).
    pub io_written: Option<u64>,
}

/// Why a compartment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself with this code.
    Code(i32),
    /// It ran out of memory and the kernel killed all of it.
    OutOfMemory {
        /// Bytes it was allowed (`memory.max`).
        limit: Option<u64>,
        /// Bytes it had at most.
        peak: Option<u64>,
    },
    /// It made a system call that its profile forbids (SIGSYS).
    Seccomp,
    /// It wrote past its largest permitted file (SIGXFSZ).
    FileSize {
        /// Bytes it was allowed.
        limit: Option<u64>,
    },
    /// [`crate::Child::kill`] ended it.
    Killed,
    /// A signal ended it that was not ours.
    Signal(i32),
    /// Not observable.
    Unknown,
}

/// What, besides the status and the usage, shows why a compartment ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) memory_limit: Option<u64>,
    pub(crate) file_size_limit: Option<u64>,
    /// We killed it.
    pub(crate) killed: bool,
}

impl Cause {
    /// Memory first: an out-of-memory kill has the same SIGKILL as ours, and a program may even
    /// survive the death of a child of its own and exit with a code, which is then the cause.
    pub(crate) fn of(status: Status, usage: &Usage, evidence: Evidence) -> Cause {
        let killed =
            matches!(status, Status::Signaled { signal: libc::SIGKILL, .. } | Status::Unknown);
        match status {
            _ if killed && usage.oom_kills > 0 => {
                Cause::OutOfMemory { limit: evidence.memory_limit, peak: usage.memory_peak }
            }
            _ if killed && evidence.killed => Cause::Killed,
            Status::Exited(code) => Cause::Code(code),
            Status::Signaled { signal: libc::SIGSYS, .. } => Cause::Seccomp,
            Status::Signaled { signal: libc::SIGXFSZ, .. } => {
                Cause::FileSize { limit: evidence.file_size_limit }
            }
            Status::Signaled { signal, .. } => Cause::Signal(signal),
            Status::Unknown => Cause::Unknown,
        }
    }
}

impl Status {
    /// Bytes of a status as the init writes it.
    pub(crate) const RECORD: usize = 8;

    /// `si_code` and `si_status` of waitid(2), as the init writes them.
    pub(crate) fn to_record(code: i32, status: i32) -> [u8; Status::RECORD] {
        let mut record = [0; Status::RECORD];
        record[..4].copy_from_slice(&code.to_ne_bytes());
        record[4..].copy_from_slice(&status.to_ne_bytes());
        record
    }

    pub(crate) fn from_record(record: [u8; Status::RECORD]) -> Option<Status> {
        let (code, status) = record.split_first_chunk()?;
        let code = i32::from_ne_bytes(*code);
        let status = i32::from_ne_bytes(*status.first_chunk()?);
        match code {
            libc::CLD_EXITED => Some(Status::Exited(status)),
            libc::CLD_KILLED => Some(Status::Signaled { signal: status, core: false }),
            libc::CLD_DUMPED => Some(Status::Signaled { signal: status, core: true }),
            _ => None,
        }
    }

    pub(crate) fn of_wait(status: nix::sys::wait::WaitStatus) -> Status {
        use nix::sys::wait::WaitStatus;
        match status {
            // The init exits with 0 only after its verdict is written; without one its own code
            // tells nothing of the program.
            WaitStatus::Signaled(_, signal, core) => {
                Status::Signaled { signal: signal as i32, core }
            }
            _ => Status::Unknown,
        }
    }
}

impl Exit {
    /// One line for a person: what happened, and the setting that would change it.
    pub fn explain(&self) -> String {
        let mut cause = self.explain_cause();
        if !self.denied_accesses.is_empty() {
            let denied = self.denied_accesses.join("; ");
            cause = format!("{cause}; before that Landlock refused it {denied}");
        }
        match self.usage.pids_refused {
            0 => cause,
            1 => format!("{cause}; once it was refused a process or thread: raise limits.pids"),
            times => format!(
                "{cause}; {times} times it was refused a process or thread: raise limits.pids"
            ),
        }
    }

    fn explain_call(&self) -> String {
        let Some(call) = &self.denied_call else {
            return "it made a system call that its seccomp profile forbids (SIGSYS); choose a broader profile, or allow the call by name in allow_syscalls; which call is not observable here, as that takes the kernel's audit stream (CAP_AUDIT_READ)".to_owned();
        };
        if let Some(reason) = seccomp::never_allowed(call) {
            return format!(
                "it made the system call {call} (SIGSYS), which no policy can allow: {reason}"
            );
        }
        if seccomp::calls::number(call).is_none() {
            return format!("it made the system call {call} (SIGSYS), which no policy can allow");
        }
        format!(
            "it made the system call {call}, which its seccomp profile forbids, or forbids with these arguments (SIGSYS); choose a broader profile, or allow_syscalls = [\"{call}\"]"
        )
    }

    fn explain_cause(&self) -> String {
        match self.cause {
            Cause::Code(0) => "it ended by itself, successfully".to_owned(),
            Cause::Code(code) => format!("it ended by itself with exit code {code}"),
            Cause::OutOfMemory { limit, peak } => {
                let limit = limit.map_or("the machine's memory".to_owned(), |limit| {
                    format!("its memory limit of {}", bytes(limit))
                });
                let peak = peak.map_or(String::new(), |peak| format!(" (peak {})", bytes(peak)));
                format!(
                    "it ran out of memory: it reached {limit}{peak} and the kernel killed all of it; raise limits.memory, or make it use less"
                )
            }
            Cause::Seccomp => self.explain_call(),
            Cause::FileSize { limit } => {
                let limit = limit.map_or("its limit".to_owned(), bytes);
                format!(
                    "it wrote a file larger than {limit} (SIGXFSZ); raise limits.storage (limits.file_size of a policy)"
                )
            }
            Cause::Killed => {
                "bulkhead killed it: it did not stop in time, or its start had failed, or it broke the rules of the session".to_owned()
            }
            Cause::Signal(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal).map_or_else(
                    |_| format!("signal {signal}"),
                    |signal| signal.as_str().to_owned(),
                );
                let core = matches!(self.status, Status::Signaled { core: true, .. });
                format!("{name} ended it{}", if core { " and it dumped core" } else { "" })
            }
            Cause::Unknown => "how it ended could not be observed".to_owned(),
        }
    }
}

/// `67108864` as `64 MiB`, `1000` as `1000 B`: exact, or with one decimal.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = "B";
    let mut value = count as f64;
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests;
