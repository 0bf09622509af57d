//! `[limits]`: what the plugin may use at most. An operator can only lower them.

use bulkhead_sandbox::floors::MAX_NOFILE;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, CpuShare};

/// Every field has a default, so no plugin is without a limit.
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
}

impl Default for Limits {
    fn default() -> Self {
        let size = |text: &str| text.parse().expect("a size, written here");
        Self {
            memory: size("64M"),
            cpu: "100%".parse().expect("a cpu share, written here"),
            pids: 64,
            storage: size("256M"),
            open_files: 256,
        }
    }
}

impl Limits {
    /// What a plugin cannot start with. The field at fault, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
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
        Ok(())
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
        for (text, field) in
            [("pids = 0", "pids"), ("open_files = 3", "open_files"), ("memory = '4K'", "memory")]
        {
            let limits: Limits = toml::from_str(text).unwrap();
            assert_eq!(limits.check().unwrap_err().0, field);
        }
    }
}
