//! The part of the hierarchy that is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::group::Cgroup;
use super::{CgroupError, Controller, location};

/// The leaf that holds the launcher and the supervisor.
const OWN_LEAF: &str = "supervisor";
/// The directory that holds one cgroup per compartment.
const COMPARTMENTS: &str = "plugins";
/// What systemd's users have to do to be given a cgroup.
const DELEGATE: &str = "start it through `systemd-run --scope -p Delegate=yes` (with --user if not root), or as a service with Delegate=yes";

/// A delegated directory of the cgroup v2 hierarchy. Removed with its last user if we
/// made it.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    compartments: PathBuf,
    controllers: Vec<Controller>,
    /// Where the root is a directory that we made for this process alone; shared with the cgroups in
    /// it, so that the last to go removes it.
    temporary: Option<Arc<Temporary>>,
}

/// A directory that is removed with its last user.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        remove_tree(&self.0);
    }
}

impl Tree {
    /// Finds the cgroup that is delegated to us and makes it ready: moves this process into
    /// `supervisor`, and enables every controller of [`Controller`] that exists.
    ///
    /// At the root of the whole hierarchy nothing is delegated; there a directory
    /// `bulkhead-<pid>.<number>` is made for this process, and removed on drop.
    pub fn discover() -> Result<Tree, CgroupError> {
        let own = location::own()?;
        // Only the true root of the hierarchy has no cgroup.events.
        if !own.join("cgroup.events").exists() {
            return Tree::at_root(&own);
        }
        let parent = own.parent().unwrap_or(&own);
        if own.file_name().is_some_and(|name| name == OWN_LEAF)
            && parent.join(COMPARTMENTS).is_dir()
            && processes(parent)?.is_empty()
        {
            // We have been here before, for example before executing ourselves anew.
            return Tree::prepare(parent.to_owned(), false);
        }
        let me = std::process::id();
        if let Some(other) = processes(&own)?.into_iter().find(|&pid| pid != me) {
            return Err(CgroupError::NotDelegated {
                path: own,
                why: format!("process {other} is in it too"),
                remedy: DELEGATE.to_owned(),
            });
        }
        let leaf = own.join(OWN_LEAF);
        make_directory(&leaf).map_err(|error| not_delegated(&own, error))?;
        fs::write(leaf.join("cgroup.procs"), "0")
            .map_err(|source| not_delegated(&own, CgroupError::io("moving into", &leaf, source)))?;
        Tree::prepare(own, false)
    }

    /// Uses `root`, a directory of the hierarchy that is already prepared: no process in it, and it
    /// is ours to write. Moves nothing.
    pub fn at(root: impl Into<PathBuf>) -> Result<Tree, CgroupError> {
        let root = root.into();
        make_directory(&root)?;
        Tree::prepare(root, false)
    }

    fn at_root(hierarchy: &Path) -> Result<Tree, CgroupError> {
        // Numbered, so that two trees of one process do not remove each other's.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned(hierarchy);
        enable(hierarchy)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = hierarchy.join(format!("bulkhead-{}.{number}", std::process::id()));
        make_directory(&root).map_err(|error| not_delegated(hierarchy, error))?;
        Tree::prepare(root, true)
    }

    fn prepare(root: PathBuf, temporary: bool) -> Result<Tree, CgroupError> {
        let compartments = root.join(COMPARTMENTS);
        let temporary = temporary.then(|| Arc::new(Temporary(root.clone())));
        let mut tree = Tree { root, compartments, controllers: Vec::new(), temporary };
        enable(&tree.root)?;
        make_directory(&tree.compartments)?;
        tree.controllers = enable(&tree.compartments)?;
        Ok(tree)
    }

    /// The delegated directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The controllers that compartments can be limited with, as read back after enabling them.
    pub fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// Makes the cgroup of a compartment, empty and without limits. What is left there of a dead
    /// launcher's compartment of that name is reused if it is empty, and refused if it is not.
    pub fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        check_name(name)?;
        let path = self.compartments.join(name);
        match fs::create_dir(&path) {
            Ok(()) => self.adopt(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A fresh directory, so that no counter or limit is inherited.
                fs::remove_dir(&path).map_err(|_| CgroupError::Occupied { path: path.clone() })?;
                make_directory(&path)?;
                self.adopt(path)
            }
            Err(source) => Err(CgroupError::io("creating", path, source)),
        }
    }

    /// Opens a compartment's cgroup that is already there: one of [`Tree::leftovers`].
    pub fn open(&self, name: &str) -> Result<Cgroup, CgroupError> {
        check_name(name)?;
        self.adopt(self.compartments.join(name))
    }

    fn adopt(&self, path: PathBuf) -> Result<Cgroup, CgroupError> {
        Cgroup::open(path, self.temporary.clone())
    }

    /// The names of the compartments that exist. At the start of a launcher: what a dead one left.
    pub fn leftovers(&self) -> Result<Vec<String>, CgroupError> {
        directories(&self.compartments)
    }
}

fn not_delegated(own: &Path, error: CgroupError) -> CgroupError {
    match error {
        CgroupError::Io { source, action, path }
            if matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) =>
        {
            CgroupError::NotDelegated {
                path: own.to_owned(),
                why: format!("{action} {} failed: {source}", path.display()),
                remedy: DELEGATE.to_owned(),
            }
        }
        other => other,
    }
}

fn check_name(name: &str) -> Result<(), CgroupError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // A name with the form of a kernel file (`memory.max`) would collide with it.
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(CgroupError::Name { name: name.to_owned() });
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(CgroupError::io("creating", path, source)),
        Ok(()) => Ok(()),
    }
}

/// The pids in a cgroup, in our pid namespace; 0 stands for one outside of it.
fn processes(cgroup: &Path) -> Result<Vec<u32>, CgroupError> {
    let path = cgroup.join("cgroup.procs");
    let text =
        fs::read_to_string(&path).map_err(|source| CgroupError::io("reading", &path, source))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Gives each controller that we use and that is there to the children, one by one so that one that
/// is refused does not take the others with it; returns what the kernel then says is given.
fn enable(cgroup: &Path) -> Result<Vec<Controller>, CgroupError> {
    let available = words(&cgroup.join("cgroup.controllers"))?;
    let control = cgroup.join("cgroup.subtree_control");
    let before = words(&control)?;
    for controller in Controller::ALL {
        let name = controller.name();
        if available.iter().any(|word| word == name) && !before.iter().any(|word| word == name) {
            // Judged by reading back.
            let _ = fs::write(&control, format!("+{name}"));
        }
    }
    let given = words(&control)?;
    Ok(Controller::ALL
        .into_iter()
        .filter(|controller| given.iter().any(|word| word == controller.name()))
        .collect())
}

fn words(path: &Path) -> Result<Vec<String>, CgroupError> {
    let text =
        fs::read_to_string(path).map_err(|source| CgroupError::io("reading", path, source))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn directories(path: &Path) -> Result<Vec<String>, CgroupError> {
    let failed = |source| CgroupError::io("listing", path, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Removes the directories that processes like us made at the root and did not live to remove.
fn remove_abandoned(hierarchy: &Path) {
    for name in directories(hierarchy).unwrap_or_default() {
        // `bulkhead-<pid>.<number>`
        let pid = name.strip_prefix("bulkhead-").and_then(|rest| rest.split('.').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            remove_tree(&hierarchy.join(name));
        }
    }
}

fn remove_tree(root: &Path) {
    for child in directories(root).unwrap_or_default() {
        remove_tree(&root.join(child));
    }
    let _ = fs::remove_dir(root);
}
