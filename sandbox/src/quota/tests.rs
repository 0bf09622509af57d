use std::fs::File;
use std::os::fd::AsFd as _;

use nix::unistd::geteuid;

use super::*;

#[test]
fn a_quota_crosses_the_pipe_as_it_is() {
    for quota in [
        Quota::default(),
        Quota {
            limit_bytes: Some(1 << 30),
            limit_files: None,
            used_bytes: 7,
            used_files: u64::MAX,
        },
        Quota { limit_bytes: None, limit_files: Some(1024), used_bytes: 1 << 40, used_files: 1 },
    ] {
        assert_eq!(Quota::from_bytes(quota.to_bytes()), quota);
    }
}

#[test]
fn the_kernels_zero_is_no_limit_and_its_blocks_are_of_1024_bytes() {
    // SAFETY: plain integers.
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    assert_eq!(Quota::from(&found), Quota::default());
    found.dqb_bhardlimit = 16;
    found.dqb_ihardlimit = 3;
    found.dqb_curspace = 5000;
    let quota = Quota::from(&found);
    assert_eq!((quota.limit_bytes, quota.limit_files), (Some(16 << 10), Some(3)));
    assert_eq!(quota.used_bytes, 5000, "what is used is in bytes");
}

#[test]
fn where_there_are_no_quotas_nobody_has_one() {
    let proc = File::open("/proc/self").unwrap();
    assert_eq!(state(proc.as_fd()), State::Off);
    assert!(of(proc.as_fd(), geteuid().as_raw()).is_err());
    // The failure of the process that asks comes back as what it was.
    if geteuid().is_root() {
        assert_eq!(seen_by(proc.as_fd(), 1_900_000_001), of(proc.as_fd(), 0));
    } else {
        assert_eq!(seen_by(proc.as_fd(), 1_900_000_001), Err(Errno::EPERM));
    }
}
