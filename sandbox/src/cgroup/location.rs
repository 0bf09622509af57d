//! Where the v2 hierarchy is mounted, and where in it we are.

use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// The directory of our own cgroup, as this mount namespace shows it.
pub(super) fn own() -> Result<PathBuf, CgroupError> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|source| CgroupError::io("reading", path, source))
    };
    let mount = mount_point(&read("/proc/self/mountinfo")?).ok_or(CgroupError::NotMounted)?;
    let path = own_path(&read("/proc/self/cgroup")?).ok_or(CgroupError::NotMounted)?;
    Ok(mount.directory(&path))
}

/// The topmost directory of the hierarchy that this mount namespace shows.
pub(crate) fn mounted() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    Some(mount_point(&text)?.point)
}

/// One cgroup2 mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The cgroup that is visible at the mount point (`/` but for bind mounts and containers).
    root: PathBuf,
    point: PathBuf,
}

impl Mounted {
    pub(super) fn directory(&self, cgroup: &Path) -> PathBuf {
        let relative = cgroup.strip_prefix(&self.root).or_else(|_| cgroup.strip_prefix("/"));
        match relative {
            Ok(relative) if relative.as_os_str().is_empty() => self.point.clone(),
            Ok(relative) => self.point.join(relative),
            Err(_) => self.point.clone(),
        }
    }
}

/// The first cgroup2 line of a mountinfo (proc_pid_mountinfo(5)).
pub(super) fn mount_point(mountinfo: &str) -> Option<Mounted> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = before.split(' ');
        let root = fields.nth(3)?;
        let point = fields.next()?;
        Some(Mounted { root: unescape(root), point: unescape(point) })
    })
}

/// The path on the `0::` line of /proc/PID/cgroup (cgroups(7)).
pub(super) fn own_path(cgroup: &str) -> Option<PathBuf> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escaped, plain);
    }
    PathBuf::from(text)
}
