use std::os::unix::fs::{PermissionsExt as _, symlink};

use nix::sys::stat::Mode;
use proptest::prelude::*;

use super::tree::{Fingerprint, Instant};
use super::*;
use crate::launcher::clearing::Clearing;
use crate::launcher::storage::{Ownership, Storage};

struct Place {
    directory: tempfile::TempDir,
    store: PackageStore,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = PackageStore::open(directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    /// A package whose entry is `bin/a`.
    fn package(&self, name: &str) -> PathBuf {
        let package = self.directory.path().join(name);
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::write(package.join("plugin.toml"), "id = \"a\"\n").unwrap();
        fs::write(package.join("bin/a"), "#!binary").unwrap();
        fs::set_permissions(package.join("bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
        package
    }

    fn import(&mut self, source: &Path) -> Result<Digest, Failure> {
        let mut import = self.store.import(source)?;
        loop {
            match self.store.step_import(import)? {
                Step::More(more) => import = more,
                Step::Done(digest) => return Ok(digest),
            }
        }
    }

    fn verify(&mut self, digest: Digest, entry: &str) -> Result<Verified, Failure> {
        let mut verification = self.store.verify(digest, entry);
        loop {
            match self.store.step_verification(verification)? {
                Step::More(more) => verification = more,
                Step::Done(verified) => return Ok(verified),
            }
        }
    }

    fn contents(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.store.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Writes to a file of the store as only root or its owner can.
fn alter(path: &Path, change: impl FnOnce(&Path)) {
    for each in [path.parent().unwrap(), path] {
        let mode = fs::metadata(each).unwrap().permissions().mode();
        fs::set_permissions(each, fs::Permissions::from_mode(mode | 0o200)).unwrap();
    }
    change(path);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_package_is_read_only_and_named_by_its_content() {
    let mut place = Place::new();
    let package = place.package("package");
    let digest = place.import(&package).unwrap();
    let tree = place.store.tree(digest);
    assert_eq!(mode(&tree), 0o555);
    assert_eq!(mode(&tree.join("bin")), 0o555);
    assert_eq!(mode(&tree.join("bin/a")), 0o555);
    assert_eq!(mode(&tree.join("plugin.toml")), 0o444);
    assert_eq!(fs::read(tree.join("bin/a")).unwrap(), b"#!binary");
    let list = fs::read_to_string(place.store.list(digest)).unwrap();
    assert_eq!(
        list,
        format!(
            "{} 0555 bin/a\n{} 0444 plugin.toml\n",
            Digest::of(b"#!binary"),
            Digest::of(b"id = \"a\"\n")
        )
    );
    assert_eq!(Digest::of(list.as_bytes()), digest);
    // The same again is the same, and another is another.
    assert_eq!(place.import(&package).unwrap(), digest);
    assert_eq!(place.contents().len(), 2);
    fs::write(package.join("asset"), "x").unwrap();
    assert_ne!(place.import(&package).unwrap(), digest);
    assert_eq!(place.contents().len(), 4);
}

#[test]
fn what_cannot_be_in_a_package_is_refused_and_nothing_stays() {
    type Break = fn(&Path);
    let cases: [(&str, Break, Code); 7] = [
        ("no manifest", |p| fs::remove_file(p.join("plugin.toml")).unwrap(), Code::NotFound),
        ("a link", |p| symlink("/etc/passwd", p.join("link")).unwrap(), Code::IntegrityFailed),
        (
            "a link to a directory",
            |p| symlink("/etc", p.join("etc")).unwrap(),
            Code::IntegrityFailed,
        ),
        (
            "a FIFO",
            |p| nix::unistd::mkfifo(&p.join("fifo"), Mode::S_IRWXU).unwrap(),
            Code::IntegrityFailed,
        ),
        (
            "a socket",
            |p| drop(std::os::unix::net::UnixListener::bind(p.join("socket")).unwrap()),
            Code::IntegrityFailed,
        ),
        (
            "a setuid bit",
            |p| fs::set_permissions(p.join("bin/a"), fs::Permissions::from_mode(0o4755)).unwrap(),
            Code::IntegrityFailed,
        ),
        ("a control character", |p| fs::write(p.join("a\nb"), "").unwrap(), Code::IntegrityFailed),
    ];
    for (what, damage, code) in cases {
        let mut place = Place::new();
        let package = place.package("package");
        damage(&package);
        let failure = place.import(&package).unwrap_err();
        assert_eq!(failure.code, code, "{what}: {failure}");
        assert_eq!(place.contents(), Vec::<String>::new(), "{what}");
    }
    let mut place = Place::new();
    assert_eq!(place.import(Path::new("relative")).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(place.import(Path::new("/nonexistent")).unwrap_err().code, Code::NotFound);
}

#[test]
fn a_hard_link_to_what_others_may_not_read_is_not_copied() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIP a_hard_link_to_what_others_may_not_read_is_not_copied: needs two owners");
        return;
    }
    let mut place = Place::new();
    let package = place.package("package");
    let secret = place.directory.path().join("secret");
    fs::write(&secret, "root's").unwrap();
    fs::hard_link(&secret, package.join("asset")).unwrap();
    // The control: of one owner it is copied.
    place.import(&package).unwrap();
    nix::unistd::chown(&package, Some(nix::unistd::Uid::from_raw(1_900_000_077)), None).unwrap();
    assert_eq!(place.import(&package).unwrap_err().code, Code::IntegrityFailed);
}

#[test]
fn too_many_files_are_refused_before_they_are_copied() {
    let mut place = Place::new();
    let package = place.package("package");
    let many = package.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..10_000 {
        fs::write(many.join(number.to_string()), "").unwrap();
    }
    let failure = place.import(&package).unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(place.contents(), Vec::<String>::new());
}

#[test]
fn a_copy_that_is_given_up_leaves_nothing() {
    let mut place = Place::new();
    let package = place.package("package");
    let import = place.store.import(&package).unwrap();
    let Step::More(import) = place.store.step_import(import).unwrap() else { panic!("too short") };
    assert_eq!(place.contents().len(), 1);
    drop(import);
    assert_eq!(place.contents(), Vec::<String>::new());
}

/// Finds what is left in the store, and removes it as is done once the service is ready.
fn next_start(path: &Path) {
    let mut store = PackageStore::open(path.to_owned()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let plugins = directory.path().join("plugins");
    let mut storage = Storage::open(plugins, Ownership::Invoker(0)).unwrap();
    for left in store.take_left() {
        storage.leave(left);
    }
    let mut clearing = Clearing::of(storage.take_left());
    while !clearing.step(&mut storage) {}
}

#[test]
fn what_a_dead_launcher_left_is_cleared() {
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    let path = place.store.path().to_owned();
    fs::create_dir_all(path.join(".import-3/bin")).unwrap();
    fs::write(path.join(format!("{}.sums", Digest::of(b"other"))), "").unwrap();
    next_start(&path);
    assert_eq!(place.contents(), [digest.to_string(), format!("{digest}.sums")]);
}

#[test]
fn a_verified_entry_is_the_file_that_was_imported() {
    use std::io::Read as _;
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    for _ in 0..2 {
        let verified = place.verify(digest, "bin/a").unwrap();
        let mut content = String::new();
        File::from(verified.entry).read_to_string(&mut content).unwrap();
        assert_eq!(content, "#!binary");
    }
}

#[test]
fn what_is_known_of_a_tree_is_there_once() {
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    let known = |place: &Place| Arc::clone(&place.store.known[&digest]);
    // Until its files are older than a check of them.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        place.verify(digest, "bin/a").unwrap();
        if known(&place).len() == 2 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{:?}", known(&place));
    }
    let before = known(&place);
    place.verify(digest, "bin/a").unwrap();
    assert!(Arc::ptr_eq(&before, &known(&place)), "nothing was new");
}

#[test]
fn a_bad_entry_and_a_missing_package_are_told_apart() {
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    let missing = place.verify(digest, "bin/b").unwrap_err();
    assert_eq!((missing.code, &missing.details["stage"]), (Code::NotFound, &"lookup".into()));
    let no_bit = place.verify(digest, "plugin.toml").unwrap_err();
    assert_eq!((no_bit.code, &no_bit.details["stage"]), (Code::EntryInvalid, &"mode".into()));
    assert_eq!(place.verify(Digest::of(b"x"), "bin/a").unwrap_err().code, Code::NotFound);
}

#[test]
fn any_change_in_the_store_is_found() {
    type Change = fn(&Path);
    let cases: [(&str, &str, Change); 6] = [
        ("another content", "bin/a", |p| fs::write(p, "#!harmful").unwrap()),
        ("the same size", "bin/a", |p| fs::write(p, "#!binarz").unwrap()),
        ("an asset", "plugin.toml", |p| fs::write(p, "id = \"b\"\n").unwrap()),
        ("removed", "bin/a", |p| fs::remove_file(p).unwrap()),
        ("a link", "bin/a", |p| {
            fs::remove_file(p).unwrap();
            symlink("/bin/sh", p).unwrap();
        }),
        ("a mode", "bin/a", |p| {
            fs::set_permissions(p, fs::Permissions::from_mode(0o755)).unwrap();
        }),
    ];
    for (what, file, change) in cases {
        let mut place = Place::new();
        let digest = place.import(&place.package("package")).unwrap();
        // It was good, and known to be.
        place.verify(digest, "bin/a").unwrap();
        let path = place.store.tree(digest).join(file);
        alter(&path, change);
        if what == "another content" || what == "the same size" || what == "an asset" {
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if file == "bin/a" { 0o555 } else { 0o444 }),
            )
            .unwrap();
        }
        let failure = place.verify(digest, "bin/a").unwrap_err();
        assert_eq!(failure.code, Code::IntegrityFailed, "{what}: {failure}");
    }
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    alter(&place.store.list(digest), |list| fs::write(list, "").unwrap());
    assert_eq!(place.verify(digest, "bin/a").unwrap_err().code, Code::IntegrityFailed);
}

#[test]
fn a_damaged_package_is_repaired_by_installing_it_again() {
    type Damage = fn(&PackageStore, Digest);
    let cases: [(&str, Damage); 4] = [
        ("a content", |store, digest| {
            let entry = store.tree(digest).join("bin/a");
            alter(&entry, |path| fs::write(path, "#!binarz").unwrap());
            fs::set_permissions(&entry, fs::Permissions::from_mode(0o555)).unwrap();
        }),
        ("a missing file", |store, digest| {
            alter(&store.tree(digest).join("plugin.toml"), |path| fs::remove_file(path).unwrap());
        }),
        ("a list", |store, digest| {
            alter(&store.list(digest), |list| fs::write(list, "").unwrap());
        }),
        ("an orphan without its list", |store, digest| {
            alter(&store.tree(digest).join("bin/a"), |path| fs::write(path, "").unwrap());
            fs::remove_file(store.list(digest)).unwrap();
        }),
    ];
    for (what, damage) in cases {
        let mut place = Place::new();
        let package = place.package("package");
        let digest = place.import(&package).unwrap();
        place.verify(digest, "bin/a").unwrap();
        damage(&place.store, digest);
        // The control: it is damaged.
        assert!(place.verify(digest, "bin/a").is_err(), "{what}");
        assert_eq!(place.import(&package).unwrap(), digest, "{what}");
        place.verify(digest, "bin/a").unwrap_or_else(|failure| panic!("{what}: {failure}"));
        assert_eq!(fs::read(place.store.tree(digest).join("bin/a")).unwrap(), b"#!binary");
        // What was there may be in use; the next start clears it.
        next_start(place.store.path());
        assert_eq!(place.contents(), [digest.to_string(), format!("{digest}.sums")], "{what}");
    }
}

#[test]
fn a_good_package_stays_when_it_is_installed_again() {
    use std::os::unix::fs::MetadataExt as _;
    let mut place = Place::new();
    let package = place.package("package");
    let digest = place.import(&package).unwrap();
    let inode = |place: &Place| fs::metadata(place.store.tree(digest)).unwrap().ino();
    let before = inode(&place);
    assert_eq!(place.import(&package).unwrap(), digest);
    assert_eq!(inode(&place), before);
    assert_eq!(place.contents().len(), 2);
}

#[test]
fn a_package_that_is_discarded_while_it_is_installed_again_is_there() {
    let mut place = Place::new();
    let package = place.package("package");
    let digest = place.import(&package).unwrap();
    let mut importing = place.store.import(&package).unwrap();
    let mut removal = None;
    loop {
        // The copy is sealed, so the tree in the store is being held against it.
        if removal.is_none()
            && fs::metadata(place.store.path().join(".import-2"))
                .is_ok_and(|copy| copy.permissions().mode() & 0o777 == 0o555)
        {
            removal = place.store.discard(digest).unwrap();
        }
        match place.store.step_import(importing).unwrap() {
            Step::More(more) => importing = more,
            Step::Done(done) => break assert_eq!(done, digest),
        }
    }
    let mut removal = removal.expect("the copy was sealed before its last step");
    while !removal.step().unwrap() {}
    place.verify(digest, "bin/a").unwrap();
    assert_eq!(place.contents().len(), 2);
}

#[test]
fn an_import_that_is_given_up_is_removed_in_steps() {
    let mut place = Place::new();
    let package = place.package("package");
    let importing = place.store.import(&package).unwrap();
    let Step::More(importing) = place.store.step_import(importing).unwrap() else {
        panic!("too short")
    };
    let mut importing = importing.give_up();
    assert_eq!(place.contents().len(), 1);
    let failure = loop {
        match place.store.step_import(importing) {
            Ok(Step::More(more)) => importing = more,
            Ok(Step::Done(digest)) => panic!("{digest} was given up"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.code, Code::ShuttingDown);
    assert_eq!(place.contents(), Vec::<String>::new());
}

#[test]
fn a_discarded_package_is_gone() {
    let mut place = Place::new();
    let digest = place.import(&place.package("package")).unwrap();
    let mut removal = place.store.discard(digest).unwrap().unwrap();
    assert_eq!(place.verify(digest, "bin/a").unwrap_err().code, Code::NotFound);
    while !removal.step().unwrap() {}
    assert_eq!(place.contents(), Vec::<String>::new());
    assert!(place.store.discard(digest).unwrap().is_none());
}

#[test]
fn a_long_list_is_read_in_pieces() {
    let mut place = Place::new();
    let line = |number| format!("{} 0444 share/{number:05}\n", Digest::of(b""));
    let text: String = (0..10_000).map(line).collect();
    let digest = Digest::of(text.as_bytes());
    fs::create_dir(place.store.tree(digest)).unwrap();
    fs::write(place.store.list(digest), text).unwrap();
    let mut verification = place.store.verify(digest, "bin/a");
    let mut pieces = 0;
    let failure = loop {
        match place.store.step_verification(verification) {
            Ok(Step::More(more)) => verification = more,
            Ok(Step::Done(verified)) => panic!("{verified:?}"),
            Err(failure) => break failure,
        }
        pieces += 1;
    };
    assert_eq!((failure.code, &failure.details["what"]), (Code::NotFound, &"entry".into()));
    assert!(pieces > 10, "{pieces} pieces");
}

proptest! {
    #[test]
    fn the_list_of_sums_reads_back_and_nothing_else_does(
        paths in prop::collection::btree_set("[a-z]{1,4}(/[a-zA-Z0-9 ._-]{1,6}x){0,3}", 0..8),
        executable in any::<bool>(),
        noise in ".{0,60}",
    ) {
        let mut sums = sums::Sums::default();
        for path in paths {
            let digest = Digest::of(path.as_bytes());
            sums.insert(path, sums::Sum { digest, executable });
        }
        let text = sums.to_text();
        let parse = |text: &str| {
            let mut parsed = sums::Sums::default();
            parsed.extend(text).map(|()| parsed)
        };
        prop_assert_eq!(parse(&text).unwrap(), sums);
        if let Ok(parsed) = parse(&noise) {
            prop_assert_eq!(parsed.to_text(), noise);
        }
    }
}

#[test]
fn a_file_as_young_as_its_check_is_looked_at_again() {
    use std::os::unix::fs::MetadataExt as _;

    let file = tempfile::tempfile().unwrap();
    let print = Fingerprint::of(&file).unwrap();
    let stat = file.metadata().unwrap();
    let tick = Instant(stat.ctime(), stat.ctime_nsec());
    assert!(!print.is_older(tick), "what is changed in the same tick has the same ctime");
    assert!(print.is_older(Instant(tick.0, tick.1 + 1)));
}
