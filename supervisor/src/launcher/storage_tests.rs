use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::unistd::geteuid;

use super::*;
use crate::launcher::clearing::Clearing;
use crate::launcher::package_store::PackageStore;

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

/// As root with leases, and otherwise as one user: the rules that hold for both.
fn ownership(count: u32) -> Ownership {
    if geteuid().is_root() {
        Ownership::Leased(UidRange { first: 1_900_100_000, count })
    } else {
        Ownership::Invoker(geteuid().as_raw())
    }
}

fn leased(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("SKIP {test}: only root can give storage to another uid");
    }
    root
}

fn release(storage: &mut Storage, plugin: &str) {
    let mut release = storage.release(&id(plugin)).unwrap().expect("there is storage");
    while !storage.step_release(&mut release).unwrap() {}
}

#[test]
fn an_allotment_is_kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugins");
    let mut storage = Storage::open(path.clone(), ownership(3)).unwrap();
    let first = storage.allot(&id("a")).unwrap();
    let metadata = fs::metadata(&first.data).unwrap();
    assert_eq!(metadata.uid(), first.uid);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    assert_eq!(storage.allot(&id("a")).unwrap(), first);
    fs::write(first.data.join("state"), "kept").unwrap();
    drop(storage);
    let mut storage = Storage::open(path, ownership(3)).unwrap();
    assert_eq!(storage.get(&id("a")), Some(first.clone()));
    assert_eq!(storage.allot(&id("a")).unwrap(), first);
    assert_eq!(fs::read_to_string(first.data.join("state")).unwrap(), "kept");
}

#[test]
fn a_release_leaves_nothing_however_deep_and_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugins");
    let mut storage = Storage::open(path.clone(), ownership(3)).unwrap();
    let data = storage.allot(&id("a")).unwrap().data;
    let outside = directory.path().join("outside");
    fs::write(&outside, "not the plugin's").unwrap();
    std::os::unix::fs::symlink(&outside, data.join("link")).unwrap();
    let mut deep = data.clone();
    for level in 0..60 {
        deep.push(format!("level-{level}-{}", "x".repeat(40)));
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
    }
    let locked = data.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("inside"), "x").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    for number in 0..1500 {
        fs::write(data.join(format!("many-{number}")), "").unwrap();
    }
    release(&mut storage, "a");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "not the plugin's");
    assert!(storage.release(&id("a")).unwrap().is_none());
}

#[test]
fn a_uid_is_leased_once_and_rests_after_its_release() {
    if !leased("a_uid_is_leased_once_and_rests_after_its_release") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Storage::open(directory.path().join("plugins"), ownership(3)).unwrap();
    let a = storage.allot(&id("a")).unwrap().uid;
    let b = storage.allot(&id("b")).unwrap().uid;
    release(&mut storage, "a");
    let c = storage.allot(&id("c")).unwrap().uid;
    assert_eq!((a, b, c), (1_900_100_000, 1_900_100_001, 1_900_100_002));
    assert_eq!(storage.allot(&id("d")).unwrap().uid, a);
    let failure = storage.allot(&id("e")).unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(failure.details["resource"], "uids");
    // While files of it are left, its uid is not free.
    let mut under_way = storage.release(&id("b")).unwrap().unwrap();
    assert_eq!(storage.allot(&id("e")).unwrap_err().code, Code::ResourceExhausted);
    while !storage.step_release(&mut under_way).unwrap() {}
    assert_eq!(storage.allot(&id("e")).unwrap().uid, b);
}

#[test]
fn leases_that_cannot_be_are_refused_at_the_start() {
    if !leased("leases_that_cannot_be_are_refused_at_the_start") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugins");
    let mut storage = Storage::open(path.clone(), ownership(3)).unwrap();
    let a = storage.allot(&id("a")).unwrap();
    let b = storage.allot(&id("b")).unwrap();
    let give = |data: &Path, uid| chown(data, Some(Uid::from_raw(uid)), None).unwrap();
    give(&b.data, a.uid);
    assert!(matches!(
        Storage::open(path.clone(), ownership(3)),
        Err(StorageError::SharedUid { uid, .. }) if uid == a.uid
    ));
    give(&b.data, 0);
    assert!(matches!(
        Storage::open(path.clone(), ownership(3)),
        Err(StorageError::ForeignUid { uid: 0, .. })
    ));
    give(&b.data, b.uid);
    assert_eq!(Storage::open(path, ownership(3)).unwrap().get(&id("b")), Some(b));
}

#[test]
fn what_was_interrupted_is_cleared_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugins");
    let mut storage = Storage::open(path.clone(), ownership(3)).unwrap();
    storage.allot(&id("a")).unwrap();
    fs::create_dir(path.join("half")).unwrap();
    fs::create_dir_all(path.join(".removing-1-1/data/deep")).unwrap();
    // A release that is never stepped, as when the launcher dies.
    drop(storage.release(&id("a")).unwrap().unwrap());
    drop(storage);
    let mut storage = Storage::open(path.clone(), ownership(3)).unwrap();
    assert_eq!(storage.get(&id("half")), None);
    // The start does not wait for it, and the uid of what is left is not free.
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
    if geteuid().is_root() {
        assert_eq!(storage.taken().copied().collect::<Vec<_>>(), [1_900_100_000]);
    }
    clear(&mut storage);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(storage.taken().count(), 0);
}

#[test]
fn what_is_left_of_a_package_that_was_opened_keeps_its_uid() {
    if !leased("what_is_left_of_a_package_that_was_opened_keeps_its_uid") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut store = PackageStore::open(directory.path().join("store")).unwrap();
    // Never dropped, as where a launcher dies.
    std::mem::forget(store.scratch(1_900_100_001, ownership(2)).unwrap());
    let mut store = PackageStore::open(directory.path().join("store")).unwrap();
    let mut storage = Storage::open(directory.path().join("plugins"), ownership(2)).unwrap();
    for left in store.take_left() {
        storage.leave(left);
    }
    assert_eq!(storage.allot(&id("a")).unwrap().uid, 1_900_100_000);
    assert_eq!(storage.allot(&id("b")).unwrap_err().code, Code::ResourceExhausted);
    clear(&mut storage);
    assert_eq!(storage.allot(&id("b")).unwrap().uid, 1_900_100_001);
}

/// Does what is done after a start.
fn clear(storage: &mut Storage) {
    let mut clearing = Clearing::of(storage.take_left());
    while !clearing.step(storage) {}
}

/// Whether this is the run with mounts of its own; if not, runs the named test there.
fn with_own_mounts(test: &str) -> bool {
    const MARK: &str = "BULKHEAD_TEST_OWN_MOUNTS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("launcher::storage::tests::{test}"), "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && out.contains("1 passed"), "inside: {out}\n{err}");
    false
}

fn run(program: &str, arguments: &[&Path]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success());
}

#[test]
fn what_is_mounted_in_a_plugins_data_is_left_alone_and_keeps_no_service_down() {
    let test = "what_is_mounted_in_a_plugins_data_is_left_alone_and_keeps_no_service_down";
    if !leased(test) || !with_own_mounts(test) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plugins");
    let mut storage = Storage::open(path.clone(), ownership(4)).unwrap();
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("kept"), "not the plugin's").unwrap();
    // A volume of its own; and another directory of the same disk beneath it, among much else.
    let volume = storage.allot(&id("volume")).unwrap();
    let tmpfs = ["-t", "tmpfs", "none"].map(Path::new);
    run("mount", &[&tmpfs[..], &[volume.data.as_path()]].concat());
    fs::write(volume.data.join("kept"), "on the volume").unwrap();
    let bound = storage.allot(&id("bound")).unwrap();
    fs::create_dir_all(bound.data.join("deep/er")).unwrap();
    for number in 0..1500 {
        fs::write(bound.data.join(format!("many-{number}")), "").unwrap();
    }
    let at = bound.data.join("deep/er");
    run("mount", &[Path::new("--bind"), &other, &at]);
    let mut hidden = Vec::new();
    for name in ["volume", "bound"] {
        let mut release = storage.release(&id(name)).unwrap().unwrap();
        hidden.push(release.removal.path().to_owned());
        let failure = loop {
            match storage.step_release(&mut release) {
                Ok(done) => assert!(!done, "{name}"),
                Err(failure) => break failure,
            }
        };
        assert!(failure.to_string().contains("unmount it"), "{failure}");
    }
    // What is not mounted is gone.
    let left = |at: &Path| fs::read_dir(at).unwrap().count();
    assert_eq!(left(&hidden[1]), 1);
    let at = fs::read_dir(&hidden[1]).unwrap().next().unwrap().unwrap().path().join("er");
    let kept = || {
        assert_eq!(fs::read_to_string(other.join("kept")).unwrap(), "not the plugin's");
        fs::read_to_string(hidden[0].join("data/kept")).unwrap()
    };
    assert_eq!(kept(), "on the volume");
    // The next start serves. Neither uid is another's.
    drop(storage);
    let mut storage = Storage::open(path.clone(), ownership(4)).unwrap();
    clear(&mut storage);
    assert_eq!(kept(), "on the volume");
    let uids = ["a", "b"].map(|name| storage.allot(&id(name)).unwrap().uid);
    assert_eq!(uids, [1_900_100_002, 1_900_100_003]);
    assert_eq!(storage.allot(&id("c")).unwrap_err().code, Code::ResourceExhausted);
    // Once nothing is mounted any more, it is as any other.
    run("umount", &[&hidden[0].join("data"), &at]);
    drop(storage);
    let mut storage = Storage::open(path, ownership(4)).unwrap();
    clear(&mut storage);
    assert_eq!(hidden.iter().filter(|path| path.exists()).count(), 0);
    storage.allot(&id("c")).unwrap();
}
