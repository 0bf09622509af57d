use std::path::Path;

use serde_json::json;

use super::*;
use crate::manifest::Manifest;

fn digest() -> Digest {
    Digest::of(b"the tree")
}

fn asks(text: &str) -> Asks {
    let text = format!("id = 'a'\nversion = '1.0.0'\n{text}");
    let manifest = Manifest::parse(text.as_bytes(), Path::new("plugin.toml")).unwrap();
    Asks::new(&manifest, |_| Vec::new())
}

fn permissions(all: &[&str]) -> Vec<Permission> {
    all.iter().map(|one| one.parse().unwrap()).collect()
}

fn places(all: &[&str]) -> Vec<HostPath> {
    all.iter().map(|one| one.parse().unwrap()).collect()
}

fn first(
    asks: &Asks,
    chosen: Option<&[&str]>,
    consent: Option<&Consent>,
) -> Result<Grant, Failure> {
    let chosen = chosen.map(permissions);
    decide(digest(), asks, None, chosen.as_deref(), consent)
}

fn code(result: Result<Grant, Failure>) -> Code {
    result.unwrap_err().code
}

#[test]
fn a_plugin_that_asks_for_nothing_needs_no_word() {
    assert_eq!(first(&asks(""), None, None).unwrap(), Grant::default());
    assert_eq!(first(&asks("[limits]\nmemory = '1G'"), None, None).unwrap(), Grant::default());
    let compute = asks("[sandbox]\nprofile = 'compute'");
    assert_eq!(first(&compute, None, None).unwrap(), Grant::default(), "it asks for less");
}

#[test]
fn each_kind_of_ask_needs_one() {
    for (text, line) in [
        ("permissions = ['read:x']", "permission read:x"),
        ("[network]\nconnect = [443]", "connect to port 443"),
        ("[network]\nbind = [80]", "listen on port 80"),
        ("[network]\nhosts = ['a:1']", "connect to a:1"),
        ("[sandbox]\nallow_syscalls = ['getrusage']", "call getrusage"),
        ("[sandbox]\nproc = true", "/proc"),
        ("[sandbox]\nprofile = 'program'", "profile program"),
        ("[sandbox]\nread = ['/srv/x']", "read /srv/x"),
        ("[sandbox]\nwrite = ['/srv/x']", "write /srv/x"),
    ] {
        let asks = asks(text);
        let failure = first(&asks, None, None).unwrap_err();
        assert_eq!(failure.code, Code::ConsentRequired, "{text}");
        assert_eq!(failure.details["added"], json!([line]), "{text}");
        assert_eq!(failure.details["digest"], json!(digest()), "{text}");
        first(&asks, None, Some(&Consent::All)).unwrap();
        first(&asks, None, Some(&Consent::Tree(digest()))).unwrap();
        let other = Consent::Tree(Digest::of(b"another"));
        assert_eq!(code(first(&asks, None, Some(&other))), Code::ConsentRequired, "{text}");
    }
}

#[test]
fn a_grant_narrows_and_never_widens() {
    let asks = asks("permissions = ['read:x', 'write:x']");
    let all = first(&asks, None, Some(&Consent::All)).unwrap();
    assert_eq!(all.permissions, permissions(&["read:x", "write:x"]));
    let less = first(&asks, Some(&["read:x"]), None).unwrap();
    assert_eq!(less.permissions, permissions(&["read:x"]));
    assert_eq!(first(&asks, Some(&[]), None).unwrap(), Grant::default());
    assert_eq!(code(first(&asks, Some(&["read:y"]), None)), Code::InvalidRequest);
    let both = first(&asks, Some(&["write:x"]), Some(&Consent::All)).unwrap();
    assert_eq!(both.permissions, permissions(&["write:x"]));
}

#[test]
fn a_word_about_permissions_says_nothing_of_ports() {
    let asks = asks("permissions = ['read:x']\n[network]\nconnect = [443]");
    assert_eq!(code(first(&asks, Some(&["read:x"]), None)), Code::ConsentRequired);
    first(&asks, Some(&["read:x"]), Some(&Consent::Tree(digest()))).unwrap();
}

#[test]
fn an_upgrade_needs_a_word_for_what_is_new_only() {
    let old = asks("permissions = ['read:x', 'write:x']\n[network]\nconnect = [443]");
    let granted = Grant { permissions: permissions(&["read:x"]), withheld_places: Vec::new() };
    let upgrade = |asks: &Asks, consent: Option<&Consent>| {
        let before = Before { asks: &old, granted: &granted };
        decide(digest(), asks, Some(&before), None, consent)
    };
    assert_eq!(upgrade(&old, None).unwrap(), granted, "what was withheld stays so");
    assert_eq!(upgrade(&asks("permissions = ['read:x']"), None).unwrap(), granted);
    let more = asks("permissions = ['read:x', 'write:x', 'write:y']");
    let failure = upgrade(&more, None).unwrap_err();
    assert_eq!(failure.details["added"], json!(["permission write:y"]));
    assert_eq!(failure.details["removed"], json!(["connect to port 443"]));
    let granted = upgrade(&more, Some(&Consent::All)).unwrap();
    assert_eq!(granted.permissions, permissions(&["read:x", "write:y"]));
}

#[test]
fn a_place_that_is_withheld_stays_so_as_long_as_it_is_asked_for() {
    let old = asks("[sandbox]\nread = ['/srv/a', '/srv/b']");
    let withheld = || vec!["/srv/a".parse().unwrap()];
    let granted = Grant { permissions: Vec::new(), withheld_places: withheld() };
    let upgrade = |asks: &Asks| {
        let before = Before { asks: &old, granted: &granted };
        decide(digest(), asks, Some(&before), None, Some(&Consent::All)).unwrap()
    };
    let more = asks("[sandbox]\nread = ['/srv/c']\nwrite = ['/srv/a']");
    assert_eq!(upgrade(&more).withheld_places, withheld());
    assert_eq!(upgrade(&asks("[sandbox]\nread = ['/srv/b']")).withheld_places, []);
}

#[test]
fn an_upgrade_withholds_what_is_above_a_place_that_is_withheld() {
    let old = asks("[sandbox]\nwrite = ['/srv/a/b']");
    let granted = Grant { permissions: vec![], withheld_places: places(&["/srv/a/b"]) };
    let before = Before { asks: &old, granted: &granted };
    let new = asks("[sandbox]\nread = ['/srv', '/srv/a', '/srv/a/bc']\nwrite = ['/srv/a/b']");
    let decided = decide(digest(), &new, Some(&before), None, Some(&Consent::All)).unwrap();
    assert_eq!(decided.withheld_places, places(&["/srv/a/b", "/srv", "/srv/a"]));
}

#[test]
fn a_place_is_withheld_with_what_is_above_it_or_not_at_all() {
    let all = places(&["/srv", "/srv/a", "/srv/ab"]);
    let check = |withheld: &[&str]| {
        let grant = Grant { permissions: vec![], withheld_places: places(withheld) };
        grant.check_places(&"a".parse().unwrap(), &all)
    };
    for fine in [&[] as &[&str], &["/srv"], &["/srv", "/srv/a"], &["/srv", "/srv/a", "/srv/ab"]] {
        check(fine).unwrap();
    }
    let refused = check(&["/srv/a"]).unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest);
    assert_eq!(
        (&refused.details["place"], &refused.details["above"]),
        (&json!("/srv/a"), &json!("/srv"))
    );
    assert!(refused.message.contains("withhold /srv too"), "{refused}");
}

#[test]
fn a_consent_reads_as_it_is_written() {
    for consent in [Consent::All, Consent::Tree(digest())] {
        let text = serde_json::to_string(&consent).unwrap();
        assert_eq!(serde_json::from_str::<Consent>(&text).unwrap(), consent);
    }
    assert!(serde_json::from_str::<Consent>("\"yes\"").is_err());
}
