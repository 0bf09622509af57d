//! A policy's limits, written and read back.

use super::{Cgroup, CgroupError, Controller, disks};
use crate::policy::{DiskMax, IoMax, Limits};

/// What one limit is, by the kernel's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) controller: Controller,
    /// `memory.max 67108864`, as read back.
    pub(crate) value: String,
}

impl Cgroup {
    /// Writes the limits of the controllers in `given`, before any process is in the cgroup, and
    /// reads each back.
    pub(crate) fn limit(
        &self,
        limits: &Limits,
        given: &[Controller],
    ) -> Result<Vec<Written>, CgroupError> {
        let mut written = Vec::new();
        for &controller in given {
            let mut values = Vec::new();
            match controller {
                Controller::Memory => {
                    if let Some(max) = limits.memory {
                        values.push(self.set("memory.max", &page_floor(max).to_string())?);
                        // No `memory.high`: without swap, what it makes the kernel reclaim is the
                        // program's own text, which is read again and again; a program that
                        // outgrew its memory then hung for seconds before it died.
                        self.set_if_there("memory.swap.max", "0")?;
                    }
                    // Half a program is worse than none.
                    self.set_if_there("memory.oom.group", "1")?;
                }
                Controller::Pids => {
                    if let Some(max) = limits.pids {
                        // One more for our init.
                        values.push(self.set("pids.max", &(u64::from(max) + 1).to_string())?);
                    }
                }
                Controller::Cpu => {
                    if let Some(cpu) = limits.cpu {
                        values.push(
                            self.set("cpu.max", &format!("{} {}", cpu.quota_us, cpu.period_us))?,
                        );
                    }
                }
                Controller::Io => {
                    if let Some(max) = limits.disks {
                        values.extend(self.limit_disks(max)?);
                    }
                    // After those of all disks: what is said of one in particular counts.
                    for device in &limits.io {
                        values.push(self.limit_device(device)?);
                    }
                }
            }
            if !values.is_empty() {
                written.push(Written { controller, value: values.join(", ") });
            }
        }
        Ok(written)
    }

    fn limit_disks(&self, max: DiskMax) -> Result<Vec<String>, CgroupError> {
        let disks = disks::disks()
            .map_err(|error| CgroupError::io("listing", disks::BLOCK_DEVICES, error))?;
        if disks.is_empty() {
            return Ok(vec!["io.max of no disk: this machine has none".to_owned()]);
        }
        let DiskMax { rbps, wbps, riops, wiops } = max;
        let mut values = Vec::new();
        for device in disks {
            match self.limit_device(&IoMax { device, rbps, wbps, riops, wiops }) {
                // It was taken out meanwhile.
                Err(CgroupError::Io { source, .. })
                    if source.raw_os_error() == Some(libc::ENODEV) => {}
                value => values.push(value?),
            }
        }
        Ok(values)
    }

    fn limit_device(&self, device: &IoMax) -> Result<String, CgroupError> {
        let word = |value: Option<u64>| value.map_or("max".to_owned(), |v| v.to_string());
        let line = format!(
            "{} rbps={} wbps={} riops={} wiops={}",
            device.device,
            word(device.rbps),
            word(device.wbps),
            word(device.riops),
            word(device.wiops)
        );
        self.write("io.max", &line)?;
        let found = self.read("io.max").unwrap_or_default();
        // The kernel lists only devices that have a limit.
        let unlimited = [device.rbps, device.wbps, device.riops, device.wiops] == [None; 4];
        if !unlimited && !found.lines().any(|kept| kept == line) {
            let path = self.path().join("io.max");
            return Err(CgroupError::NotKept { path, wanted: line, found });
        }
        Ok(format!("io.max {line}"))
    }

    fn set(&self, file: &str, value: &str) -> Result<String, CgroupError> {
        self.write(file, value)?;
        let found = self.read(file).unwrap_or_default();
        if found != value {
            let (path, wanted) = (self.path().join(file), value.to_owned());
            return Err(CgroupError::NotKept { path, wanted, found });
        }
        Ok(format!("{file} {found}"))
    }

    /// For files that depend on how the kernel was built (swap).
    fn set_if_there(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        if self.path().join(file).exists() { self.set(file, value).map(|_| ()) } else { Ok(()) }
    }
}

/// The memory controller counts in pages and rounds down.
pub(super) fn page_floor(bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    bytes / PAGE * PAGE
}
