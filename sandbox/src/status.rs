//! What /proc says of a process: what it may do, seen from outside (proc_pid_status(5)).

use std::fs;
use std::io;

/// The lines of /proc/PID/status by which a compartment is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessStatus {
    /// Real, effective, saved, file system.
    pub(crate) uids: [u32; 4],
    pub(crate) gids: [u32; 4],
    pub(crate) groups: Vec<u32>,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub(crate) capabilities: [u64; 5],
    pub(crate) no_new_privs: bool,
    /// 2: a filter.
    pub(crate) seccomp: u32,
    pub(crate) threads: u32,
}

impl ProcessStatus {
    pub(crate) fn read(pid: i32) -> io::Result<ProcessStatus> {
        Self::at(&format!("/proc/{pid}/status"))
    }

    /// Of the thread that asks: capabilities and filters are a thread's.
    pub(crate) fn of_this_thread() -> io::Result<ProcessStatus> {
        Self::at("/proc/thread-self/status")
    }

    fn at(path: &str) -> io::Result<ProcessStatus> {
        let text = fs::read_to_string(path)?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not as expected"))
        })
    }

    pub(crate) fn parse(text: &str) -> Option<ProcessStatus> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let ids = |name| -> Option<[u32; 4]> {
            let ids: Option<Vec<u32>> =
                field(name)?.split_whitespace().map(|id| id.parse().ok()).collect();
            ids?.try_into().ok()
        };
        let capability = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(ProcessStatus {
            uids: ids("Uid")?,
            gids: ids("Gid")?,
            groups: field("Groups")?.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
            capabilities: [
                capability("CapInh")?,
                capability("CapPrm")?,
                capability("CapEff")?,
                capability("CapBnd")?,
                capability("CapAmb")?,
            ],
            no_new_privs: field("NoNewPrivs")? == "1",
            seccomp: field("Seccomp")?.parse().ok()?,
            threads: field("Threads")?.parse().ok()?,
        })
    }
}

/// Whether a process has executed since it was forked: PF_FORKNOEXEC (0x40, linux/sched.h) is the
/// kernel's own mark of one that has not, in the ninth field of /proc/PID/stat.
pub(crate) fn has_executed(pid: i32) -> io::Result<bool> {
    const PF_FORKNOEXEC: u64 = 0x40;
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, and may hold anything.
    let flags = text
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok())
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is not as expected")
        })?;
    Ok(flags & PF_FORKNOEXEC == 0)
}

/// Soft limits by their names in /proc/PID/limits; `None` for unlimited.
pub(crate) fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
