//! From a path that the plugin has tried to the place that a manifest would have to name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::floors::is_shown;
use bulkhead_sandbox::learning::Doing;
use bulkhead_sandbox::{CONFIGURATION, is_system};

use super::homes::Homes;
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

/// What a path is held against.
#[derive(Clone, Debug, Default)]
pub(super) struct Ground {
    pub(super) homes: Homes,
    /// The places that the plugin has while it tries.
    pub(super) read: Vec<HostPath>,
    pub(super) write: Vec<HostPath>,
}

impl Ground {
    /// The innermost place that the plugin has for this.
    fn place(&self, path: &Path, doing: Doing) -> Option<&HostPath> {
        let read: &[HostPath] = if changes(doing) { &[] } else { &self.read };
        let above =
            read.iter().chain(&self.write).filter(|place| path.starts_with(place.as_path()));
        above.max_by_key(|place| place.as_path().components().count())
    }
}

fn changes(doing: Doing) -> bool {
    matches!(doing, Doing::Write | Doing::Make | Doing::Remove)
}

/// What is needed for that: to be asked before it is done, as it may change what is there. A path beneath a
/// place that the plugin has is a use of that place, whatever is there, and wherever a link in it leads;
/// where it leads out, that is needed besides.
pub(super) fn needs(path: &Path, doing: Doing, ground: &Ground) -> Vec<Need> {
    if is_beneath(path, &OWN) || is_beneath(path, &PROBED) {
        return Vec::new();
    }
    if path.starts_with("/proc") {
        // Whose processes are there is another matter inside, so it is not looked up.
        return if doing == Doing::Look { Vec::new() } else { vec![Need::Proc] };
    }
    let Some(place) = ground.place(path, doing) else {
        return some(need(path, doing, ground)).collect();
    };
    let used = if changes(doing) { Need::Write(place.clone()) } else { Need::Read(place.clone()) };
    let within = fs::canonicalize(place.as_path());
    let out = real(path).filter(|real| !within.is_ok_and(|within| real.starts_with(within)));
    let further = out.map_or(Need::Nothing, |real| need(&real, doing, ground));
    [used].into_iter().chain(some(further)).collect()
}

fn some(need: Need) -> impl Iterator<Item = Need> {
    (need != Need::Nothing).then_some(need).into_iter()
}

/// Where a path leads; its last name may be missing there.
fn real(path: &Path) -> Option<PathBuf> {
    let missing = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(missing)
}

fn need(path: &Path, doing: Doing, ground: &Ground) -> Need {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(_) if matches!(doing, Doing::Write | Doing::Make) => return parent(path, ground),
        // It would not be there either, to be read or removed.
        Err(_) => return Need::Nothing,
    };
    if real != path {
        return by_link(path, &real, doing, ground);
    }
    if let Some(place) = ground.place(&real, doing) {
        return if changes(doing) { Need::Write(place.clone()) } else { Need::Read(place.clone()) };
    }
    let is_directory = real.is_dir();
    let is_shown = is_system(&real) || is_beneath(&real, &CONFIGURATION);
    match doing {
        // Nobody keeps it from seeing what is shown, and of directories only some are there.
        Doing::Look if is_shown || is_directory || real.starts_with("/etc") => Need::Nothing,
        Doing::Read | Doing::Execute if is_shown => Need::Nothing,
        Doing::Look | Doing::Read | Doing::Execute => {
            granted(&real, is_directory, ground, Need::Read)
        }
        Doing::Write => writable(&real, is_directory, ground),
        // It is there: so it is left as it is.
        Doing::Make if is_directory => Need::Nothing,
        Doing::Make | Doing::Remove => parent(&real, ground),
    }
}

/// What is made, removed or renamed is so in its directory.
fn parent(path: &Path, ground: &Ground) -> Need {
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
    match parent {
        Some(parent) if parent.is_dir() => writable(&parent, true, ground),
        _ => Need::Nothing,
    }
}

fn writable(real: &Path, is_directory: bool, ground: &Ground) -> Need {
    if let Some(place) = ground.place(real, Doing::Write) {
        return Need::Write(place.clone());
    }
    if is_shown(real) {
        let real = real.display();
        return Need::Not(format!(
            "it would change {real}, which is the machine's; have it use /data"
        ));
    }
    granted(real, is_directory, ground, Need::Write)
}

fn granted(
    real: &Path,
    is_directory: bool,
    ground: &Ground,
    how: impl Fn(HostPath) -> Need,
) -> Need {
    if is_directory && is_wide(real, &ground.homes) {
        let what = if is_delicate(real) { "where secrets are kept" } else { "a whole tree" };
        let real = real.display();
        return Need::Not(format!("{real} is {what}; name what of it the plugin needs"));
    }
    match HostPath::try_from(real.to_string_lossy().into_owned()) {
        Ok(place) if Path::new(&place.to_string()) == real => how(place),
        _ => Need::Not(format!("{} is no path that a manifest can name", real.display())),
    }
}

/// A link that the compartment shows leads to the place that is granted; any other is not there.
fn by_link(path: &Path, real: &Path, doing: Doing, ground: &Ground) -> Need {
    let need = need(real, doing, ground);
    let link = path.ancestors().filter(|part| part.is_symlink()).last();
    let is_shown =
        link.is_none_or(|link| is_shown(link) || ground.place(link, Doing::Look).is_some());
    if is_shown || need == Need::Nothing {
        return need;
    }
    let (path, real) = (path.display(), real.display());
    Need::Not(format!(
        "{path} leads to {real} by a link, which is not there in a compartment; open {real}"
    ))
}

/// Whether it is more than anybody grants without a thought.
fn is_wide(directory: &Path, homes: &Homes) -> bool {
    let depth = directory.components().count() - 1;
    let beneath_tree =
        directory.parent().is_some_and(|parent| TREES.iter().any(|tree| parent == Path::new(tree)));
    depth < 2
        || beneath_tree
        || directory.starts_with("/etc")
        || homes.has(directory)
        || is_delicate(directory)
}

/// Whether what lies there is often secret: beneath a hidden name, or among the sockets of a user's session.
pub(super) fn is_delicate(path: &Path) -> bool {
    let hidden = path.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    hidden || path.starts_with("/run/user")
}

fn is_beneath<P: AsRef<Path>>(path: &Path, places: &[P]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Whether one of `places` is the path, or above it.
pub(super) fn covers<'a>(places: impl IntoIterator<Item = &'a HostPath>, path: &Path) -> bool {
    places.into_iter().any(|place| path.starts_with(place.as_path()))
}

/// The same with many files of a directory as that directory, and nothing that another covers.
pub(super) fn gathered(places: BTreeSet<HostPath>, homes: &Homes) -> BTreeSet<HostPath> {
    let mut siblings: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for place in &places {
        if let Some(parent) = place.as_path().parent() {
            *siblings.entry(parent.to_owned()).or_default() += 1;
        }
    }
    let as_directory = |place: &HostPath| -> Option<HostPath> {
        let parent = place.as_path().parent()?;
        let many = siblings.get(parent).is_some_and(|count| *count >= MANY);
        if !many || is_wide(parent, homes) {
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
            let gathered = gathered(places(files), &Homes::default());
            assert_eq!(gathered, places(expected), "{files:?}");
        }
    }

    #[test]
    fn a_whole_tree_is_wide_and_what_lies_in_it_is_not() {
        let homes = Homes::of("eve:x:1001:1001::/srv/people/eve:/bin/sh", None, 0);
        for wide in [
            "/",
            "/srv",
            "/etc",
            "/etc/ssl",
            "/home/u",
            "/var/lib",
            "/usr/share",
            "/srv/people/eve",
            "/srv/people",
            "/home/u/.ssh",
            "/home/u/.config/thing",
            "/srv/people/eve/.gnupg",
            "/run/user/1000",
            "/run/user/1000/bus",
        ] {
            assert!(is_wide(Path::new(wide), &homes), "{wide}");
        }
        for fine in [
            "/srv/data",
            "/home/u/project",
            "/var/lib/thing",
            "/opt/thing",
            "/srv/people/eve/project",
            "/run/thing/a",
        ] {
            assert!(!is_wide(Path::new(fine), &homes), "{fine}");
        }
    }

    #[test]
    fn what_is_needed_depends_on_what_is_there_and_what_was_done() {
        let root = plain_directory();
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
            (root.join("new"), Doing::Remove, Need::Nothing),
            (root.join("new"), Doing::Make, Need::Write(place(&root))),
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
            let needs = needs(&path, doing, &Ground::default());
            assert_eq!(needs, some(expected).collect::<Vec<_>>(), "{path:?} {doing:?}");
        }
        for (path, doing, why) in [
            (root.join("link"), Doing::Read, "by a link"),
            ("/var".into(), Doing::Read, "whole tree"),
            ("/var/new".into(), Doing::Make, "whole tree"),
            ("/etc/new".into(), Doing::Write, "the machine's"),
            ("/usr/bin/env".into(), Doing::Write, "the machine's"),
        ] {
            let needs = needs(&path, doing, &Ground::default());
            let [Need::Not(text)] = &needs[..] else { panic!("{path:?} {needs:?}") };
            assert!(text.contains(why), "{text}");
        }
    }

    /// Without a hidden name in its path.
    fn plain_directory() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("learn-").tempdir_in("/var/tmp").unwrap()
    }

    #[test]
    fn a_path_beneath_a_place_that_is_granted_is_a_use_of_it_whatever_is_there() {
        let root = plain_directory();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        let place = |name: &str| at(name).to_str().unwrap().parse::<HostPath>().unwrap();
        for directory in ["data", "data/v1", "out", "elsewhere"] {
            fs::create_dir(at(directory)).unwrap();
        }
        for file in ["data/v1/x", "elsewhere/y"] {
            fs::write(at(file), "x").unwrap();
        }
        for (target, link) in [("v1", "data/current"), ("../elsewhere", "data/away")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let ground = Ground {
            read: vec![place("data")],
            write: vec![place("out")],
            homes: Homes::default(),
        };
        for (path, doing, expected) in [
            ("data/current/x", Doing::Read, &[Need::Read(place("data"))][..]),
            ("data/none", Doing::Read, &[Need::Read(place("data"))]),
            // It was there when it was used, and is not now.
            ("out/gone", Doing::Make, &[Need::Write(place("out"))]),
            ("out/gone", Doing::Read, &[Need::Read(place("out"))]),
            // What it is granted for reading is not so for writing.
            ("data/new", Doing::Write, &[Need::Write(place("data"))]),
            ("data/v1/x", Doing::Write, &[Need::Write(place("data/v1/x"))]),
            // A link that leads out shows nothing there.
            (
                "data/away/y",
                Doing::Read,
                &[Need::Read(place("data")), Need::Read(place("elsewhere/y"))],
            ),
            ("elsewhere/y", Doing::Read, &[Need::Read(place("elsewhere/y"))]),
        ] {
            assert_eq!(needs(&at(path), doing, &ground), expected, "{path} {doing:?}");
        }
    }

    #[test]
    fn a_file_beneath_a_hidden_name_is_one_by_one_and_its_directory_is_not() {
        let root = plain_directory();
        let root = root.path().canonicalize().unwrap();
        let hidden = root.join(".keys");
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("id"), "x").unwrap();
        let ground = Ground::default();
        let id = hidden.join("id").to_str().unwrap().parse().unwrap();
        assert_eq!(needs(&hidden.join("id"), Doing::Read, &ground), [Need::Read(id)]);
        for (path, doing) in [(hidden.clone(), Doing::Read), (hidden.join("new"), Doing::Write)] {
            let needs = needs(&path, doing, &ground);
            let [Need::Not(text)] = &needs[..] else { panic!("{path:?} {needs:?}") };
            assert!(text.contains("secrets"), "{text}");
        }
        let homes = Homes::of(&format!("eve:x:1001:1001::{}:/bin/sh", root.display()), None, 0);
        let ground = Ground { homes, ..ground };
        let needs = needs(&root.join("new"), Doing::Make, &ground);
        assert!(
            matches!(&needs[..], [Need::Not(text)] if text.contains("whole tree")),
            "{needs:?}"
        );
    }
}
