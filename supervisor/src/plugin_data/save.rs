//! `bulkhead archive-data LIMIT`: writes the working directory as a tar stream to standard output,
//! which is a file of its own.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::sparse::Sparse;
use super::{DATA, MAX_DEPTH, SKIPPED};

/// What is told of what was not kept; what is more is counted only.
const MAX_SKIPPED: usize = 1000;

/// The whole life of the process.
pub(crate) fn run(limit: u64) -> ExitCode {
    super::end(io::stdout().as_fd().try_clone_to_owned().and_then(|stdout| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(".", flags, Mode::empty())?;
        save(root, File::from(stdout), limit)
    }))
}

/// Writes what is in `root` to `to`. Nothing in it makes this fail: what cannot be kept is told of.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`]: it takes more than `limit` bytes. Others: `to` cannot be written.
pub(super) fn save(root: OwnedFd, to: File, limit: u64) -> io::Result<()> {
    let mut walk = Walk { tar: Builder::new(Sparse::new(to, limit)), skipped: Vec::new(), more: 0 };
    walk.directory(root, Path::new(""), 0)?;
    walk.report()?;
    walk.tar.into_inner()?.finish()?;
    Ok(())
}

struct Walk {
    tar: Builder<Sparse>,
    skipped: Vec<Value>,
    more: usize,
}

impl Walk {
    fn directory(&mut self, at: OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        let listed = at.try_clone().and_then(|copy| Ok(Dir::from_fd(copy)?));
        let mut listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.skip(path, &error.to_string());
                return Ok(());
            }
        };
        for entry in listed.iter() {
            let Ok(entry) = entry else {
                self.skip(path, "it cannot be listed to its end");
                break;
            };
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(&at, name, &path.join(OsStr::from_bytes(name.to_bytes())), depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> io::Result<()> {
        let stat = match fstatat(at, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => {
                self.skip(path, errno.desc());
                return Ok(());
            }
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        match kind {
            SFlag::S_IFDIR if depth >= MAX_DEPTH => {
                self.skip(path, "it lies too deep");
                Ok(())
            }
            SFlag::S_IFDIR => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
                match openat(at, name, flags | OFlag::O_CLOEXEC, Mode::empty()) {
                    Ok(directory) => {
                        let header = header(&stat, EntryType::Directory, 0);
                        self.append(header, path, io::empty())?;
                        self.directory(directory, path, depth + 1)
                    }
                    Err(errno) => {
                        self.skip(path, errno.desc());
                        Ok(())
                    }
                }
            }
            SFlag::S_IFREG => self.file(at, name, path),
            SFlag::S_IFLNK => match readlinkat(at, name) {
                Ok(target) => {
                    let mut header = header(&stat, EntryType::Symlink, 0);
                    self.tar.append_link(&mut header, member(path), Path::new(&target))
                }
                Err(errno) => {
                    self.skip(path, errno.desc());
                    Ok(())
                }
            },
            _ => {
                self.skip(path, "it is no file, directory or symbolic link");
                Ok(())
            }
        }
    }

    /// A file as long as it is now: what is written to it meanwhile is not waited for, and what is
    /// cut off is zeros.
    fn file(&mut self, at: &OwnedFd, name: &CStr, path: &Path) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(at, name, flags, Mode::empty())
            .map_err(io::Error::from)
            .map(File::from)
            .and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.skip(path, &error.to_string());
                return Ok(());
            }
        };
        let length = metadata.len();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(metadata.mode() & 0o777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
        header.set_size(length);
        let whole = file.take(length).chain(io::repeat(0)).take(length);
        self.append(header, path, whole)
    }

    fn append(
        &mut self,
        mut header: Header,
        path: &Path,
        content: impl io::Read,
    ) -> io::Result<()> {
        self.tar.append_data(&mut header, member(path), content)
    }

    fn skip(&mut self, path: &Path, why: &str) {
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(json!({ "path": path.to_string_lossy(), "why": why }));
        } else {
            self.more += 1;
        }
    }

    fn report(&mut self) -> io::Result<()> {
        let text = json!({ "skipped": self.skipped, "more": self.more }).to_string();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        self.tar.append_data(&mut header, SKIPPED, text.as_bytes())
    }
}

fn header(stat: &FileStat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(size);
    header
}

fn member(path: &Path) -> PathBuf {
    Path::new(DATA).join(path)
}
