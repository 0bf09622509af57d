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

/// Bytes, microseconds and counts; `None` where the cgroup has no such controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) cpu_usec: Option<u64>,
    pub(crate) pids: Option<u64>,
}

/// What the limits of a cgroup did to it; `None` where it has no such controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strain {
    /// Periods in which its CPU time ran out (`cpu.stat nr_throttled`).
    pub(crate) throttled_periods: Option<u64>,
    /// For how long it was held back (`cpu.stat throttled_usec`).
    pub(crate) throttled_usec: Option<u64>,
    /// Processes that were killed for memory (`memory.events oom_kill`).
    pub(crate) oom_kills: Option<u64>,
}

impl Strain {
    /// Reads that of the cgroup at `path`. A kernel without the controller's file, or without the
    /// key in it, gives nothing.
    pub(crate) fn read(path: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        let keyed = |text: &str, key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs.find(|(found, _)| *found == key)?.1.trim().parse().ok()
        };
        let (cpu, memory) = (read("cpu.stat"), read("memory.events"));
        Self {
            throttled_periods: keyed(&cpu, "nr_throttled"),
            throttled_usec: keyed(&cpu, "throttled_usec"),
            oom_kills: keyed(&memory, "oom_kill"),
        }
    }
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
    Usage {
        memory_bytes: memory.as_ref().map(|memory| memory.usage_in_bytes),
        // Kernels before 5.19 have no memory.peak.
        memory_peak_bytes: memory
            .as_ref()
            .map(|memory| memory.max_usage_in_bytes)
            .filter(|peak| *peak > 0),
        cpu_usec: cpu.and_then(|cpu| {
            let line = cpu.stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            line.trim().parse().ok()
        }),
        pids: cgroup.controller_of::<PidController>().and_then(|pids| pids.get_pid_current().ok()),
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
                ("pids.current", "3\n"),
            ],
        );
        let expected = Usage {
            memory_bytes: Some(4096),
            memory_peak_bytes: Some(8192),
            cpu_usec: Some(1234),
            pids: Some(3),
        };
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn what_the_limits_did_is_read_where_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Strain::read(directory.path()), Strain::default());
        write(
            directory.path(),
            &[
                ("cpu.stat", "usage_usec 9\nnr_periods 5\nnr_throttled 2\nthrottled_usec 700\n"),
                ("memory.events", "low 0\noom 1\noom_kill 3\noom_group_kill 0\n"),
            ],
        );
        let expected =
            Strain { throttled_periods: Some(2), throttled_usec: Some(700), oom_kills: Some(3) };
        assert_eq!(Strain::read(directory.path()), expected);
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
