//! What of this machine's files a plugin will see, by their paths inside its compartment.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::Policy;
use bulkhead_sandbox::seccomp::Profile;

/// Where the plugin's own tree is, inside.
const TREE: &str = "/plugin";

/// A file that is there for a plugin.
pub(super) enum Shown {
    File(File),
    /// In one of the machine's places, of which nothing is read here: they may hold anything.
    Unread,
}

/// The files of a compartment that is not there yet.
pub(super) struct Compartment {
    /// `/` of the machine; elsewhere in tests.
    machine: PathBuf,
    /// The plugin's tree in the store.
    tree: PathBuf,
    /// What of the system is shown, as it is called on this machine after every link.
    system: Vec<PathBuf>,
    /// What else of the machine is shown: the same.
    places: Vec<PathBuf>,
    /// Whether any file that is shown can be executed, and not only the entry and the known loaders.
    pub(super) executes_all: bool,
    /// Whether `/proc/self/exe` tells a program where it lies.
    pub(super) proc: bool,
}

impl Compartment {
    pub(super) fn new(policy: &Policy, tree: &Path) -> Self {
        Self::on(Path::new("/"), policy, tree)
    }

    /// That of a machine whose root is at `machine`.
    pub(super) fn on(machine: &Path, policy: &Policy, tree: &Path) -> Self {
        let system = if policy.filesystem.system { &bulkhead_sandbox::SYSTEM[..] } else { &[] };
        let mounts = policy.filesystem.mounts.iter().map(|mount| mount.source.as_path());
        let system = system.iter().map(|name| machine.join(name));
        let places = mounts.map(|source| below(machine, source));
        Self {
            machine: machine.to_owned(),
            tree: tree.to_owned(),
            system: system.filter_map(|path| path.canonicalize().ok()).collect(),
            places: places.filter_map(|path| path.canonicalize().ok()).collect(),
            executes_all: policy.profile == Profile::Program,
            proc: policy.filesystem.proc,
        }
    }

    /// A file that the plugin will be able to read, by its path inside. `None`: it is not there, not shown, or
    /// not for all to read, as the plugin has a uid of its own.
    pub(super) fn open(&self, inside: &Path) -> Option<Shown> {
        let (path, readable) = match inside.strip_prefix(TREE) {
            Ok(relative) => (self.tree.join(relative), std::slice::from_ref(&self.tree)),
            Err(_) => (below(&self.machine, inside), &self.system[..]),
        };
        let path = path.canonicalize().ok()?;
        let is_in = |places: &[PathBuf]| places.iter().any(|place| path.starts_with(place));
        let is_for_all = |found: &Metadata| found.is_file() && found.mode() & 0o004 != 0;
        if is_in(readable) {
            let file = File::open(&path).ok()?;
            return is_for_all(&file.metadata().ok()?).then_some(Shown::File(file));
        }
        let of_a_place = !inside.starts_with(TREE) && is_in(&self.places);
        (of_a_place && is_for_all(&path.metadata().ok()?)).then_some(Shown::Unread)
    }

    /// Text of the machine's own configuration; empty where there is none.
    pub(super) fn configuration(&self, path: &Path) -> String {
        std::fs::read_to_string(below(&self.machine, path)).unwrap_or_default()
    }

    /// The files of a directory of the machine, in order, that a pattern with one `*` names.
    pub(super) fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
            return Vec::new();
        };
        let name = name.to_string_lossy();
        let Some((before, after)) = name.split_once('*') else { return vec![pattern.to_owned()] };
        let entries = std::fs::read_dir(below(&self.machine, directory)).into_iter().flatten();
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|found| found.len() >= before.len() + after.len())
            .filter(|found| found.starts_with(before) && found.ends_with(after))
            .map(|found| directory.join(found))
            .collect();
        found.sort();
        found
    }

    /// The entry's path inside.
    pub(super) fn entry(entry: &str) -> PathBuf {
        Path::new(TREE).join(entry)
    }
}

fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}
