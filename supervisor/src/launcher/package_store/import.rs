//! Copying a directory into the store, a bounded piece at a time.
//!
//! Theory of operation. The source belongs to somebody else and may change or be hostile while it is
//! read, so each file is opened beneath the source's root without following a link, examined through
//! its descriptor, and hashed from the very bytes that are written. The copy grows in a hidden
//! directory of the store and becomes visible by one rename; whatever fails before leaves nothing
//! behind. The launcher's loop turns between two pieces, so that a large package delays no stop.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use sha2::{Digest as _, Sha256};

use super::sums::{Sum, Sums, check_path};
use super::tree::{Kind, open_beneath};
use crate::failure::{Code, Failure};
use crate::id::Digest;

/// The most files and directories of one package.
const MAX_ENTRIES: usize = 10_000;
/// The most bytes of one package's files together.
const MAX_BYTES: u64 = 1 << 30;
/// What one step copies at most: about ten milliseconds.
const PIECE: usize = 4 << 20;
const BUFFER: usize = 256 << 10;

/// A copy under way. Dropped before [`Import::step`] returned the sums, it removes what it wrote.
pub(crate) struct Import {
    source: PathBuf,
    root: OwnedFd,
    /// Owner of the source directory.
    owner: u32,
    target: HiddenDirectory,
    directories: Vec<String>,
    files: Vec<String>,
    current: Option<Copying>,
    entries: usize,
    bytes: u64,
    sums: Sums,
    buffer: Vec<u8>,
}

struct Copying {
    path: String,
    from: File,
    to: File,
    executable: bool,
    hash: Sha256,
}

/// A directory that exists only until it is renamed.
struct HiddenDirectory {
    path: PathBuf,
    descriptor: OwnedFd,
    keep: bool,
}

impl Drop for HiddenDirectory {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = crate::launcher::removal::remove_at_once(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a partial import stays behind");
        }
    }
}

/// A complete copy that only lacks its name.
pub(super) struct Copied {
    pub(super) sums: Sums,
    directory: HiddenDirectory,
}

impl Copied {
    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    /// It has its name now.
    pub(super) fn keep(mut self) {
        self.directory.keep = true;
    }
}

impl Import {
    /// `hidden` must not exist yet; it is on the store's file system.
    pub(super) fn begin(source: &Path, hidden: PathBuf) -> Result<Box<Self>, Failure> {
        if !source.is_absolute() {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("the directory {} is not an absolute path; give one", source.display()),
            )
            .with("path", source));
        }
        let root =
            open(source, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| unreadable(source, errno))?;
        let stat = fstat(&root).map_err(|errno| unreadable(source, errno))?;
        match fstatat(&root, "plugin.toml", AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(manifest) if Kind::of(&manifest) == Kind::Regular => {}
            Ok(_) => return Err(refused(source, "plugin.toml", "it is not a regular file")),
            Err(errno) => {
                return Err(Failure::new(
                    Code::NotFound,
                    format!(
                        "{} has no plugin.toml ({}); give the directory of a plugin",
                        source.display(),
                        errno.desc()
                    ),
                )
                .with("what", "manifest")
                .with("name", source.join("plugin.toml")));
            }
        }
        DirBuilder::new().mode(0o700).create(&hidden).map_err(|error| full(&hidden, &error))?;
        let descriptor =
            open(&hidden, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| full(&hidden, &errno.into()))?;
        Ok(Box::new(Self {
            source: source.to_owned(),
            root,
            owner: stat.st_uid,
            target: HiddenDirectory { path: hidden, descriptor, keep: false },
            directories: vec![String::new()],
            files: Vec::new(),
            current: None,
            entries: 0,
            bytes: 0,
            sums: Sums::default(),
            buffer: vec![0; BUFFER],
        }))
    }

    /// Does one bounded piece. `Some` when the copy is complete and on disk.
    pub(super) fn step(mut self: Box<Self>) -> Result<Progress, Failure> {
        if let Some(copying) = self.current.take() {
            self.copy(copying)?;
        } else if let Some(path) = self.files.pop() {
            self.open_file(path)?;
        } else if let Some(path) = self.directories.pop() {
            self.list(&path)?;
        } else {
            // The root is sealed last: it had to be written until here.
            self.seal("")?;
            let Self { sums, target, .. } = *self;
            return Ok(Progress::Complete(Copied { sums, directory: target }));
        }
        Ok(Progress::More(self))
    }

    fn list(&mut self, path: &str) -> Result<(), Failure> {
        let from = if path.is_empty() {
            openat(
                &self.root,
                ".",
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        } else {
            open_beneath(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        }
        .map_err(|errno| unreadable(&self.source.join(path), errno))?;
        let mut dir =
            Dir::from_fd(from).map_err(|errno| unreadable(&self.source.join(path), errno))?;
        let mut found = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|errno| unreadable(&self.source.join(path), errno))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(name) = name.to_str() else {
                return Err(refused(
                    &self.source,
                    &name.to_string_lossy(),
                    "its name is not UTF-8",
                ));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            check_path(&path).map_err(|why| refused(&self.source, &path, why))?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(too_much(&self.source, "files and directories", MAX_ENTRIES as u64));
            }
            found.push(path);
        }
        for path in found {
            let stat = fstatat(&self.root, path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| unreadable(&self.source.join(&path), errno))?;
            match Kind::of(&stat) {
                Kind::Regular => self.files.push(path),
                Kind::Directory => {
                    mkdirat(&self.target.descriptor, path.as_str(), Mode::S_IRWXU)
                        .map_err(|errno| full(&self.target.path.join(&path), &errno.into()))?;
                    self.directories.push(path);
                }
                Kind::Other(what) => {
                    return Err(refused(&self.source, &path, &format!("it is {what}")));
                }
            }
        }
        Ok(())
    }

    fn open_file(&mut self, path: String) -> Result<(), Failure> {
        let from = open_beneath(&self.root, &path, OFlag::O_RDONLY)
            .map_err(|errno| unreadable(&self.source.join(&path), errno))?;
        let stat = fstat(&from).map_err(|errno| unreadable(&self.source.join(&path), errno))?;
        self.check_file(&stat).map_err(|why| refused(&self.source, &path, why))?;
        let to = openat(
            &self.target.descriptor,
            path.as_str(),
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )
        .map_err(|errno| full(&self.target.path.join(&path), &errno.into()))?;
        self.current = Some(Copying {
            path,
            from: from.into(),
            to: to.into(),
            executable: stat.st_mode & 0o111 != 0,
            hash: Sha256::new(),
        });
        Ok(())
    }

    fn check_file(&self, stat: &FileStat) -> Result<(), &'static str> {
        if Kind::of(stat) != Kind::Regular {
            return Err("it was replaced while it was read");
        }
        if stat.st_mode & 0o6000 != 0 {
            return Err("it has a setuid or setgid bit; remove it");
        }
        // Who may write the source could have linked a file there that only we can read, to have
        // it copied to where everybody can (link(2) asks for no read permission).
        if stat.st_nlink > 1 && stat.st_uid != self.owner {
            return Err("it is a hard link to a file of another owner");
        }
        Ok(())
    }

    fn copy(&mut self, mut copying: Copying) -> Result<(), Failure> {
        let mut piece = 0;
        while piece < PIECE {
            let read = copying
                .from
                .read(&mut self.buffer)
                .map_err(|error| unreadable_io(&self.source.join(&copying.path), &error))?;
            if read == 0 {
                return self.finish_file(copying);
            }
            piece += read;
            self.bytes += read as u64;
            if self.bytes > MAX_BYTES {
                return Err(too_much(&self.source, "bytes", MAX_BYTES));
            }
            let data = &self.buffer[..read];
            copying.hash.update(data);
            copying
                .to
                .write_all(data)
                .map_err(|error| full(&self.target.path.join(&copying.path), &error))?;
        }
        self.current = Some(copying);
        Ok(())
    }

    fn finish_file(&mut self, copying: Copying) -> Result<(), Failure> {
        let sum = Sum {
            digest: Digest::new(copying.hash.finalize().into()),
            executable: copying.executable,
        };
        let target = || self.target.path.join(&copying.path);
        fchmod(&copying.to, Mode::from_bits_truncate(sum.mode()))
            .map_err(|errno| full(&target(), &errno.into()))?;
        copying.to.sync_all().map_err(|error| full(&target(), &error))?;
        self.sums.insert(copying.path, sum);
        Ok(())
    }

    /// Makes every directory read-only and durable, the deepest first.
    fn seal(&self, path: &str) -> Result<(), Failure> {
        let here = self.target.path.join(path);
        let failed = |error: &std::io::Error| full(&here, error);
        for entry in std::fs::read_dir(&here).map_err(|error| failed(&error))? {
            let entry = entry.map_err(|error| failed(&error))?;
            if entry.file_type().map_err(|error| failed(&error))?.is_dir() {
                let name = entry.file_name();
                let name = name.to_str().expect("this copy has only names that were checked");
                self.seal(&if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}/{name}")
                })?;
            }
        }
        let directory = File::open(&here).map_err(|error| failed(&error))?;
        fchmod(&directory, Mode::from_bits_truncate(0o555))
            .map_err(|errno| failed(&errno.into()))?;
        directory.sync_all().map_err(|error| failed(&error))
    }
}

/// What a step came to.
pub(super) enum Progress {
    More(Box<Import>),
    Complete(Copied),
}

fn refused(source: &Path, path: &str, why: &str) -> Failure {
    Failure::new(
        Code::IntegrityFailed,
        format!("{} cannot be part of a package: {why}", source.join(path).display()),
    )
    .with("path", source.join(path))
}

fn too_much(source: &Path, what: &str, limit: u64) -> Failure {
    Failure::new(
        Code::ResourceExhausted,
        format!("{} has more than {limit} {what}, the most a package may have", source.display()),
    )
    .with("resource", format!("package {what}"))
    .with("limit", limit)
}

fn unreadable(path: &Path, errno: Errno) -> Failure {
    unreadable_io(path, &errno.into())
}

fn unreadable_io(path: &Path, error: &std::io::Error) -> Failure {
    let (code, hint) = match error.raw_os_error() {
        Some(libc_code) if Errno::from_raw(libc_code) == Errno::ENOENT => (Code::NotFound, ""),
        Some(libc_code) if Errno::from_raw(libc_code) == Errno::ELOOP => {
            (Code::IntegrityFailed, "; a package has no symbolic links")
        }
        Some(libc_code) if Errno::from_raw(libc_code) == Errno::EXDEV => {
            (Code::IntegrityFailed, "; a package lies on one file system")
        }
        _ => (Code::InvalidRequest, ""),
    };
    Failure::new(code, format!("cannot read {}: {error}{hint}", path.display()))
        .with("what", "file")
        .with("name", path)
        .with("path", path)
}

fn full(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::StorageFailed, format!("cannot write {}: {error}", path.display()))
        .with("path", path)
}
