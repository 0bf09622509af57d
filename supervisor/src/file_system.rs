//! The file system that a directory lies on, and what there is to do for it to bound what each user
//! keeps there.

use std::fmt;
use std::fs::{File, read_to_string};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use bulkhead_sandbox::quota::State;
use serde::Serialize;

/// A file system as it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FileSystem {
    /// `ext4`, `xfs`, …
    #[serde(rename = "filesystem")]
    pub(crate) kind: String,
    pub(crate) mount: PathBuf,
    /// The device, where it has one.
    pub(crate) source: String,
}

/// A directory on a file system, open.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) file_system: FileSystem,
    directory: File,
}

impl Place {
    /// A directory, or what there is of the way to it.
    pub(crate) fn nearest(path: &Path) -> io::Result<Self> {
        let mut opened = Self::open(path);
        for above in path.ancestors().skip(1) {
            match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => opened = Self::open(above),
                other => return other,
            }
        }
        opened
    }

    /// A directory that is there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        let info = read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd()))?;
        let mounts = read_to_string("/proc/self/mountinfo")?;
        let file_system = mount_of(&info).and_then(|id| find(&mounts, id)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "its mount is not in /proc/self/mountinfo")
        })?;
        Ok(Self { path: path.to_owned(), file_system, directory })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl FileSystem {
    /// Whether the lot of [`FileSystem::remedy`] is to turn something on, and not to go elsewhere.
    pub(crate) fn has_quotas(&self) -> bool {
        matches!(self.kind.as_str(), "ext2" | "ext3" | "ext4" | "f2fs" | "tmpfs" | "xfs")
    }

    /// What makes it enforce limits of users; `None`: it does.
    pub(crate) fn remedy(&self, state: State) -> Option<String> {
        let Self { kind, mount, source } = self;
        let shown = mount.display();
        Some(match (kind.as_str(), state) {
            (_, State::Enforced) => return None,
            ("ext4", State::Counted) => format!(
                "add `usrquota` to the options of {shown} in /etc/fstab, and until the next boot run \
                 `quotaon -u {shown}`"
            ),
            ("ext4", State::Off) if mount == Path::new("/") => {
                "from a rescue system, with it unmounted, run `tune2fs -O quota -Q usrquota` on its device, \
                 and add `usrquota` to the options of / in /etc/fstab; or give the state a file system \
                 of its own"
                    .to_owned()
            }
            ("ext4", State::Off) => format!(
                "with {shown} unmounted run `tune2fs -O quota -Q usrquota {source}`, add `usrquota` \
                 to its options in /etc/fstab and mount it again"
            ),
            ("xfs", _) => format!(
                "add `uquota` to the options of {shown} in /etc/fstab (of the root file system: \
                 `rootflags=uquota` on the kernel's command line) and mount it anew; a remount does \
                 not turn it on"
            ),
            ("f2fs" | "ext3" | "ext2" | "tmpfs", _) => {
                format!("mount {shown} with the option `usrquota`, where the kernel has it")
            }
            _ => format!(
                "{kind} on {shown} has no limits of users; put `state` of bulkhead.toml onto an ext4 \
                 or XFS file system that has"
            ),
        })
    }
}

/// `/dev/sda1 (ext4) on /var`
impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mount, source } = self;
        write!(f, "{source} ({kind}) on {}", mount.display())
    }
}

/// The number of the mount, of `/proc/PID/fdinfo/N` (proc_pid_fdinfo(5)).
fn mount_of(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim)
}

/// Its line in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): number, parent, device, root, mount, options,
/// any number of fields, a dash, type, source, options.
fn find(mounts: &str, id: &str) -> Option<FileSystem> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id))?;
    let (mount, file_system) = line.split_once(" - ")?;
    let mount = unescaped(mount.split(' ').nth(4)?);
    let mut fields = file_system.split(' ');
    let kind = fields.next()?.to_owned();
    Some(FileSystem { kind, mount: mount.into(), source: unescaped(fields.next()?) })
}

/// Space, tab, line break and backslash are three octal digits there.
fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
31 22 0:27 / /var/lib/a\\040b rw - xfs /dev/mapper/vg-a\\134b rw,attr2\n\
40 22 8:33 / /srv rw - ext4 /dev/sdc1 rw\n\
131 22 0:28 /sub /data rw,nosuid master:2 propagate_from:3 - btrfs /dev/sdb rw\n";

    #[test]
    fn a_mount_is_found_by_its_number_and_nothing_else() {
        assert_eq!(mount_of("pos:\t0\nflags:\t02\nmnt_id:\t31\nino:\t2\n"), Some("31"));
        let found = find(MOUNTS, "31").unwrap();
        assert_eq!(found.mount, Path::new("/var/lib/a b"));
        assert_eq!(found.source, "/dev/mapper/vg-a\\b");
        assert_eq!(find(MOUNTS, "131").unwrap().kind, "btrfs");
        assert_eq!(find(MOUNTS, "3"), None);
    }

    #[test]
    fn our_own_directories_lie_somewhere() {
        assert_eq!(Place::open(Path::new("/proc")).unwrap().file_system.kind, "proc");
        let directory = tempfile::tempdir().unwrap();
        let there = Place::open(directory.path()).unwrap();
        let not_yet = Place::nearest(&directory.path().join("a/b")).unwrap();
        assert_eq!((&not_yet.path, &not_yet.file_system), (&there.path, &there.file_system));
    }

    #[test]
    fn what_there_is_to_do_names_the_mount() {
        for (id, state, words) in [
            ("22", State::Off, &["rescue system", "tune2fs -O quota -Q usrquota", "fstab"][..]),
            ("40", State::Off, &["/srv unmounted", "-Q usrquota /dev/sdc1", "fstab"]),
            ("22", State::Counted, &["usrquota", "quotaon -u /"]),
            ("31", State::Off, &["uquota", "/var/lib/a b", "remount"]),
            ("131", State::Off, &["btrfs on /data", "ext4 or XFS"]),
        ] {
            let remedy = find(MOUNTS, id).unwrap().remedy(state).unwrap();
            assert!(words.iter().all(|word| remedy.contains(word)), "{remedy}");
        }
        assert_eq!(find(MOUNTS, "22").unwrap().remedy(State::Enforced), None);
    }
}
