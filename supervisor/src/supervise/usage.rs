//! What a plugin uses right now, read from its cgroup.
//!
//! The `cgroups-rs` crate reads the files; its own v2 root is fixed, so [`Delegated`] tells it of
//! the subtree that was delegated to us. It answers 0 where a file is missing, so only controllers
//! that the cgroup has are asked: what cannot be measured is `null`, never invented.

use std::path::{Path, PathBuf};

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, Hierarchy, Subsystem};
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes, microseconds and counts; `None` where the cgroup has no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    /// Page cache and tmpfs included.
    pub(crate) memory_bytes: Option<u64>,
    /// The most since its start.
    pub(crate) memory_peak_bytes: Option<u64>,
    /// Without the page cache that was not used lately, which the kernel takes back first.
    pub(crate) memory_working_set_bytes: Option<u64>,
    pub(crate) cpu_usec: Option<u64>,
    /// Processes and threads, the compartment's init included.
    pub(crate) pids: Option<u64>,
    /// The most since its start.
    pub(crate) pids_peak: Option<u64>,
    /// Of all devices, as the three below.
    pub(crate) io_read_bytes: Option<u64>,
    pub(crate) io_written_bytes: Option<u64>,
    pub(crate) io_read_operations: Option<u64>,
    pub(crate) io_write_operations: Option<u64>,
}

/// What the limits of a cgroup did to it; `None` where it has no such file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitEvents {
    /// Periods in which it wanted CPU time (`cpu.stat nr_periods`).
    pub(crate) periods: Option<u64>,
    /// Periods in which its CPU time ran out (`cpu.stat nr_throttled`).
    pub(crate) throttled_periods: Option<u64>,
    /// For how long it was held back (`cpu.stat throttled_usec`).
    pub(crate) throttled_usec: Option<u64>,
    /// How often its memory was over `memory.high` (`memory.events high`).
    pub(crate) memory_high: Option<u64>,
    /// How often its memory was about to go over its limit (`memory.events max`).
    pub(crate) memory_max: Option<u64>,
    /// How often nothing could be taken back then (`memory.events oom`).
    pub(crate) oom: Option<u64>,
    /// Processes that were killed for memory (`memory.events oom_kill`).
    pub(crate) oom_kills: Option<u64>,
    /// Processes and threads that it was refused (`pids.events max`).
    pub(crate) pids_refused: Option<u64>,
}

impl LimitEvents {
    /// Reads those of the cgroup at `path`. A kernel without the controller's file, or without the
    /// key in it, gives nothing.
    pub(crate) fn read(path: &Path) -> Self {
        let (cpu, memory, pids) =
            (text(path, "cpu.stat"), text(path, "memory.events"), text(path, "pids.events"));
        Self {
            periods: keyed(&cpu, "nr_periods"),
            throttled_periods: keyed(&cpu, "nr_throttled"),
            throttled_usec: keyed(&cpu, "throttled_usec"),
            memory_high: keyed(&memory, "high"),
            memory_max: keyed(&memory, "max"),
            oom: keyed(&memory, "oom"),
            oom_kills: keyed(&memory, "oom_kill"),
            pids_refused: keyed(&pids, "max"),
        }
    }
}

/// How long its processes waited for something that there was too little of, in it or on the machine
/// (Documentation/accounting/psi.rst); `None` where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Stalls {
    pub(crate) cpu: Option<Stall>,
    pub(crate) memory: Option<Stall>,
    pub(crate) io: Option<Stall>,
}

/// The time in which some of its processes waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stall {
    /// Percent of the last ten seconds.
    pub(crate) avg10: f64,
    /// Microseconds since its start.
    pub(crate) total_usec: u64,
}

impl Stalls {
    /// Reads those of the cgroup at `path`.
    pub(crate) fn read(path: &Path) -> Self {
        let stall = |name| Stall::parse(&text(path, name));
        Self {
            cpu: stall("cpu.pressure"),
            memory: stall("memory.pressure"),
            io: stall("io.pressure"),
        }
    }
}

impl Stall {
    fn parse(text: &str) -> Option<Self> {
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let value =
            |key| some.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        Some(Self {
            avg10: value("avg10")?.parse().ok()?,
            total_usec: value("total")?.parse().ok()?,
        })
    }
}

/// The limits of a cgroup, in the kernel's own word; `None` where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    /// As [`Usage::pids`] counts them.
    pub(crate) pids: Option<u64>,
    /// Of one CPU.
    pub(crate) cpu_percent: Option<u64>,
}

impl Bounds {
    /// Reads those of the cgroup at `path`.
    pub(crate) fn read(path: &Path) -> Self {
        // `max` is none.
        let number = |name| text(path, name).trim().parse().ok();
        let cpu = text(path, "cpu.max");
        let cpu = cpu.trim().split_once(' ').and_then(|(quota, period)| {
            let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
            quota.checked_mul(100)?.checked_div(period)
        });
        Self { memory_bytes: number("memory.max"), pids: number("pids.max"), cpu_percent: cpu }
    }
}

/// A file's text; empty if it is not there or cannot be read.
fn text(path: &Path, name: &str) -> String {
    std::fs::read_to_string(path.join(name)).unwrap_or_default()
}

/// The number after `key` in a flat-keyed file.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(found, _)| *found == key)?.1.trim().parse().ok()
}

/// The sum of `key=` over the devices of `io.stat`; a file that is there and empty says that nothing
/// was read or written.
fn summed(text: Option<&str>, key: &str) -> Option<u64> {
    let values = text?.split_whitespace().filter_map(|word| {
        let (found, value) = word.split_once('=')?;
        (found == key).then(|| value.parse::<u64>().ok()).flatten()
    });
    Some(values.sum())
}

/// A cgroup v2 subtree that was delegated to us.
#[derive(Clone, Debug)]
struct Delegated {
    root: PathBuf,
    controllers: Vec<String>,
}

impl Delegated {
    fn new(root: &Path, cgroup: &Path) -> Self {
        let listed = std::fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
        let mut controllers: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
        // CPU time is accounted without the controller too.
        if !controllers.iter().any(|name| name == "cpu") && cgroup.join("cpu.stat").exists() {
            controllers.push("cpu".to_owned());
        }
        Self { root: root.to_owned(), controllers }
    }
}

impl Hierarchy for Delegated {
    fn subsystems(&self) -> Vec<Subsystem> {
        let (root, below) = (|| self.root.clone(), PathBuf::new);
        self.controllers
            .iter()
            .filter_map(|name| match name.as_str() {
                "memory" => Some(Subsystem::Mem(MemController::new(root(), below(), true))),
                "cpu" => Some(Subsystem::Cpu(CpuController::new(root(), below(), true))),
                "pids" => Some(Subsystem::Pid(PidController::new(root(), below(), true))),
                _ => None,
            })
            .collect()
    }

    fn root(&self) -> PathBuf {
        self.root.clone()
    }

    fn root_control_group(&self) -> Cgroup {
        Cgroup::load(Box::new(self.clone()), "")
    }

    fn parent_control_group(&self, path: &str) -> Cgroup {
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        Cgroup::load(Box::new(self.clone()), parent)
    }

    fn v2(&self) -> bool {
        true
    }
}

/// Reads the usage of the cgroup at `path`.
pub(crate) fn read(path: &Path) -> Usage {
    let (Some(root), Some(name)) = (path.parent(), path.file_name()) else {
        return Usage::default();
    };
    let cgroup = Cgroup::load(Box::new(Delegated::new(root, path)), name);
    let memory = cgroup.controller_of::<MemController>().map(MemController::memory_stat);
    let cpu = cgroup.controller_of::<CpuController>().map(CpuController::cpu);
    let cold = keyed(&text(path, "memory.stat"), "inactive_file");
    let io = std::fs::read_to_string(path.join("io.stat")).ok();
    Usage {
        memory_bytes: memory.as_ref().map(|memory| memory.usage_in_bytes),
        // Kernels before 5.19 have no memory.peak.
        memory_peak_bytes: memory
            .as_ref()
            .map(|memory| memory.max_usage_in_bytes)
            .filter(|peak| *peak > 0),
        memory_working_set_bytes: memory
            .as_ref()
            .and_then(|memory| Some(memory.usage_in_bytes.saturating_sub(cold?))),
        cpu_usec: cpu.and_then(|cpu| {
            let line = cpu.stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            line.trim().parse().ok()
        }),
        pids: cgroup.controller_of::<PidController>().and_then(|pids| pids.get_pid_current().ok()),
        // Kernels before 6.1 have none.
        pids_peak: text(path, "pids.peak").trim().parse().ok(),
        io_read_bytes: summed(io.as_deref(), "rbytes"),
        io_written_bytes: summed(io.as_deref(), "wbytes"),
        io_read_operations: summed(io.as_deref(), "rios"),
        io_write_operations: summed(io.as_deref(), "wios"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn what_the_cgroup_says_is_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler");
        std::fs::create_dir(&path).unwrap();
        write(
            &path,
            &[
                ("cgroup.controllers", "cpu memory pids\n"),
                ("memory.current", "4096\n"),
                ("memory.peak", "8192\n"),
                ("cpu.stat", "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n"),
                ("memory.stat", "anon 3000\ninactive_file 1000\nactive_file 96\n"),
                ("pids.current", "3\n"),
                ("pids.peak", "5\n"),
                (
                    "io.stat",
                    "259:0 rbytes=10 wbytes=1 rios=2 wios=1 dbytes=9 dios=9\n8:0 rbytes=32 wbytes=0 rios=1 wios=0\n",
                ),
            ],
        );
        let expected = Usage {
            memory_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            memory_working_set_bytes: Some(3096),
            cpu_usec: Some(1234),
            pids: Some(3),
            pids_peak: Some(5),
            io_read_bytes: Some(42),
            io_written_bytes: Some(1),
            io_read_operations: Some(3),
            io_write_operations: Some(1),
        };
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn what_the_limits_did_is_read_where_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(LimitEvents::read(directory.path()), LimitEvents::default());
        write(
            directory.path(),
            &[
                ("cpu.stat", "usage_usec 9\nnr_periods 5\nnr_throttled 2\nthrottled_usec 700\n"),
                ("memory.events", "low 0\nmax 4\noom 1\noom_kill 3\noom_group_kill 0\n"),
                ("pids.events", "max 6\n"),
            ],
        );
        let expected = LimitEvents {
            periods: Some(5),
            throttled_periods: Some(2),
            throttled_usec: Some(700),
            memory_high: None,
            memory_max: Some(4),
            oom: Some(1),
            oom_kills: Some(3),
            pids_refused: Some(6),
        };
        assert_eq!(LimitEvents::read(directory.path()), expected);
    }

    #[test]
    fn stalls_are_told_where_the_kernel_counts_them() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Stalls::read(directory.path()), Stalls::default());
        write(
            directory.path(),
            &[
                (
                    "cpu.pressure",
                    "some avg10=1.50 avg60=0.20 avg300=0.00 total=8000\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=9\n",
                ),
                ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
                ("memory.pressure", "full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
            ],
        );
        let expected = Stalls {
            cpu: Some(Stall { avg10: 1.5, total_usec: 8000 }),
            memory: None,
            io: Some(Stall { avg10: 0.0, total_usec: 0 }),
        };
        assert_eq!(Stalls::read(directory.path()), expected);
    }

    #[test]
    fn a_limit_is_the_one_that_the_kernel_has() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Bounds::read(directory.path()), Bounds::default());
        let files = [("memory.max", "max\n"), ("pids.max", "17\n"), ("cpu.max", "50000 100000\n")];
        write(directory.path(), &files);
        let expected = Bounds { memory_bytes: None, pids: Some(17), cpu_percent: Some(50) };
        assert_eq!(Bounds::read(directory.path()), expected);
        write(directory.path(), &[("memory.max", "4096\n"), ("cpu.max", "max 100000\n")]);
        let expected = Bounds { memory_bytes: Some(4096), cpu_percent: None, ..expected };
        assert_eq!(Bounds::read(directory.path()), expected);
    }

    #[test]
    fn a_device_that_was_not_used_is_zero_and_a_file_that_is_not_there_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler");
        std::fs::create_dir(&path).unwrap();
        write(&path, &[("io.stat", "")]);
        assert_eq!(read(&path).io_written_bytes, Some(0));
        std::fs::remove_file(path.join("io.stat")).unwrap();
        assert_eq!(read(&path).io_written_bytes, None);
    }

    #[test]
    fn a_controller_that_is_not_there_gives_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler");
        std::fs::create_dir(&path).unwrap();
        write(&path, &[("cgroup.controllers", "hugetlb\n"), ("cpu.stat", "usage_usec 5\n")]);
        assert_eq!(read(&path), Usage { cpu_usec: Some(5), ..Usage::default() });
        assert_eq!(read(Path::new("/nonexistent/cgroup")), Usage::default());
    }
}
