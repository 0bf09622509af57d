//! How much one compartment can be given, and that each resource which every plugin has a limit of has one.

use super::FloorViolation;
use crate::policy::{CpuMax, DiskMax, Limits};

/// The most that a request can have for one compartment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Percent of one CPU. `None`: any share, but no request without one.
    pub cpu: Option<u64>,
    /// Bytes of the largest file. `None`: any size, but no request without one.
    pub file_size: Option<u64>,
    /// Of each block device. What is `None` here can be absent in a request, too: not every machine
    /// has the controller.
    pub disks: DiskMax,
}

impl Ceilings {
    /// Holds the limits of a request against these, and refuses one that leaves memory, processes, CPU
    /// time or the size of a file unlimited.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), FloorViolation> {
        within("memory", limits.memory, None)?;
        within("pids", limits.pids.map(u64::from), None)?;
        within("cpu", limits.cpu.and_then(percent), self.cpu)?;
        within("storage", limits.file_size, self.file_size)?;
        // It would take the place of what `disks` says.
        if !limits.io.is_empty() {
            return Err(FloorViolation::Devices);
        }
        let (asked, most) = (limits.disks.unwrap_or_default(), self.disks);
        for (what, asked, most) in [
            ("io_read", asked.rbps, most.rbps),
            ("io_write", asked.wbps, most.wbps),
            ("io_read_ops", asked.riops, most.riops),
            ("io_write_ops", asked.wiops, most.wiops),
        ] {
            if most.is_some() {
                within(what, asked, most)?;
            }
        }
        Ok(())
    }
}

/// Rounded up, so that a little more than a ceiling is more. `None`: a period of nothing is no limit.
fn percent(cpu: CpuMax) -> Option<u64> {
    let hundredfold = u128::from(cpu.quota_us) * 100;
    let period = u128::from(cpu.period_us);
    (period > 0).then(|| u64::try_from(hundredfold.div_ceil(period)).unwrap_or(u64::MAX))
}

fn within(what: &'static str, asked: Option<u64>, most: Option<u64>) -> Result<(), FloorViolation> {
    let Some(asked) = asked else { return Err(FloorViolation::Unlimited { what }) };
    match most {
        Some(limit) if asked > limit => Err(FloorViolation::TooMuch { what, asked, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::IoMax;

    type Change = fn(&mut Limits);

    /// Limits as each plugin has them, none of which is more than [`ceilings`].
    fn limits() -> Limits {
        let disk = DiskMax { rbps: Some(100), wbps: Some(99), riops: Some(1), wiops: Some(2) };
        Limits {
            cpu: Some(CpuMax::percent(150)),
            file_size: Some(1 << 20),
            disks: Some(disk),
            ..Limits::default()
        }
    }

    fn ceilings() -> Ceilings {
        let disks = DiskMax { rbps: Some(100), wbps: None, riops: None, wiops: Some(2) };
        Ceilings { cpu: Some(150), file_size: Some(1 << 20), disks }
    }

    #[test]
    fn nothing_that_every_plugin_has_a_limit_of_is_unlimited() {
        let bare = Limits { disks: None, ..limits() };
        Ceilings::default().check(&bare).unwrap();
        let cases: [(&str, Change); 5] = [
            ("memory", |it| it.memory = None),
            ("pids", |it| it.pids = None),
            ("cpu", |it| it.cpu = None),
            ("cpu", |it| it.cpu = Some(CpuMax { quota_us: 1000, period_us: 0 })),
            ("storage", |it| it.file_size = None),
        ];
        for (what, change) in cases {
            let mut limits = bare.clone();
            change(&mut limits);
            let refused = Ceilings::default().check(&limits).unwrap_err();
            assert_eq!(refused, FloorViolation::Unlimited { what });
        }
    }

    #[test]
    fn a_ceiling_is_the_most_that_can_be_had_and_needs_a_limit() {
        ceilings().check(&limits()).unwrap();
        let cases: [(&str, u64, u64, Change); 5] = [
            ("cpu", 151, 150, |it| {
                it.cpu = Some(CpuMax { quota_us: 150_001, period_us: 100_000 });
            }),
            ("cpu", u64::MAX, 150, |it| {
                it.cpu = Some(CpuMax { quota_us: u64::MAX, period_us: 1 });
            }),
            ("storage", (1 << 20) + 1, 1 << 20, |it| it.file_size = Some((1 << 20) + 1)),
            ("io_read", 101, 100, |it| it.disks.as_mut().unwrap().rbps = Some(101)),
            ("io_write_ops", 3, 2, |it| it.disks.as_mut().unwrap().wiops = Some(3)),
        ];
        for (what, asked, limit, change) in cases {
            let mut limits = limits();
            change(&mut limits);
            let refused = ceilings().check(&limits).unwrap_err();
            assert_eq!(refused, FloorViolation::TooMuch { what, asked, limit });
        }
        let without = Limits { disks: None, ..limits() };
        let refused = ceilings().check(&without).unwrap_err();
        assert_eq!(refused, FloorViolation::Unlimited { what: "io_read" });
        // What has no ceiling can be had, and left out.
        let mut free = limits();
        free.disks.as_mut().unwrap().wbps = Some(u64::MAX);
        free.disks.as_mut().unwrap().riops = None;
        ceilings().check(&free).unwrap();
    }

    #[test]
    fn no_request_has_limits_of_a_single_device() {
        let device = "8:0".to_owned();
        let io = vec![IoMax { device, rbps: Some(1), wbps: None, riops: None, wiops: None }];
        let refused = Ceilings::default().check(&Limits { io, ..limits() }).unwrap_err();
        assert_eq!(refused, FloorViolation::Devices);
    }
}
