//! The private root: what exists in the compartment.
//!
//! Planned before the clone, with every string made; built by the child with nothing but the calls
//! of [`crate::syscall`]. It is one small tmpfs: directories and links are made in it, sources are
//! attached, `/tmp` is a second, writable view of one of its directories, and then the root itself is
//! made read-only.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::floors::FloorViolation;
use crate::policy::{Access, Filesystem};
use crate::report::Report;
use crate::stage::Stage;
use crate::syscall::{self, Call};

/// Where the new root may be mounted, to become the root from there: any directory but /proc, which
/// must stay visible for the kernel to give us one.
const STAGING: [&CStr; 3] = [c"/tmp", c"/mnt", c"/usr"];
/// The file by which Landlock is checked: it can be read, until Landlock is in force.
pub(crate) const CANARY: &CStr = c"/.canary";

/// Nothing in a mount is a device or set-user-id.
const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Everything that is needed to build the root.
#[derive(Debug)]
pub(crate) struct Root {
    staging: &'static CStr,
    /// Data of the tmpfs: size, inodes, mode.
    options: CString,
    /// Directories, files and links, in the order in which they are made. Relative to the root.
    entries: Vec<Entry>,
    pub(crate) mounts: Vec<Planned>,
    has_tmp: bool,
    proc: ProcMount,
    host_name: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    Directory(CString),
    File(CString),
    /// What the mount of that index is attached to: a directory or a file, as its source is.
    Target(usize),
    Link {
        content: CString,
        path: CString,
    },
}

/// One source and where it goes.
#[derive(Debug)]
pub(crate) struct Planned {
    source: CString,
    /// Relative to the root.
    target: CString,
    attributes: u64,
    /// No part of the source may be a symbolic link: it was judged as the path that it is.
    plain: bool,
}

impl Planned {
    /// The source, for an error.
    pub(crate) fn source(&self) -> String {
        self.source.to_string_lossy().into_owned()
    }

    /// The target, for an error.
    pub(crate) fn target(&self) -> String {
        format!("/{}", self.target.to_string_lossy())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcMount {
    No,
    Required,
    /// Its lack is reported, not fatal.
    Wanted,
}

/// Device nodes that programs take for granted and that lead nowhere.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// The system directories that a compartment shows, below `/`. On a merged-/usr machine all but the
/// first are links into it.
pub const SYSTEM: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];

/// Whether a path is one of these, or beneath it.
pub fn is_system(path: &Path) -> bool {
    let inside = path.strip_prefix("/");
    inside.is_ok_and(|inside| SYSTEM.iter().any(|name| inside.starts_with(name)))
}

impl Root {
    pub(crate) fn plan(
        filesystem: &Filesystem,
        host_name: &str,
        proc_required: bool,
    ) -> Result<Root, FloorViolation> {
        let is_directory = |path: &CStr| {
            fs::metadata(OsStr::from_bytes(path.to_bytes())).is_ok_and(|at| at.is_dir())
        };
        let mut root = Root {
            staging: STAGING.into_iter().find(|path| is_directory(path)).unwrap_or(c"/tmp"),
            options: options(filesystem.tmp_bytes),
            entries: Vec::new(),
            mounts: Vec::new(),
            has_tmp: filesystem.tmp_bytes > 0,
            proc: match (filesystem.proc, proc_required) {
                (false, _) => ProcMount::No,
                (true, true) => ProcMount::Required,
                (true, false) => ProcMount::Wanted,
            },
            host_name: host_name.as_bytes().to_vec(),
        };
        root.entries.push(Entry::File(c".canary".to_owned()));
        root.entries.push(Entry::Directory(c"dev".to_owned()));
        for device in DEVICES {
            let path = Path::new("/dev").join(device);
            // A container's /dev may be smaller than usual.
            if !path.exists() {
                continue;
            }
            root.mount(&path, &path, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?;
        }
        if root.has_tmp {
            root.entries.push(Entry::Directory(c"tmp".to_owned()));
            let (content, path) = (c"/tmp".to_owned(), c"dev/shm".to_owned());
            root.entries.push(Entry::Link { content, path });
        }
        if filesystem.proc {
            root.entries.push(Entry::Directory(c"proc".to_owned()));
        }
        if filesystem.system {
            root.system()?;
        }
        for mount in &filesystem.mounts {
            crate::floors::plain(&mount.source)?;
            crate::floors::plain(&mount.target)?;
            let attributes = match filesystem.access(mount, true) {
                Access::ReadOnly => libc::MOUNT_ATTR_RDONLY | SAFE,
                Access::ReadData => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC | SAFE,
                Access::ReadWrite => libc::MOUNT_ATTR_NOEXEC | SAFE,
            };
            // It is the child that looks at the source: of a file system that does not answer, it is the child
            // that waits, and can be killed.
            root.mount(&mount.source, &mount.target, attributes)?;
            root.mounts.last_mut().expect("it was just added").plain = true;
        }
        Ok(root)
    }

    fn system(&mut self) -> Result<(), FloorViolation> {
        for name in SYSTEM {
            let path = Path::new("/").join(name);
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.is_symlink() {
                if let Ok(content) = fs::read_link(&path) {
                    let (content, path) = (terminated(&content)?, relative(&path)?);
                    self.entries.push(Entry::Link { content, path });
                }
            } else if found.is_dir() {
                self.mount(&path, &path, libc::MOUNT_ATTR_RDONLY | SAFE)?;
            }
        }
        let etc = Path::new("/etc");
        if !etc.is_dir() {
            return Ok(());
        }
        self.mount(etc, etc, libc::MOUNT_ATTR_RDONLY | SAFE | libc::MOUNT_ATTR_NOEXEC)
    }

    fn mount(
        &mut self,
        source: &Path,
        target: &Path,
        attributes: u64,
    ) -> Result<(), FloorViolation> {
        if target == Path::new("/") {
            return Err(FloorViolation::Target { target: target.to_owned() });
        }
        let mut made = PathBuf::new();
        let parts: Vec<_> = target
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        // A target beneath an earlier mount must exist there already: the root alone can be written.
        let beneath = self.mounts.iter().any(|earlier| {
            let earlier = Path::new(OsStr::from_bytes(earlier.target.as_bytes()));
            target.strip_prefix("/").is_ok_and(|target| target.starts_with(earlier))
        });
        for (index, part) in parts.iter().enumerate() {
            made.push(part);
            if beneath {
                continue;
            }
            self.entries.push(if index + 1 == parts.len() {
                Entry::Target(self.mounts.len())
            } else {
                Entry::Directory(terminated(&made)?)
            });
        }
        self.mounts.push(Planned {
            source: terminated(source)?,
            target: terminated(&made)?,
            attributes,
            plain: false,
        });
        Ok(())
    }

    /// Child, before its ids change: holds every source open. By path, in our own mount namespace; a
    /// descriptor of the launcher's would be of another namespace (EINVAL). Recursive, as a part of a
    /// machine's tree cannot be shown without what is mounted on it (EINVAL).
    pub(crate) fn open_sources(&self, report: &Report, trees: &mut [Option<OwnedFd>]) -> Call {
        for (index, (mount, tree)) in self.mounts.iter().zip(trees).enumerate() {
            report.begin(Stage::Sources, index);
            let clone = if mount.plain { syscall::clone_plain_tree } else { syscall::clone_tree };
            *tree = Some(clone(&mount.source)?);
        }
        Ok(())
    }

    /// Child, after its ids have changed (before, the tmpfs could not hold a file of ours:
    /// EOVERFLOW): builds the root and enters it.
    pub(crate) fn build(&self, report: &Report, trees: &mut [Option<OwnedFd>]) -> Call {
        report.begin(Stage::Root, 0);
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        syscall::mount(c"tmpfs", self.staging, flags, &self.options)?;
        syscall::enter(self.staging)?;
        // What is made here is for all to read, whatever the mask that we were started with.
        syscall::set_umask(0);
        for entry in &self.entries {
            match entry {
                Entry::Directory(path) => syscall::make_directory(path, 0o755)?,
                Entry::File(path) => syscall::make_file(path, 0o444)?,
                Entry::Link { content, path } => syscall::make_link(content, path)?,
                Entry::Target(index) => {
                    let target = &self.mounts[*index].target;
                    match &trees[*index] {
                        Some(tree) if !syscall::is_directory(tree.as_fd())? => {
                            syscall::make_file(target, 0o444)?;
                        }
                        _ => syscall::make_directory(target, 0o755)?,
                    }
                }
            }
        }
        for (index, (mount, tree)) in self.mounts.iter().zip(trees).enumerate() {
            report.begin(Stage::Mount, index);
            if let Some(tree) = tree.take() {
                syscall::attach(tree.as_fd(), &mount.target)?;
                syscall::set_attributes(tree.as_fd(), mount.attributes, true)?;
            }
        }
        if self.has_tmp {
            // A second mount of the same tmpfs stays writable when the root no longer is.
            report.begin(Stage::Root, 1);
            let tmp = syscall::clone_tree(c"tmp")?;
            syscall::attach(tmp.as_fd(), c"tmp")?;
        }
        if self.proc != ProcMount::No {
            report.begin(Stage::Proc, 0);
            // Before the old root goes: the kernel allows it only where a whole /proc is visible.
            match syscall::mount(c"proc", c"proc", flags, c"") {
                Err(errno) if self.proc == ProcMount::Wanted => report.no_proc(errno),
                other => other?,
            }
        }
        report.begin(Stage::Pivot, 0);
        syscall::pivot_here()?;
        syscall::enter(c"/")?;
        let root = syscall::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?;
        syscall::set_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, false)?;
        report.begin(Stage::HostName, 0);
        syscall::set_host_name(&self.host_name)
    }
}

/// Inodes are bounded with the bytes: an empty file costs the kernel about 1 KiB that size= does not
/// count.
fn options(tmp_bytes: u64) -> CString {
    let inodes = (tmp_bytes / 4096).clamp(128, 65_536);
    let size = tmp_bytes.max(4096);
    CString::new(format!("mode=0755,size={size},nr_inodes={inodes}")).expect("digits hold no NUL")
}

fn relative(path: &Path) -> Result<CString, FloorViolation> {
    terminated(path.strip_prefix("/").unwrap_or(path))
}

pub(crate) fn terminated(path: &Path) -> Result<CString, FloorViolation> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| FloorViolation::Path { path: path.to_owned() })
}
