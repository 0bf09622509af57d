use super::*;
use crate::trust::sample::Signing;

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn add(store: &TrustStore, key: &Signing, plugins: &[&str]) {
    store.add(key.public(), scopes(plugins), None, "added".to_owned()).unwrap();
}

/// What was done since, and how it is now.
fn look(store: &TrustStore, before: &mut Snapshot) -> Vec<ChangeKind> {
    let now = Snapshot::of(store).unwrap();
    let changes = now.since(before, store);
    let kinds = changes.iter().map(|change| change.kind).collect();
    for change in &changes {
        before.apply(change);
    }
    assert_eq!(*before, now, "all that is different was a change");
    kinds
}

#[test]
fn whatever_is_done_to_a_key_is_a_change_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = TrustStore::at(directory.path().join("trust"));
    let mut seen = Snapshot::default();
    assert_eq!(look(&store, &mut seen), []);
    let (one, two) = (Signing::new(), Signing::new());
    add(&store, &one, &["a"]);
    add(&store, &two, &["*"]);
    assert_eq!(look(&store, &mut seen), [ChangeKind::Added, ChangeKind::Added]);
    assert_eq!(look(&store, &mut seen), [], "seen already");
    store.add(one.public(), vec![], Some("whose".into()), "later".into()).unwrap();
    assert_eq!(look(&store, &mut seen), [], "a comment changes nothing");
    add(&store, &one, &["b-*"]);
    assert_eq!(look(&store, &mut seen), [ChangeKind::Rescoped]);
    store.revoke(one.public().id(), "then".into()).unwrap();
    assert_eq!(look(&store, &mut seen), [ChangeKind::Revoked]);
    let file = store.file(one.public().id());
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("revoked")).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    assert_eq!(look(&store, &mut seen), [ChangeKind::Reinstated]);
    fs::write(&file, "no key").unwrap();
    assert_eq!(look(&store, &mut seen), [ChangeKind::Broken]);
    fs::write(directory.path().join("trust/notes.toml"), "no key's").unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(look(&store, &mut seen), [ChangeKind::Removed]);
}

#[test]
fn a_change_tells_whose_file_it_is_and_of_when() {
    let directory = tempfile::tempdir().unwrap();
    let store = TrustStore::at(directory.path());
    let key = Signing::new();
    add(&store, &key, &["a"]);
    let seen = Snapshot::of(&store).unwrap();
    let added = &seen.since(&Snapshot::default(), &store)[0];
    assert_eq!(added.owner, Some(nix::unistd::geteuid().as_raw()));
    assert!(added.modified.unwrap() > Duration::from_secs(1_700_000_000));
    assert_eq!(added.after.as_ref().unwrap().key, Some(key.public()));
    let text = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), seen, "as it is kept");
    fs::remove_file(store.file(added.id)).unwrap();
    let removed = &Snapshot::default().since(&seen, &store)[0];
    assert_eq!((removed.owner, removed.modified, &removed.after), (None, None, &None));
    assert_eq!(removed.before, added.after);
}
