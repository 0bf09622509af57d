//! The names in a package: what one may be, and that no two collide.

use std::collections::HashMap;

use super::fault::{Fault, Reason};
use super::limits;

/// The name of the manifest's member.
pub(super) const MANIFEST: &str = "plugin.toml";
/// The directory of the programs.
pub(super) const PROGRAMS: &str = "bin";

/// One member as its header has it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File { size: u64, executable: bool },
}

/// What a path in a package must be. Portable names only: what is one name on every file system,
/// looks like what it is in a terminal, and means nothing to a shell of another system. ASCII, as
/// letters outside of it have several spellings (Unicode's normal forms, widths, look-alikes) of
/// which a file system may make one.
pub(super) fn check_path(path: &[u8]) -> Result<&str, Reason> {
    if path.is_empty() {
        return Err(Reason::NameEmpty);
    }
    if path.len() > limits::PATH_BYTES {
        return Err(Reason::NameTooLong { limit: limits::PATH_BYTES });
    }
    if path[0] == b'/' {
        return Err(Reason::NameAbsolute);
    }
    let text = match std::str::from_utf8(path) {
        Ok(text) if path.iter().all(|c| matches!(c, b' '..=b'~') && *c != b'\\') => text,
        _ => return Err(Reason::NameCharacters),
    };
    for (index, name) in text.split('/').enumerate() {
        if index == limits::DEPTH {
            return Err(Reason::NameTooDeep { limit: limits::DEPTH });
        }
        match name {
            "" | "." | ".." => return Err(Reason::NameComponent),
            _ if name.starts_with('.') => return Err(Reason::NameHidden),
            _ if name.trim() != name => return Err(Reason::NameCharacters),
            _ => {}
        }
    }
    Ok(text)
}

/// The members so far, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Members {
    known: HashMap<String, Known>,
    programs: usize,
}

#[derive(Debug)]
struct Known {
    path: String,
    directory: bool,
    /// It has a header of its own; else only the path of another member names it.
    listed: bool,
}

impl Members {
    /// Adds a member. Gives the directories on its way that did not exist yet, outermost first, and
    /// at the end the member itself where it is a directory that did not.
    pub(super) fn add(&mut self, member: &Member) -> Result<Vec<String>, Fault> {
        let fail = |reason: Reason| reason.of(member.path.as_bytes());
        let directory = member.kind == Kind::Directory;
        match (member.path.as_str(), directory) {
            (MANIFEST, true) => return Err(fail(Reason::Layout { what: "a file" })),
            (PROGRAMS, false) => return Err(fail(Reason::Layout { what: "a directory" })),
            _ => {}
        }
        let mut new = Vec::new();
        for (end, _) in member.path.match_indices('/') {
            let parent = &member.path[..end];
            match self.known.get(&parent.to_ascii_lowercase()) {
                Some(known) if known.path != parent => {
                    return Err(fail(Reason::NameTaken { other: known.path.clone() }));
                }
                Some(known) if !known.directory => {
                    return Err(fail(Reason::InsideFile { parent: parent.to_owned() }));
                }
                Some(_) => {}
                None => {
                    self.insert(parent, true, false)?;
                    new.push(parent.to_owned());
                }
            }
        }
        match self.known.get_mut(&member.path.to_ascii_lowercase()) {
            None => {
                self.insert(&member.path, directory, true)?;
                if directory {
                    new.push(member.path.clone());
                }
            }
            // A member inside came first: the archive may list its directory afterwards, once.
            Some(known) if known.path == member.path && directory && !known.listed => {
                known.listed = true;
            }
            Some(known) => return Err(fail(Reason::NameTaken { other: known.path.clone() })),
        }
        if !directory && member.path.starts_with("bin/") {
            self.programs += 1;
        }
        Ok(new)
    }

    fn insert(&mut self, path: &str, directory: bool, listed: bool) -> Result<(), Fault> {
        if self.known.len() == limits::MEMBERS {
            return Err(Reason::TooManyMembers { limit: limits::MEMBERS }.into());
        }
        let known = Known { path: path.to_owned(), directory, listed };
        self.known.insert(path.to_ascii_lowercase(), known);
        Ok(())
    }

    /// Whether all that a package must have is there.
    pub(super) fn check_complete(&self) -> Result<(), Fault> {
        if self.known.get(MANIFEST).is_none_or(|known| known.path != MANIFEST) {
            Err(Reason::NoManifest.into())
        } else if self.programs == 0 {
            Err(Reason::NoProgram.into())
        } else {
            Ok(())
        }
    }
}
