//! Opening files beneath one directory, whatever lies there.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sandbox::mount_id::MountId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::time::{ClockId, clock_gettime};

/// Opens `path` beneath `root`: no symbolic link (ELOOP), no other mount (EXDEV) and no `..` (EXDEV) is
/// followed on the way. O_NONBLOCK, so that opening a FIFO does not wait for a writer.
///
/// One part at a time, as openat2(2), which does this in one call, is refused where systemd's
/// RestrictSUIDSGID= is set: its filter cannot see the mode.
pub(super) fn open_beneath(root: impl AsFd, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let parts = path.split('/');
    if parts.clone().any(|part| matches!(part, "" | "." | "..")) {
        return Err(Errno::EXDEV);
    }
    let mount = MountId::of(root.as_fd())?;
    let mut at = open_at(&root, ".", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mut last = "";
    for part in parts {
        if !last.is_empty() {
            at = open_at(&at, last, OFlag::O_PATH)?;
            if Kind::of(&fstat(&at)?) == Kind::LINK {
                return Err(Errno::ELOOP);
            }
            if MountId::of(at.as_fd())? != mount {
                return Err(Errno::EXDEV);
            }
        }
        last = part;
    }
    let file = open_at(&at, last, flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    if MountId::of(file.as_fd())? == mount { Ok(file) } else { Err(Errno::EXDEV) }
}

fn open_at(directory: impl AsFd, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat(directory, name, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}

/// What a file is, by the format bits of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    /// For a person.
    Other(&'static str),
}

impl Kind {
    const LINK: Self = Kind::Other("a symbolic link");

    pub(super) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::Regular,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Self::LINK,
            SFlag::S_IFIFO => Kind::Other("a FIFO"),
            SFlag::S_IFSOCK => Kind::Other("a socket"),
            SFlag::S_IFCHR | SFlag::S_IFBLK => Kind::Other("a device node"),
            _ => Kind::Other("of an unknown kind"),
        }
    }
}

/// Changes whenever the file's content may have changed: the kernel alone sets ctime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A tick of the clock that ctime is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(pub(super) i64, pub(super) i64);

impl Instant {
    pub(super) fn now() -> Option<Self> {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).ok()?;
        Some(Self(now.tv_sec(), now.tv_nsec()))
    }
}

impl Fingerprint {
    /// Whether any change from `then` on would show in it.
    pub(super) fn is_older(&self, then: Instant) -> bool {
        Instant(self.changed.0, self.changed.1) < then
    }

    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        Ok(Self::from_stat(&fstat(file)?))
    }

    pub(super) fn from_stat(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[test]
    fn nothing_is_reached_that_does_not_lie_beneath() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("root/bin")).unwrap();
        fs::write(at("root/bin/entry"), "inside").unwrap();
        fs::write(at("secret"), "outside").unwrap();
        symlink("../secret", at("root/link")).unwrap();
        symlink("bin", at("root/directory")).unwrap();
        let root = File::open(at("root")).unwrap();
        let open = |path| open_beneath(&root, path, OFlag::O_RDONLY);
        let mut text = String::new();
        File::from(open("bin/entry").unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        for path in ["link", "directory/entry"] {
            assert_eq!(open(path).unwrap_err(), Errno::ELOOP, "{path}");
        }
        for path in
            ["../secret", "bin/../../secret", "bin/../bin/entry", "/etc/passwd", "", "bin//entry"]
        {
            assert_eq!(open(path).unwrap_err(), Errno::EXDEV, "{path}");
        }
        assert_eq!(open("bin/other").unwrap_err(), Errno::ENOENT);
        assert_eq!(open("bin/entry/more").unwrap_err(), Errno::ENOTDIR);
        // Another mount is another place.
        let root = File::open("/").unwrap();
        assert_eq!(
            open_beneath(&root, "proc/self/status", OFlag::O_RDONLY).unwrap_err(),
            Errno::EXDEV
        );
    }

    /// Where `script` has made and mounted a `root`, for as long as the process is not ended; none where
    /// this test, `name`, may not mount.
    fn mounted(name: &str, script: &str) -> Option<(tempfile::TempDir, Child, File)> {
        let directory = tempfile::tempdir().unwrap();
        // In a file system of its own, as not every one can be beneath an overlay.
        let script = format!("mount -t tmpfs none $1 && cd $1 && {script} && echo && exec cat");
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = child.stdout.as_mut().unwrap().read(&mut [0]).unwrap();
        if ready == 0 {
            child.wait().unwrap();
            println!("SKIP {name}: mounts cannot be made here");
            return None;
        }
        let root = format!("/proc/{}/root{}/root", child.id(), directory.path().display());
        let root = File::open(root).unwrap();
        Some((directory, child, root))
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn the_same_file_system_mounted_once_more_is_another_place() {
        let script = "mkdir -p root/bin root/open other && touch root/open/file other/file root/bound \
                      && mount --bind other root/bin && mount --bind other/file root/bound";
        let Some((_directory, child, root)) =
            mounted("the_same_file_system_mounted_once_more_is_another_place", script)
        else {
            return;
        };
        let open = |path| open_beneath(&root, path, OFlag::O_RDONLY).map(drop);
        assert_eq!(open("open/file"), Ok(()));
        for path in ["bin/file", "bin", "bound"] {
            assert_eq!(open(path), Err(Errno::EXDEV), "{path}");
        }
        end(child);
    }

    #[test]
    fn files_of_an_overlay_lie_where_its_directories_do() {
        // Of two file systems, else it can give all the same device.
        let script = "mkdir -p lower upper work root && mount -t tmpfs none lower \
                      && mkdir lower/bin && touch lower/bin/file && mount -t overlay none root \
                      -o lowerdir=lower,upperdir=upper,workdir=work,xino=off";
        let Some((_directory, child, root)) =
            mounted("files_of_an_overlay_lie_where_its_directories_do", script)
        else {
            return;
        };
        assert_eq!(open_beneath(&root, "bin/file", OFlag::O_RDONLY).map(drop), Ok(()));
        end(child);
    }
}
