//! `bulkhead restore-data`: makes the working directory, which is empty, from the stream on standard
//! input.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use tar::{Archive, Entry, EntryType};

use super::sparse::Sparse;
use super::{DATA, MAX_DEPTH, SKIPPED};

/// The longest file; the compartment's own limit is lower.
const MAX_FILE: u64 = u64::MAX;

/// The whole life of the process.
pub(crate) fn run() -> ExitCode {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(".", flags, Mode::empty()).map_err(io::Error::from);
    super::end(root.and_then(|root| restore(&root, BufReader::new(io::stdin().lock()))))
}

/// Makes what the stream has beneath `root`. Each name is made and never opened, and no link is
/// followed on the way to it, so that nothing outside is written even if the stream is hostile.
pub(super) fn restore(root: &OwnedFd, from: impl Read) -> io::Result<()> {
    let mut archive = Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        if path == SKIPPED.as_bytes() {
            continue;
        }
        let (parent, name) = place(root, &path)?;
        make(&mut entry, parent.as_fd(), &name)?;
    }
    Ok(())
}

/// The directory that a member lies in, and its last name.
fn place(root: &OwnedFd, member: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
    let path = member.strip_prefix(DATA.as_bytes()).ok_or_else(|| bad("a member is no data"))?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let plain = |name: &&[u8]| !name.is_empty() && *name != b"." && *name != b"..";
    if names.len() > MAX_DEPTH + 1 || !names.iter().all(plain) {
        return Err(bad("a member's name is no path within the data"));
    }
    let Some((last, above)) = names.split_last() else { return Err(bad("a member has no name")) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = root.try_clone()?;
    for name in above {
        at = openat(&at, *name, flags, Mode::empty())?;
    }
    Ok((at, last.to_vec()))
}

fn make(entry: &mut Entry<'_, impl Read>, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o777);
    match entry.header().entry_type() {
        // Whatever mode it had, what lies in it must be written now.
        EntryType::Directory => Ok(mkdirat(at, name, mode | Mode::S_IRWXU)?),
        EntryType::Regular => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
            let file = File::from(openat(at, name, flags | OFlag::O_CLOEXEC, mode)?);
            let mut sparse = Sparse::new(file, MAX_FILE);
            io::copy(entry, &mut sparse)?;
            sparse.finish().map(drop)
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| bad("a link has no target"))?;
            Ok(symlinkat(&*target, at, name)?)
        }
        _ => Err(bad("a member is no file, directory or symbolic link")),
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
