//! Whether the entry's loader and libraries will be found inside its compartment.
//!
//! Theory of operation. This walks as ld.so(8) does, breadth first: for each name that an object
//! needs, the directories of its RPATH or RUNPATH, then the machine's library directories; a file for
//! another machine is passed over. It looks at the files that the compartment will show and at no
//! others, so a library that is there for everybody else and not for the plugin is told before the
//! first start. It parses and resolves; nothing is executed.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::compartment::{Compartment, Shown};
use super::object::{Elf, Fault, Object, Target};
use crate::failure::{Code, Failure};

/// More than any program loads; a hostile one cannot make more work than this.
const MAX_OBJECTS: usize = 512;
/// How deep `include` of ld.so.conf may lead.
const MAX_INCLUDES: usize = 8;

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Library {
    /// As it is asked for: `libc.so.6`.
    pub(crate) name: String,
    /// Inside the compartment.
    #[schema(value_type = String)]
    pub(crate) path: PathBuf,
}

/// An object whose needs are still to be met.
struct Pending {
    object: Object,
    /// Inside the compartment.
    path: PathBuf,
    /// RPATHs of those that loaded it, the nearest first.
    inherited: Vec<PathBuf>,
    is_entry: bool,
}

/// The loader and all libraries that the entry needs, in the order in which they are loaded.
///
/// # Errors
/// [`Code::NotFound`]: there is no entry. [`Code::EntryInvalid`]: it is no program for this machine; details `path`, `found`,
/// `expected`. [`Code::DependencyMissing`]: one is not there; details `dependency`, `neededBy`,
/// `searched`.
pub(super) fn resolve(compartment: &Compartment, entry: &str) -> Result<Vec<Library>, Failure> {
    let path = Compartment::entry(entry);
    let invalid = |why: String| {
        Failure::new(Code::EntryInvalid, format!("the entry {entry} cannot be run here: {why}"))
            .with("path", entry)
            .with("stage", "review")
    };
    let Some(Shown::File(file)) = compartment.open(&path) else {
        let text =
            format!("the package has no entry {entry} that all may read; name it in plugin.toml");
        return Err(Failure::new(Code::NotFound, text).with("what", "entry").with("name", entry));
    };
    if file.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 == 0) {
        return Err(invalid("it has no run bit; chmod a+x it".to_owned()));
    }
    let elf = Elf::open(&file).map_err(|fault| invalid(fault.to_string()))?;
    if elf.target() != Target::HERE {
        let (found, expected) = (elf.target().to_string(), Target::HERE.to_string());
        return Err(invalid(format!("it is for {found}; this machine is {expected}"))
            .with("found", found)
            .with("expected", expected));
    }
    let object = elf.object().map_err(|fault| invalid(fault.to_string()))?;
    let Some(interpreter) = object.interpreter.clone() else { return Ok(Vec::new()) };
    let mut search = Search::new(compartment, &interpreter);
    search.loader(&interpreter, entry)?;
    search.all(Pending { object, path, inherited: Vec::new(), is_entry: true })?;
    Ok(search.found)
}

struct Search<'a> {
    compartment: &'a Compartment,
    /// The directories that are looked at for every object.
    defaults: Vec<PathBuf>,
    /// Whether a program's own place is known to its loader.
    origin_known: bool,
    found: Vec<Library>,
    /// Names that are satisfied: as they were asked for, and as the libraries call themselves.
    names: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn new(compartment: &'a Compartment, interpreter: &str) -> Self {
        let musl = interpreter.contains("/ld-musl-");
        let defaults =
            if musl { musl_directories(compartment) } else { glibc_directories(compartment) };
        Self {
            compartment,
            defaults,
            // The launcher tells glibc's loader; musl's has /proc only.
            origin_known: !musl || compartment.proc,
            found: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    /// The loader is executed, which only some files of the compartment may be.
    fn loader(&mut self, path: &str, entry: &str) -> Result<(), Failure> {
        let missing = |why: &str| {
            Failure::new(
                Code::DependencyMissing,
                format!("{entry} is started by the loader {path}, which {why}"),
            )
            .with("dependency", path)
            .with("required", path)
            .with("found", serde_json::Value::Null)
            .with("neededBy", entry)
        };
        if self.compartment.open(Path::new(path)).is_none() {
            return Err(missing(
                "its compartment does not have; link it statically, or for a libc of this machine",
            ));
        }
        if !bulkhead_sandbox::LOADERS.contains(&path) && !self.compartment.executes_all {
            return Err(missing(
                "may not be executed there; link it for one of the usual loaders, or statically",
            ));
        }
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        self.names.insert(name.clone());
        self.found.push(Library { name, path: PathBuf::from(path) });
        Ok(())
    }

    fn all(&mut self, entry: Pending) -> Result<(), Failure> {
        let mut queue = std::collections::VecDeque::from([entry]);
        while let Some(pending) = queue.pop_front() {
            let own = pending.expanded(&pending.object.rpath, self.origin_known);
            let mut inherited = Vec::new();
            if pending.object.runpath.is_empty() {
                inherited.extend(own);
            }
            inherited.extend(pending.inherited.iter().cloned());
            for name in &pending.object.needed {
                if self.names.contains(name) {
                    continue;
                }
                if self.found.len() >= MAX_OBJECTS {
                    return Err(Failure::new(
                        Code::ResourceExhausted,
                        format!("the entry needs more than {MAX_OBJECTS} libraries; link fewer"),
                    )
                    .with("resource", "libraries")
                    .with("limit", MAX_OBJECTS)
                    .with("used", self.found.len() + 1));
                }
                let (path, object) = self.find(name, &pending, &inherited)?;
                self.names.insert(name.clone());
                self.names.extend(object.iter().filter_map(|object| object.soname.clone()));
                self.found.push(Library { name: name.clone(), path: path.clone() });
                let inherited = inherited.clone();
                queue.extend(object.map(|object| Pending {
                    object,
                    path,
                    inherited,
                    is_entry: false,
                }));
            }
        }
        Ok(())
    }

    fn find(
        &self,
        name: &str,
        by: &Pending,
        inherited: &[PathBuf],
    ) -> Result<(PathBuf, Option<Object>), Failure> {
        let mut searched = Vec::new();
        if name.contains('/') {
            searched = by.expanded(&[name.to_owned()], self.origin_known);
        } else {
            if by.object.runpath.is_empty() {
                searched.extend(inherited.iter().cloned());
            }
            searched.extend(by.expanded(&by.object.runpath, self.origin_known));
            if !by.object.no_default {
                searched.extend(self.defaults.iter().cloned());
            }
            for directory in &mut searched {
                directory.push(name);
            }
        }
        let mut unfit = None;
        for path in &searched {
            match self.load(path, by.object.target) {
                None => {}
                Some(Ok(object)) => return Ok((path.clone(), object)),
                Some(Err(why)) => unfit = Some(format!("{} does not fit: {why}", path.display())),
            }
        }
        let needed_by = by.path.display().to_string();
        let why = unfit.unwrap_or_else(|| "its compartment has none of that name".to_owned());
        let mut places: Vec<&Path> = searched.iter().filter_map(|path| path.parent()).collect();
        places.dedup();
        Err(Failure::new(
            Code::DependencyMissing,
            format!(
                "{needed_by} needs the library {name}, but {why}; install it on this machine, put \
                 it into the plugin's tree beside an RPATH of $ORIGIN/…, or link it statically"
            ),
        )
        .with("dependency", name)
        .with("required", name)
        .with("found", serde_json::Value::Null)
        .with("neededBy", needed_by)
        .with("searched", places))
    }

    /// `None` where there is no such file; the fault of one that cannot be loaded. What one needs that is not
    /// read here is not known.
    fn load(&self, path: &Path, target: Target) -> Option<Result<Option<Object>, Fault>> {
        let Shown::File(file) = self.compartment.open(path)? else { return Some(Ok(None)) };
        Some(Elf::open(&file).and_then(|elf| {
            if elf.target() == target {
                return elf.object().map(Some);
            }
            Err(Fault::Malformed(format!("it is for {}", elf.target())))
        }))
    }
}

impl Pending {
    /// The directories of an RPATH, its tokens replaced as ld.so(8) does. What is not absolute then
    /// is left out: the working directory is the plugin's to write.
    fn expanded(&self, paths: &[String], origin_known: bool) -> Vec<PathBuf> {
        let origin = (!self.is_entry || origin_known).then(|| self.path.parent()).flatten();
        let arch = std::env::consts::ARCH;
        let mut expanded = Vec::new();
        for path in paths {
            // $LIB is either, by the distribution's taste.
            for lib in [format!("lib/{arch}-linux-gnu"), "lib64".to_owned(), "lib".to_owned()] {
                let mut text = path.clone();
                for (token, value) in [
                    ("ORIGIN", origin.and_then(Path::to_str)),
                    ("LIB", Some(lib.as_str())),
                    ("PLATFORM", Some(arch)),
                ] {
                    let Some(value) = value else { continue };
                    text = text.replace(&format!("${{{token}}}"), value);
                    text = text.replace(&format!("${token}"), value);
                }
                let text = plain(Path::new(&text));
                if text.is_absolute() && !expanded.contains(&text) {
                    expanded.push(text);
                }
            }
        }
        expanded
    }
}

/// The path without `.` and `..`, as text: a tree has no links that it could go wrong by.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// ld.so.conf's, which are in the loader's cache, then the built-in ones, Debian's first.
fn glibc_directories(compartment: &Compartment) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    configured(compartment, Path::new("/etc/ld.so.conf"), MAX_INCLUDES, &mut directories);
    let arch = std::env::consts::ARCH;
    let multiarch =
        ["/lib", "/usr/lib"].map(|lib| PathBuf::from(format!("{lib}/{arch}-linux-gnu")));
    directories.extend(multiarch);
    directories.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from));
    directories
}

/// One directory a line; `include` takes a pattern, relative to the file that has it.
fn configured(compartment: &Compartment, file: &Path, depth: usize, to: &mut Vec<PathBuf>) {
    for line in compartment.configuration(file).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ").map(str::trim) {
            if depth > 0 {
                let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
                for found in compartment.matching(&pattern) {
                    configured(compartment, &found, depth - 1, to);
                }
            }
        } else if line.starts_with('/') {
            to.push(PathBuf::from(line));
        }
    }
}

/// `/etc/ld-musl-ARCH.path`, else the built-in ones (musl, `ldso/dynlink.c`).
fn musl_directories(compartment: &Compartment) -> Vec<PathBuf> {
    let path = format!("/etc/ld-musl-{}.path", std::env::consts::ARCH);
    let text = compartment.configuration(Path::new(&path));
    let own: Vec<PathBuf> =
        text.split([':', '\n']).filter(|path| path.starts_with('/')).map(PathBuf::from).collect();
    if own.is_empty() {
        return ["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from).to_vec();
    }
    own
}

#[cfg(test)]
#[path = "libraries_tests.rs"]
mod tests;
