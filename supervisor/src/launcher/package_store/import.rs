//! Copying a directory into the store, a bounded piece at a time.
//!
//! Theory of operation. The source belongs to somebody else and may change or be hostile while it is
//! read, so each file is opened beneath the source's root without following a link, examined through
//! its descriptor, and hashed from the very bytes that are written. The copy grows in a hidden
//! directory of the store and becomes visible by one rename; whatever fails before leaves nothing
//! behind. The launcher's loop turns between two pieces, so that a large package delays no stop: a
//! piece takes a bounded number of entries or bytes and waits for the disk at most once.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use sha2::{Digest as _, Sha256};

use super::sums::{Sum, Sums, check_path};
use super::tree::{Kind, open_beneath};
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::launcher::removal::{Removal, remove_at_once};

#[cfg(test)]
mod tests;

/// The most files and directories of one package.
const MAX_ENTRIES: usize = 10_000;
/// The most bytes of one package's files together.
const MAX_BYTES: u64 = 1 << 30;
/// What one step copies at most: about ten milliseconds.
const PIECE: usize = 4 << 20;
/// Entries of a directory that one step examines at most.
const ENTRIES: usize = 64;
const BUFFER: usize = 256 << 10;

/// A copy under way. Dropped before it was given its name, it removes what it wrote.
pub(super) struct Import {
    source: PathBuf,
    root: OwnedFd,
    /// Owner of the source directory.
    owner: u32,
    target: HiddenDirectory,
    /// Directories found and not read yet.
    unlisted: Vec<String>,
    listing: Option<Listing>,
    /// Files found and not copied yet.
    files: Vec<String>,
    /// Directories that were read, each after the one it lies in: the last is sealed first.
    unsealed: Vec<String>,
    current: Option<Copying>,
    entries: usize,
    bytes: u64,
    sums: Sums,
    buffer: Vec<u8>,
}

/// A directory of the source, partly read.
struct Listing {
    path: String,
    entries: OwningIter,
}

struct Copying {
    path: String,
    from: File,
    to: File,
    executable: bool,
    hash: Sha256,
}

/// A directory that exists only until it is renamed.
pub(super) struct HiddenDirectory {
    path: PathBuf,
    descriptor: OwnedFd,
    keep: bool,
}

impl HiddenDirectory {
    /// It must not exist yet.
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| full(&path, &error))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let descriptor =
            open(&path, flags, Mode::empty()).map_err(|errno| full(&path, &errno.into()))?;
        Ok(Self { path, descriptor, keep: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it a piece at a time. `None` if that cannot even begin; the next start clears it.
    pub(super) fn clear(mut self) -> Option<Removal> {
        self.keep = true;
        Removal::resume(self.path.clone())
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "a partial import stays behind");
            })
            .ok()
    }
}

impl Drop for HiddenDirectory {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = remove_at_once(&self.path)
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

    /// It has its name now, or its place has something that must stay.
    pub(super) fn keep(mut self) {
        self.directory.keep = true;
    }

    /// It is not needed.
    pub(super) fn abandon(self) -> HiddenDirectory {
        self.directory
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
        Ok(Box::new(Self {
            source: source.to_owned(),
            root,
            owner: stat.st_uid,
            target: HiddenDirectory::create(hidden)?,
            unlisted: vec![String::new()],
            listing: None,
            files: Vec::new(),
            unsealed: Vec::new(),
            current: None,
            entries: 0,
            bytes: 0,
            sums: Sums::default(),
            buffer: vec![0; BUFFER],
        }))
    }

    /// Does one bounded piece. `true` when the copy is complete and on disk.
    pub(super) fn step(&mut self) -> Result<bool, Failure> {
        if let Some(copying) = self.current.take() {
            self.copy(copying)?;
        } else if let Some(listing) = self.listing.take() {
            self.list(listing)?;
        } else if let Some(path) = self.unlisted.pop() {
            let listing = self.open_directory(path)?;
            self.list(listing)?;
        } else if let Some(path) = self.files.pop() {
            self.open_file(path)?;
        } else if let Some(path) = self.unsealed.pop() {
            // The root comes last: it had to be written until here.
            self.seal(&path)?;
        } else {
            return Ok(true);
        }
        Ok(false)
    }

    /// Only when [`Import::step`] said that it is complete.
    pub(super) fn complete(self) -> Copied {
        Copied { sums: self.sums, directory: self.target }
    }

    /// It failed or is not wanted any more.
    pub(super) fn abandon(self) -> HiddenDirectory {
        self.target
    }

    fn open_directory(&mut self, path: String) -> Result<Listing, Failure> {
        let from = if path.is_empty() {
            openat(
                &self.root,
                ".",
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        } else {
            open_beneath(&self.root, &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        };
        let entries = from
            .and_then(Dir::from_fd)
            .map_err(|errno| unreadable(&self.source.join(&path), errno))?
            .into_iter();
        self.unsealed.push(path.clone());
        Ok(Listing { path, entries })
    }

    /// Files are only noted, so that a package with too many of them is refused before any is
    /// copied.
    fn list(&mut self, mut listing: Listing) -> Result<(), Failure> {
        for _ in 0..ENTRIES {
            let Some(entry) = listing.entries.next() else { return Ok(()) };
            let entry =
                entry.map_err(|errno| unreadable(&self.source.join(&listing.path), errno))?;
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
            let path = match listing.path.as_str() {
                "" => name.to_owned(),
                parent => format!("{parent}/{name}"),
            };
            check_path(&path).map_err(|why| refused(&self.source, &path, why))?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(too_much(&self.source, "files and directories", MAX_ENTRIES as u64));
            }
            let stat = fstatat(&self.root, path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| unreadable(&self.source.join(&path), errno))?;
            match Kind::of(&stat) {
                Kind::Regular => self.files.push(path),
                Kind::Directory => {
                    mkdirat(&self.target.descriptor, path.as_str(), Mode::S_IRWXU)
                        .map_err(|errno| full(&self.target.path.join(&path), &errno.into()))?;
                    self.unlisted.push(path);
                }
                Kind::Other(what) => {
                    return Err(refused(&self.source, &path, &format!("it is {what}")));
                }
            }
        }
        self.listing = Some(listing);
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
        // Now, rather than all of a large file at its end.
        copying
            .to
            .sync_data()
            .map_err(|error| full(&self.target.path.join(&copying.path), &error))?;
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

    /// Makes one directory read-only and durable.
    fn seal(&self, path: &str) -> Result<(), Failure> {
        let failed = |error: std::io::Error| full(&self.target.path.join(path), &error);
        let directory = openat(
            &self.target.descriptor,
            if path.is_empty() { "." } else { path },
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| failed(errno.into()))?;
        fchmod(&directory, Mode::from_bits_truncate(0o555))
            .map_err(|errno| failed(errno.into()))?;
        File::from(directory).sync_all().map_err(failed)
    }
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
