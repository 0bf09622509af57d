use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bulkhead_sandbox::Policy;

use super::super::storage::Ownership;
use super::*;
use crate::link::Json;

/// A store, and the digest of a package with a few files in it.
fn store(directory: &tempfile::TempDir) -> (PackageStore, Digest) {
    let package = directory.path().join("package");
    fs::create_dir(&package).unwrap();
    for name in ["asset", "entry", "plugin.toml"] {
        fs::write(package.join(name), name).unwrap();
        fs::set_permissions(package.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut store = PackageStore::open(directory.path().join("store")).unwrap();
    let mut import = store.import(&package).unwrap();
    loop {
        match store.step_import(import).unwrap() {
            Step::More(more) => import = more,
            Step::Done(digest) => return (store, digest),
        }
    }
}

fn verify(store: &PackageStore, digest: Digest, number: usize) -> Work {
    let spawn = Spawn {
        id: format!("plugin-{number}").parse().unwrap(),
        digest,
        entry: "entry".to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        policy: Json(Policy::default()),
    };
    let verification = store.verify(digest, &spawn.entry);
    Work::Verify { start: Box::new(Start { spawn, policy: Policy::default() }), verification }
}

#[test]
fn few_starts_verify_at_a_time_and_all_of_them_are_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, digest) = store(&directory);
    let ownership = Ownership::Invoker(nix::unistd::geteuid().as_raw());
    let mut storage = Storage::open(directory.path().join("plugins"), ownership).unwrap();
    let mut jobs = Jobs::default();
    for number in 0..MAX_JOBS {
        jobs.push(number as RequestNumber, verify(&store, digest, number));
    }
    let (mut started, mut most) = (Vec::new(), 0);
    while !jobs.is_empty() {
        match jobs.step(&mut store, &mut storage) {
            None => most = most.max(jobs.verifying()),
            Some(Outcome::Start(number, ..)) => started.push(number),
            Some(_) => panic!("a start that was not verified"),
        }
    }
    assert_eq!(most, MAX_VERIFICATIONS);
    started.sort_unstable();
    assert_eq!(started, (0..MAX_JOBS as RequestNumber).collect::<Vec<_>>());
}
