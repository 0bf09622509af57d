//! The directory that a package is made of: what is in it, in the order of a package.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::fault::{Fault, Reason};
use super::limits;
use super::member::{Kind, MANIFEST, Member, Members, check_path};
use super::reader::{Contents, check_size};
use crate::failure::{Code, Failure};

/// Every file of a directory, `plugin.toml` first and the rest by the bytes of their paths. The
/// directories themselves are not members: the files' paths name them.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) members: Vec<Member>,
    pub(super) contents: Contents,
}

impl Source {
    /// Lists `root` and refuses what could not be opened again.
    pub(super) fn list(root: &Path) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let mut pending = vec![PathBuf::new()];
        let mut seen = 0;
        while let Some(directory) = pending.pop() {
            let listed = root.join(&directory);
            let entries =
                std::fs::read_dir(&listed).map_err(|error| unreadable(&listed, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable(&listed, &error))?;
                let path = directory.join(entry.file_name());
                let bytes = path.as_os_str().as_bytes();
                let fail = |reason: Reason| refused(root, reason.of(bytes));
                // Before it is followed any deeper, or into a huge tree that is not a plugin's.
                let name = check_path(bytes).map_err(fail)?.to_owned();
                seen += 1;
                if seen > limits::MEMBERS {
                    let fault = Reason::TooManyMembers { limit: limits::MEMBERS }.into();
                    return Err(refused(root, fault));
                }
                let metadata = root
                    .join(&path)
                    .symlink_metadata()
                    .map_err(|error| unreadable(&root.join(&path), &error))?;
                if metadata.is_dir() {
                    pending.push(path);
                } else {
                    files.push(file(name, &metadata).map_err(fail)?);
                }
            }
        }
        files.sort_by(|a, b| {
            let place = |member: &Member| (member.path != MANIFEST, member.path.clone());
            place(a).cmp(&place(b))
        });
        let mut members = Members::default();
        let mut contents = Contents::default();
        for member in &files {
            members.add(member).map_err(|fault| refused(root, fault))?;
            if let Kind::File { size, .. } = member.kind {
                check_size(member, size, &contents).map_err(|fault| refused(root, fault))?;
                contents.files += 1;
                contents.bytes += size;
            }
        }
        members.check_complete().map_err(|fault| refused(root, fault))?;
        Ok(Self { members: files, contents })
    }

    /// Opens a member, which must still be what was listed.
    pub(super) fn open(root: &Path, member: &Member) -> Result<File, Failure> {
        let path = root.join(&member.path);
        let file = OpenOptions::new()
            .read(true)
            // A FIFO in its place must not be waited for.
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(&path)
            .map_err(|error| unreadable(&path, &error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&path, &error))?;
        match self::file(member.path.clone(), &metadata) {
            Ok(now) if now == *member => Ok(file),
            _ => Err(changed(&path)),
        }
    }
}

fn file(path: String, metadata: &Metadata) -> Result<Member, Reason> {
    if !metadata.is_file() {
        return Err(Reason::Kind { kind: kind_name(metadata.file_type()) });
    }
    let mode = metadata.mode() & 0o7777;
    if mode > 0o777 {
        return Err(Reason::Mode { mode });
    }
    Ok(Member { path, kind: Kind::File { size: metadata.len(), executable: mode & 0o111 != 0 } })
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device node"
    }
}

fn refused(root: &Path, fault: Fault) -> Failure {
    let path = match &fault.member {
        Some(member) => root.join(member),
        None => root.to_owned(),
    };
    let failure = Failure::from(fault);
    let message = format!("cannot pack {}: {}", root.display(), failure.message);
    Failure { message, ..failure }.with("path", path)
}

pub(super) fn changed(path: &Path) -> Failure {
    let message = format!("{} changed while it was packed; pack again", path.display());
    Failure::new(Code::Conflict, message).with("path", path)
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::InvalidRequest,
    };
    let message = format!("cannot read {}: {error}", path.display());
    Failure::new(code, message).with("path", path).with("what", "file").with("name", path)
}
