use std::os::unix::fs::symlink;

use super::super::sample::Signing;
use super::*;

fn store() -> (tempfile::TempDir, TrustStore) {
    let below = tempfile::tempdir().unwrap();
    let store = TrustStore::at(below.path().join("trust"));
    (below, store)
}

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

fn now() -> String {
    "2026-05-04T10:20:30.000Z".to_owned()
}

fn reason(failure: &Failure) -> &str {
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    failure.details["reason"].as_str().unwrap()
}

#[test]
fn what_is_not_there_trusts_nobody() {
    let (_below, store) = store();
    let key = Signing::new().public();
    assert_eq!(store.find(key.id()).unwrap(), None);
    assert!(store.list().unwrap().is_empty());
    assert_eq!(reason(&store.authorize(&id("a"), &[]).unwrap_err()), "unsigned");
    assert_eq!(reason(&store.authorize(&id("a"), &[key]).unwrap_err()), "unknown-key");
}

#[test]
fn a_key_counts_for_its_plugins_until_it_is_revoked() {
    let (_below, store) = store();
    let key = Signing::new().public();
    let added = store.add(key.clone(), scopes(&["b-*", "a"]), Some("us".into()), now()).unwrap();
    assert_eq!(added.plugins, scopes(&["a", "b-*"]));
    assert_eq!(store.find(key.id()).unwrap(), Some(added));
    let keys = [key.clone()];
    for plugin in ["a", "b-c"] {
        assert_eq!(store.authorize(&id(plugin), &keys).unwrap(), key.id());
    }
    let refused = store.authorize(&id("c"), &keys).unwrap_err();
    assert_eq!(reason(&refused), "other-plugin");
    assert_eq!(refused.details["key"], key.id().to_string());
    assert_eq!(refused.details["id"], "c");
    assert!(refused.message.contains("a, b-*"), "{refused}");
    // Again, for one more; the comment stays.
    let added = store.add(key.clone(), scopes(&["c"]), None, "later".into()).unwrap();
    assert_eq!((added.comment.as_deref(), added.added), (Some("us"), now()));
    store.authorize(&id("c"), &keys).unwrap();
    let revoked = store.revoke(key.id(), now()).unwrap();
    assert_eq!(revoked.revoked, Some(now()));
    let refused = store.authorize(&id("a"), &keys).unwrap_err();
    assert_eq!(reason(&refused), "revoked-key");
    assert!(refused.message.contains("2026-05-04"), "{refused}");
    // Twice is well and changes nothing; trusting it again is not.
    assert_eq!(store.revoke(key.id(), "later".into()).unwrap(), revoked);
    let conflict = store.add(key, scopes(&["*"]), None, now()).unwrap_err();
    assert_eq!(conflict.code, Code::Conflict);
    let absent = Signing::new().public().id();
    assert_eq!(store.revoke(absent, now()).unwrap_err().code, Code::NotFound);
}

#[test]
fn one_good_key_of_several_is_enough() {
    let (_below, store) = store();
    let (bad, good, unknown) = (Signing::new(), Signing::new(), Signing::new());
    let (bad, good, unknown) = (bad.public(), good.public(), unknown.public());
    store.add(bad.clone(), scopes(&["*"]), None, now()).unwrap();
    store.revoke(bad.id(), now()).unwrap();
    store.add(good.clone(), scopes(&["a"]), None, now()).unwrap();
    let keys = [bad.clone(), unknown.clone(), good.clone()];
    assert_eq!(store.authorize(&id("a"), &keys).unwrap(), good.id());
    assert!(store.authorize(&id("b"), &keys).is_err());
    assert!(store.authorize(&id("a"), &[bad, unknown]).is_err());
}

#[test]
fn a_key_of_the_same_name_is_another_key() {
    let (_below, store) = store();
    let (ours, theirs) = (Signing::new().public(), Signing::new().public());
    // Whoever makes a key chooses its name: the first 16 characters have it.
    let forged = format!("{}{}", &ours.as_str()[..13], &theirs.as_str()[13..]);
    let Ok(forged) = forged.parse::<PublicKey>() else { panic!("{forged} is well-formed") };
    let forged = if forged.id() == ours.id() {
        forged
    } else {
        // The 14th character holds two bits of the name.
        format!("{}{}", &ours.as_str()[..14], &theirs.as_str()[14..]).parse().unwrap()
    };
    assert_eq!(forged.id(), ours.id());
    assert_ne!(forged, ours);
    store.add(ours.clone(), scopes(&["*"]), None, now()).unwrap();
    store.authorize(&id("a"), &[ours]).unwrap();
    let refused = store.authorize(&id("a"), std::slice::from_ref(&forged)).unwrap_err();
    assert_eq!(reason(&refused), "unknown-key");
    let exists = store.add(forged, scopes(&["*"]), None, now()).unwrap_err();
    assert_eq!(exists.code, Code::AlreadyExists);
}

#[test]
fn what_others_can_write_is_not_believed() {
    let (_below, store) = store();
    let key = Signing::new().public();
    store.add(key.clone(), scopes(&["*"]), None, now()).unwrap();
    let keys = [key.clone()];
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let file = store.file(key.id());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    for (path, good) in [(file.as_path(), 0o644), (store.path(), 0o755)] {
        store.authorize(&id("a"), &keys).unwrap();
        for bad in [good | 0o020, good | 0o002] {
            permit(path, bad);
            let refused = store.authorize(&id("a"), &keys).unwrap_err();
            assert_eq!(refused.code, Code::ConfigInvalid, "{refused}");
        }
        permit(path, good);
    }
    store.authorize(&id("a"), &keys).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(1234), None).unwrap();
        assert_eq!(store.authorize(&id("a"), &keys).unwrap_err().code, Code::ConfigInvalid);
    }
}

#[test]
fn a_file_that_is_none_is_an_error_in_its_place() {
    let (_below, store) = store();
    let (one, two) = (Signing::new().public(), Signing::new().public());
    store.add(one.clone(), scopes(&["a"]), None, now()).unwrap();
    store.add(two.clone(), scopes(&["b"]), None, now()).unwrap();
    fs::write(store.file(two.id()), "key = 1\n").unwrap();
    symlink(store.file(one.id()), store.path().join("0000000000000000.toml")).unwrap();
    fs::write(store.path().join("notes.toml"), "").unwrap();
    fs::write(store.path().join(".new-half"), "").unwrap();
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 4);
    for (path, key) in &listed {
        let name = path.file_stem().unwrap().to_str().unwrap();
        match key {
            Ok(key) => assert_eq!((key.id(), name), (one.id(), one.id().to_string().as_str())),
            Err(failure) => {
                assert_eq!(failure.code, Code::ConfigInvalid);
                assert!(failure.message.contains(name), "{failure}");
            }
        }
    }
    assert_eq!(listed.iter().filter(|(_, key)| key.is_ok()).count(), 1);
    // A broken one does not take the others with it.
    store.authorize(&id("a"), &[one]).unwrap();
    let broken = store.authorize(&id("b"), &[two]).unwrap_err();
    assert_eq!((broken.code, &broken.details["line"]), (Code::ConfigInvalid, &1.into()));
}
