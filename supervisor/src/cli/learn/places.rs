//! From a path that the plugin has tried to the place that a manifest would have to name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::learning::Doing;
use bulkhead_sandbox::{CONFIGURATION, SYSTEM};

use crate::manifest::HostPath;

/// So many files of one directory are granted as that directory.
const MANY: usize = 3;

/// What a compartment makes itself.
const OWN: [&str; 4] = ["/plugin", "/data", "/tmp", "/dev"];

/// What runtimes and libc look for by themselves and go on without: no plugin needs it for that.
const PROBED: [&str; 15] = [
    // Rust's and Go's count of processors, and the size of a thread's stack.
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/maps",
    "/proc/cpuinfo",
    "/proc/stat",
    "/sys",
    // Allocators.
    "/proc/sys/vm/overcommit_memory",
    "/proc/meminfo",
    // The loader, and names that libc resolves.
    "/etc/ld.so.preload",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nscd.conf",
    "/etc/resolv.conf",
    "/run/nscd",
    "/var/run/nscd",
];

/// Directories whose children are whole trees of their own, besides the root.
const TREES: [&str; 7] = ["/home", "/root", "/usr", "/var", "/run", "/media", "/mnt"];

/// What a plugin needs for something that it has tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Nothing,
    Proc,
    Read(HostPath),
    Write(HostPath),
    /// More than is proposed unasked, or nothing that a manifest can say: why.
    Not(String),
}

pub(super) fn need(path: &Path, doing: Doing) -> Need {
    if is_beneath(path, &OWN) || is_beneath(path, &PROBED) {
        return Need::Nothing;
    }
    if path.starts_with("/proc") {
        // Whose processes are there is another matter inside, so it is not looked up.
        return if doing == Doing::Look { Need::Nothing } else { Need::Proc };
    }
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(_) if matches!(doing, Doing::Write | Doing::Make | Doing::Remove) => {
            return parent(path);
        }
        // It would not be there either.
        Err(_) => return Need::Nothing,
    };
    if real != path {
        return by_link(path, &real, doing);
    }
    let is_directory = real.is_dir();
    let is_shown = is_system(&real) || is_beneath(&real, &CONFIGURATION);
    match doing {
        // Nobody keeps it from seeing what is shown, and of directories only some are there.
        Doing::Look if is_shown || is_directory || real.starts_with("/etc") => Need::Nothing,
        Doing::Read | Doing::Execute if is_shown => Need::Nothing,
        Doing::Look | Doing::Read | Doing::Execute => granted(&real, is_directory, Need::Read),
        Doing::Write => writable(&real, is_directory),
        // It is there: so it is left as it is.
        Doing::Make if is_directory => Need::Nothing,
        Doing::Make | Doing::Remove => parent(&real),
    }
}

/// What is made, removed or renamed is so in its directory.
fn parent(path: &Path) -> Need {
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    match parent {
        Some(parent) if parent.is_dir() => writable(&parent, true),
        _ => Need::Nothing,
    }
}

fn writable(real: &Path, is_directory: bool) -> Need {
    if is_system(real) || real.starts_with("/etc") {
        let real = real.display();
        return Need::Not(format!(
            "it would change {real}, which is the machine's; have it use /data"
        ));
    }
    granted(real, is_directory, Need::Write)
}

/// Beneath a directory that every compartment shows.
fn is_system(path: &Path) -> bool {
    is_beneath(path, &SYSTEM.map(|name| ["/", name].concat()))
}

fn granted(real: &Path, is_directory: bool, how: impl Fn(HostPath) -> Need) -> Need {
    if is_directory && is_wide(real) {
        let real = real.display();
        return Need::Not(format!("{real} is a whole tree; name what of it the plugin needs"));
    }
    match HostPath::try_from(real.to_string_lossy().into_owned()) {
        Ok(place) if Path::new(&place.to_string()) == real => how(place),
        _ => Need::Not(format!("{} is no path that a manifest can name", real.display())),
    }
}

/// A link that the compartment shows leads to the place that is granted; any other is not there.
fn by_link(path: &Path, real: &Path, doing: Doing) -> Need {
    let need = need(real, doing);
    let link = path.ancestors().filter(|part| part.is_symlink()).last();
    let is_shown = link.is_none_or(|link| is_system(link) || link.starts_with("/etc"));
    if is_shown || need == Need::Nothing {
        return need;
    }
    let (path, real) = (path.display(), real.display());
    Need::Not(format!(
        "{path} leads to {real} by a link, which is not there in a compartment; open {real}"
    ))
}

/// Whether it is more than anybody grants without a thought.
fn is_wide(directory: &Path) -> bool {
    let depth = directory.components().count() - 1;
    let beneath_tree =
        directory.parent().is_some_and(|parent| TREES.iter().any(|tree| parent == Path::new(tree)));
    depth < 2 || beneath_tree || directory.starts_with("/etc")
}

fn is_beneath<P: AsRef<Path>>(path: &Path, places: &[P]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Whether one of `places` is the path, or above it.
pub(super) fn covers<'a>(places: impl IntoIterator<Item = &'a HostPath>, path: &Path) -> bool {
    places.into_iter().any(|place| path.starts_with(place.as_path()))
}

/// The same with many files of a directory as that directory, and nothing that another covers.
pub(super) fn gathered(places: BTreeSet<HostPath>) -> BTreeSet<HostPath> {
    let mut siblings: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for place in &places {
        if let Some(parent) = place.as_path().parent() {
            *siblings.entry(parent.to_owned()).or_default() += 1;
        }
    }
    let hidden = |path: &Path| path.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    let as_directory = |place: &HostPath| -> Option<HostPath> {
        let parent = place.as_path().parent()?;
        let many = siblings.get(parent).is_some_and(|count| *count >= MANY);
        if !many || is_wide(parent) || hidden(parent) {
            return None;
        }
        HostPath::try_from(parent.to_str()?.to_owned()).ok()
    };
    let gathered: BTreeSet<HostPath> =
        places.into_iter().map(|place| as_directory(&place).unwrap_or(place)).collect();
    let others = gathered.clone();
    gathered
        .into_iter()
        .filter(|place| !covers(others.iter().filter(|other| *other != place), place.as_path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(paths: &[&str]) -> BTreeSet<HostPath> {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn many_files_become_their_directory_but_no_whole_tree_and_no_secret_one() {
        for (files, expected) in [
            (&["/srv/a/1", "/srv/a/2"][..], &["/srv/a/1", "/srv/a/2"][..]),
            (&["/srv/a/1", "/srv/a/2", "/srv/a/3", "/srv/b/1"], &["/srv/a", "/srv/b/1"]),
            (&["/srv/1", "/srv/2", "/srv/3"], &["/srv/1", "/srv/2", "/srv/3"]),
            (&["/etc/x/1", "/etc/x/2", "/etc/x/3"], &["/etc/x/1", "/etc/x/2", "/etc/x/3"]),
            (&["/home/u/1", "/home/u/2", "/home/u/3"], &["/home/u/1", "/home/u/2", "/home/u/3"]),
            (
                &["/home/u/.k/1", "/home/u/.k/2", "/home/u/.k/3"],
                &["/home/u/.k/1", "/home/u/.k/2", "/home/u/.k/3"],
            ),
            // What another covers is not named again.
            (&["/srv/a", "/srv/a/b/c", "/srv/ab"], &["/srv/a", "/srv/ab"]),
        ] {
            assert_eq!(gathered(places(files)), places(expected), "{files:?}");
        }
    }

    #[test]
    fn a_whole_tree_is_wide_and_what_lies_in_it_is_not() {
        for wide in ["/", "/srv", "/etc", "/etc/ssl", "/home/u", "/var/lib", "/usr/share"] {
            assert!(is_wide(Path::new(wide)), "{wide}");
        }
        for fine in ["/srv/data", "/home/u/project", "/var/lib/thing", "/opt/thing"] {
            assert!(!is_wide(Path::new(fine)), "{fine}");
        }
    }

    #[test]
    fn what_is_needed_depends_on_what_is_there_and_what_was_done() {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = root.path().canonicalize().unwrap();
        let (file, directory) = (root.join("file"), root.join("directory"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&file, root.join("link")).unwrap();
        let place = |path: &Path| path.to_str().unwrap().parse::<HostPath>().unwrap();
        for (path, doing, expected) in [
            (file.clone(), Doing::Read, Need::Read(place(&file))),
            (file.clone(), Doing::Look, Need::Read(place(&file))),
            (file.clone(), Doing::Write, Need::Write(place(&file))),
            (file.clone(), Doing::Make, Need::Write(place(&root))),
            (directory.clone(), Doing::Look, Need::Nothing),
            (directory.clone(), Doing::Read, Need::Read(place(&directory))),
            (directory.clone(), Doing::Make, Need::Nothing),
            (directory.clone(), Doing::Remove, Need::Write(place(&root))),
            (file.clone(), Doing::Remove, Need::Write(place(&root))),
            (root.join("new"), Doing::Remove, Need::Write(place(&root))),
            // Its times or its mode.
            (directory.clone(), Doing::Write, Need::Write(place(&directory))),
            (directory.join("new"), Doing::Write, Need::Write(place(&directory))),
            (directory.join("none"), Doing::Read, Need::Nothing),
            (directory.join("none/new"), Doing::Make, Need::Nothing),
            ("/usr/bin/env".into(), Doing::Read, Need::Nothing),
            ("/etc/passwd".into(), Doing::Read, Need::Nothing),
            ("/etc/fstab".into(), Doing::Look, Need::Nothing),
            ("/proc/self/status".into(), Doing::Read, Need::Proc),
            ("/proc/self/cgroup".into(), Doing::Read, Need::Nothing),
            ("/data/x".into(), Doing::Make, Need::Nothing),
        ] {
            assert_eq!(need(&path, doing), expected, "{path:?} {doing:?}");
        }
        for (path, doing, why) in [
            (root.join("link"), Doing::Read, "by a link"),
            ("/var".into(), Doing::Read, "whole tree"),
            ("/var/new".into(), Doing::Make, "whole tree"),
            ("/etc/new".into(), Doing::Write, "the machine's"),
            ("/usr/bin/env".into(), Doing::Write, "the machine's"),
        ] {
            let Need::Not(text) = need(&path, doing) else { panic!("{path:?}") };
            assert!(text.contains(why), "{text}");
        }
    }
}
