//! Finds the command as a shell would, and what must be visible for it to start.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::{Access, Filesystem, Mount, is_system};

use super::{NOT_EXECUTABLE, NOT_FOUND};
use crate::cli::problem::{Problem, printable};
use crate::failure::Code;

/// Linux reads at most so much of the first line of a script (execve(2)).
const SHEBANG_MAX: u64 = 256;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Inside the compartment.
    pub(super) path: PathBuf,
    /// The program's own file, and its interpreter's, where nothing else shows them.
    pub(super) mounts: Vec<Mount>,
}

/// Finds `command`: with a slash as a path from `working_directory`, else along `search` (`PATH`).
pub(super) fn find(
    command: &OsStr,
    search: Option<&OsStr>,
    working_directory: &Path,
    filesystem: &Filesystem,
) -> Result<Found, Problem> {
    let given = locate(command, search, working_directory)?;
    let real = given.canonicalize().map_err(|error| refuse(&given, &error.to_string()))?;
    let mut mounts = Vec::new();
    let runs = |path: &Path| is_executable_inside(path, filesystem);
    let path = if runs(&given) && runs(&real) {
        given.clone()
    } else {
        if !runs(&real) {
            mounts.push(Mount::read_only(&real, &real));
        }
        real.clone()
    };
    if let Some(interpreter) = interpreter(&real) {
        let bad = |why: &str| {
            let shown = printable(&interpreter.to_string_lossy());
            refuse(&given, &format!("its interpreter {shown:?} {why}; correct its first line"))
        };
        if !interpreter.is_absolute() {
            return Err(bad("is not an absolute path"));
        }
        let target = interpreter.canonicalize().map_err(|_| bad("does not exist"))?;
        if !(runs(&interpreter) && runs(&target)) {
            mounts.push(Mount::read_only(target, interpreter));
        }
    }
    Ok(Found { path, mounts })
}

fn locate(
    command: &OsStr,
    search: Option<&OsStr>,
    working_directory: &Path,
) -> Result<PathBuf, Problem> {
    if command.is_empty() {
        return Err(not_found("the command is empty".to_owned()));
    }
    if command.as_bytes().contains(&b'/') {
        let path = working_directory.join(command);
        return check(&path).map(|()| path);
    }
    let mut refused = None;
    for directory in std::env::split_paths(search.unwrap_or_default()) {
        // An empty entry is the working directory (environ(7)).
        let path = working_directory.join(directory).join(command);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(problem) if path.is_file() => {
                refused.get_or_insert(problem);
            }
            Err(_) => {}
        }
    }
    let command = printable(&command.to_string_lossy());
    Err(refused.unwrap_or_else(|| {
        not_found(format!(
            "{command}: there is no such command in PATH; name it by its path, as ./{command}, if it lies elsewhere"
        ))
    }))
}

/// Whether `path` is a file with a run bit.
fn check(path: &Path) -> Result<(), Problem> {
    let shown = path.display();
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(not_found(format!("{shown}: there is no such file")))
        }
        Err(error) => Err(refuse(path, &error.to_string())),
        Ok(found) if found.is_dir() => Err(refuse(path, "it is a directory")),
        Ok(found) if !found.is_file() => Err(refuse(path, "it is not a file")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(refuse(
            path,
            "it has no run bit; set it with chmod +x, or name its interpreter before it",
        )),
        Ok(_) => Ok(()),
    }
}

fn not_found(message: String) -> Problem {
    Problem::new(Code::NotFound, message).exiting(NOT_FOUND)
}

fn refuse(path: &Path, why: &str) -> Problem {
    Problem::new(Code::EntryInvalid, format!("{} cannot be executed: {why}", path.display()))
        .exiting(NOT_EXECUTABLE)
}

/// Whether the compartment shows `path` as it is here, and lets it be executed: what is writable
/// there never is.
fn is_executable_inside(path: &Path, filesystem: &Filesystem) -> bool {
    let innermost = filesystem.mounts.iter().rev().find(|mount| path.starts_with(&mount.target));
    match innermost {
        Some(mount) => mount.access == Access::ReadOnly && mount.source == mount.target,
        None => filesystem.system && is_system(path),
    }
}

/// The first word of a script's first line.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(SHEBANG_MAX).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
        .find(|word| !word.is_empty())
        .unwrap_or_default();
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests;
