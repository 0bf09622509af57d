//! Which processes there are.

use std::time::Instant;

use crate::process::DEADLINE;

/// A process as /proc shows it.
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub uid: u32,
    /// Its arguments, with a blank after each.
    pub command: String,
}

/// All processes of the machine, but those that are dead and only not yet reaped.
pub fn processes() -> Vec<Process> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may end while it is looked at.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
        };
        if field("State:").is_none_or(|state| state == "Z" || state == "X") {
            continue;
        }
        let (Some(parent), Some(uid)) = (field("PPid:"), field("Uid:")) else { continue };
        found.push(Process {
            pid,
            parent: parent.parse().unwrap(),
            uid: uid.parse().unwrap(),
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        });
    }
    found
}

/// Whether a process is stopped (SIGSTOP).
pub fn is_stopped(pid: i32) -> bool {
    is_in_state(pid, 'T')
}

/// Whether a process waits in the kernel, where no signal reaches it (D, `TASK_UNINTERRUPTIBLE`).
pub fn is_uninterruptible(pid: i32) -> bool {
    is_in_state(pid, 'D')
}

fn is_in_state(pid: i32, state: char) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which is in parentheses.
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))
}

/// Waits until a process is stopped.
///
/// # Panics
/// Where it is not at the deadline.
pub fn wait_until_stopped(pid: i32) {
    let deadline = Instant::now() + DEADLINE;
    while !is_stopped(pid) {
        assert!(Instant::now() < deadline, "{pid} did not pause");
        std::thread::yield_now();
    }
}
