//! One compartment's cgroup.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::CgroupError;
use super::tree::Temporary;
use crate::exit::Usage;
use crate::process::wait_for;

/// The cgroup of one compartment. Dropping it leaves the directory; [`Cgroup::remove`] removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
    events: File,
    /// `cgroup.kill`, held from the beginning: a kill needs no descriptor that may not be had then. None
    /// on a kernel before 5.14.
    kill: Option<File>,
    /// Counters as they were when the cgroup was opened.
    base: Counters,
    /// Keeps the directory above until this one is removed.
    _above: Option<Arc<Temporary>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    oom_kills: u64,
    pids_refused: u64,
}

impl Cgroup {
    pub(super) fn open(
        path: PathBuf,
        above: Option<Arc<Temporary>>,
    ) -> Result<Cgroup, CgroupError> {
        let directory = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&path)
            .map_err(|source| CgroupError::io("opening", &path, source))?;
        let file = path.join("cgroup.events");
        let events =
            File::open(&file).map_err(|source| CgroupError::io("opening", &file, source))?;
        let file = path.join("cgroup.kill");
        let kill = match File::options().write(true).open(&file) {
            Ok(kill) => Some(kill),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(CgroupError::io("opening", &file, source)),
        };
        let mut cgroup = Cgroup {
            path,
            directory: directory.into(),
            events,
            kill,
            base: Counters::default(),
            _above: above,
        };
        cgroup.base = cgroup.counters();
        Ok(cgroup)
    }

    /// Whether /proc/PID/cgroup names it. That shows the path within the hierarchy, of which the directory's
    /// path is the end.
    pub(crate) fn has_process(&self, pid: i32) -> bool {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .is_some_and(|path| !path.is_empty() && self.path().ends_with(path))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's descriptor, for CLONE_INTO_CGROUP.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Moves a process here that could not be cloned here.
    pub(crate) fn adopt(&self, pid: i32) -> Result<(), CgroupError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// `cgroup.events`: readable as POLLPRI when [`Cgroup::is_empty`] may have changed.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether no process is left in it or beneath it: `populated 0`, or it is gone itself. Also acknowledges the event,
    /// so that [`Cgroup::events_fd`] waits for the next.
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        let read = || -> std::io::Result<String> {
            // The same descriptor, read from its beginning: kernfs counts that as having seen the
            // event.
            let mut events = &self.events;
            events.rewind()?;
            let mut text = String::new();
            events.read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(keyed(&text, "populated") == Some(0)),
            // Somebody else has removed it, which the kernel allows only when no process is left.
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(CgroupError::io("reading", self.path.join("cgroup.events"), error)),
        }
    }

    /// Waits until no process is left in it, or for `at_most`; whether none is.
    pub fn wait_empty(&self, at_most: Duration) -> Result<bool, CgroupError> {
        let until = Instant::now() + at_most;
        loop {
            if self.is_empty()? {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            wait_for(self.events_fd(), PollFlags::POLLPRI, left);
        }
    }

    /// Kills every process in it and beneath it, atomically (`cgroup.kill`, kernel 5.14).
    pub fn kill(&self) -> Result<(), CgroupError> {
        let written = match &self.kill {
            Some(kill) => kill.write_all_at(b"1", 0),
            None => Err(ErrorKind::NotFound.into()),
        };
        written.map_err(|source| {
            CgroupError::io("writing \"1\" to", self.path.join("cgroup.kill"), source)
        })
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        let cpu = self.read("cpu.stat");
        let cpu = |key| cpu.as_deref().and_then(|text| keyed(text, key));
        let io = self.read("io.stat");
        let io = |key| io.as_deref().map(|text| sum(text, key));
        let now = self.counters();
        Usage {
            memory_current: self.number("memory.current"),
            memory_peak: self.number("memory.peak"),
            cpu_usec: cpu("usage_usec"),
            nr_throttled: cpu("nr_throttled"),
            throttled_usec: cpu("throttled_usec"),
            pids_current: self.number("pids.current"),
            oom_kills: now.oom_kills.saturating_sub(self.base.oom_kills),
            pids_refused: now.pids_refused.saturating_sub(self.base.pids_refused),
            io_read: io("rbytes"),
            io_written: io("wbytes"),
        }
    }

    /// Removes it. Fails with EBUSY while a process is in it; see [`Cgroup::is_empty`]. Already gone
    /// is well.
    pub fn remove(self) -> Result<(), CgroupError> {
        remove_beneath(&self.path);
        match fs::remove_dir(&self.path) {
            Err(error) if !is_gone(&error) => Err(CgroupError::io("removing", &self.path, error)),
            _ => Ok(()),
        }
    }

    fn counters(&self) -> Counters {
        let keyed_in = |file, key| self.read(file).and_then(|text| keyed(&text, key)).unwrap_or(0);
        Counters {
            oom_kills: keyed_in("memory.events", "oom_kill"),
            pids_refused: keyed_in("pids.events", "max"),
        }
    }

    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        fs::write(&path, value)
            .map_err(|source| CgroupError::io(format!("writing {value:?} to"), path, source))
    }

    /// A file's text without the newline at its end; `None` if it is not there or cannot be read.
    pub(crate) fn read(&self, file: &str) -> Option<String> {
        let mut text = fs::read_to_string(self.path.join(file)).ok()?;
        text.truncate(text.trim_end().len());
        Some(text)
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.parse().ok()
    }
}

/// A file of a removed cgroup reads as ENODEV (kernfs_seq_start in fs/kernfs/file.c), its name as
/// ENOENT.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT))
}

/// A compartment may have made cgroups of its own where its policy shows it the hierarchy.
fn remove_beneath(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_beneath(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The number after `key` in a flat-keyed file.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of `key=` over the devices of a nested-keyed file.
pub(super) fn sum(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
        .sum()
}
