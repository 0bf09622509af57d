//! `[limits]`: what the plugin may use at most. An administrator's own ([`crate::config::Ceilings`]) bound what
//! can be asked for, and stand in where no limit of disks is.

use bulkhead_sandbox::DiskMax;
use bulkhead_sandbox::floors::MAX_NOFILE;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, CpuShare};

/// What has no default here is bounded where the administrator says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Resident memory, page cache and tmpfs of all its processes: `memory.max`.
    pub(crate) memory: ByteSize,
    /// Of one CPU, over periods of 100 ms: `cpu.max`.
    pub(crate) cpu: CpuShare,
    /// Processes and threads: `pids.max`. The compartment's own init is not counted.
    pub(crate) pids: u32,
    /// The largest file that it can write: `RLIMIT_FSIZE`. To bound the sum takes a quota.
    pub(crate) storage: ByteSize,
    /// Descriptors of each process: `RLIMIT_NOFILE`.
    pub(crate) open_files: u64,
    /// Bytes in a second from each disk, and to each: `io.max`. None: the administrator's, if there is
    /// one; as the next two.
    pub(crate) io_read: Option<ByteSize>,
    pub(crate) io_write: Option<ByteSize>,
    /// Operations in a second.
    pub(crate) io_read_ops: Option<u32>,
    pub(crate) io_write_ops: Option<u32>,
}

/// The least that can be asked for: less would hold back the plugin's own start.
const LEAST_IO: ByteSize = ByteSize::new(64 << 10);
/// The kernel takes the largest number of 32 bits for no limit.
const IO_OPS: std::ops::RangeInclusive<u32> = 16..=1_000_000_000;

impl Default for Limits {
    fn default() -> Self {
        let size = |text: &str| text.parse().expect("a size, written here");
        Self {
            memory: size("64M"),
            cpu: "100%".parse().expect("a cpu share, written here"),
            pids: 64,
            storage: size("256M"),
            open_files: 256,
            io_read: None,
            io_write: None,
            io_read_ops: None,
            io_write_ops: None,
        }
    }
}

impl Limits {
    /// What a plugin cannot start with. The field at fault, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.pids == 0 {
            return Err(("pids", "0 processes cannot run a plugin; at least 1".into()));
        }
        if !(16..=MAX_NOFILE).contains(&self.open_files) {
            return Err((
                "open_files",
                format!("{} is not between 16 and {MAX_NOFILE}", self.open_files),
            ));
        }
        let least = 1 << 20;
        if self.memory.bytes() < least {
            return Err((
                "memory",
                format!("{} is less than a process needs to start; at least 1M", self.memory),
            ));
        }
        for (field, rate) in [("io_read", self.io_read), ("io_write", self.io_write)] {
            if let Some(rate) = rate.filter(|rate| *rate < LEAST_IO) {
                let why = format!("{rate} a second holds back its own start; at least {LEAST_IO}");
                return Err((field, why));
            }
        }
        for (field, rate) in
            [("io_read_ops", self.io_read_ops), ("io_write_ops", self.io_write_ops)]
        {
            if let Some(rate) = rate.filter(|rate| !IO_OPS.contains(rate)) {
                let (least, most) = IO_OPS.into_inner();
                return Err((field, format!("{rate} a second is not between {least} and {most}")));
            }
        }
        Ok(())
    }

    /// Of each disk, if anything of it is limited.
    pub(super) fn disks(&self) -> Option<DiskMax> {
        let max = DiskMax {
            rbps: self.io_read.map(ByteSize::bytes),
            wbps: self.io_write.map(ByteSize::bytes),
            riops: self.io_read_ops.map(u64::from),
            wiops: self.io_write_ops.map(u64::from),
        };
        (max != DiskMax::default()).then_some(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_finite_and_hold() {
        let limits: Limits = toml::from_str("").unwrap();
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.memory.bytes(), 64 << 20);
        assert_eq!(limits.check(), Ok(()));
    }

    #[test]
    fn limits_that_no_process_survives_are_refused() {
        for (text, field) in [
            ("pids = 0", "pids"),
            ("open_files = 3", "open_files"),
            ("memory = '4K'", "memory"),
            ("io_read = '63K'", "io_read"),
            ("io_write = 1", "io_write"),
            ("io_read_ops = 15", "io_read_ops"),
            ("io_write_ops = 4294967295", "io_write_ops"),
        ] {
            let limits: Limits = toml::from_str(text).unwrap();
            assert_eq!(limits.check().unwrap_err().0, field);
        }
    }
}
