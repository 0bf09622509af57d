use bulkhead_sandbox::learning::{Doing, Subject};

use super::super::places::Ground;
use super::*;

const NONE: Standings = [Standing::Refused; 3];

fn observed(calls: &[(&'static str, Standings)], subjects: &[Subject]) -> Observed {
    let mut observed = Observed::default();
    for (call, standings) in calls {
        observed.calls.entry(call).or_default().insert(*standings);
    }
    for subject in subjects {
        observed.look(subject, &Ground::default());
    }
    observed
}

fn proposed(observed: &Observed, present: &Asked) -> Proposal {
    propose(observed, present, &Homes::default())
}

fn places(paths: &[&str]) -> Vec<HostPath> {
    paths.iter().map(|path| path.parse().unwrap()).collect()
}

#[test]
fn the_profile_is_the_narrowest_and_the_broadest_only_for_who_executes() {
    use Standing::{Absent, Allowed, Refused};
    let writes = ("mkdir", [Refused, Allowed, Allowed]);
    let watches = ("inotify_init1", [Refused, Refused, Allowed]);
    let copies = ("splice", [Absent, Absent, Allowed]);
    let syncs = ("sync", NONE);
    let executes = Subject::Path("/usr/bin/env".into(), Doing::Execute);
    for (calls, subjects, profile, named) in [
        (&[][..], &[][..], Profile::Compute, &[][..]),
        (&[copies], &[], Profile::Compute, &[]),
        (&[watches], &[], Profile::Compute, &["inotify_init1"]),
        (&[writes, watches, syncs], &[], Profile::Plugin, &["inotify_init1", "sync"]),
        (&[writes, watches, syncs], &[executes], Profile::Program, &["sync"]),
    ] {
        let asked = proposed(&observed(calls, subjects), &Asked::nothing()).asked;
        assert_eq!(
            (asked.profile, &asked.allow_syscalls[..]),
            (profile, &named.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{calls:?}"
        );
    }
}

#[test]
fn what_is_not_used_goes_and_what_is_keeps_its_place() {
    let root = tempfile::Builder::new().prefix("learn-").tempdir_in("/var/tmp").unwrap();
    let root = root.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(root.join("used")).unwrap();
    for file in ["used/a", "one", "written"] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    let path = |name: &str, doing| Subject::Path(root.join(name), doing);
    let subjects = [
        path("used/a", Doing::Read),
        path("one", Doing::Read),
        path("written", Doing::Read),
        path("written", Doing::Write),
        Subject::Connect("127.0.0.1:5432".parse().unwrap()),
    ];
    let before = Asked {
        profile: Profile::Program,
        allow_syscalls: vec!["sync".to_owned()],
        proc: true,
        read: places(&["/srv/unused", &at("used"), &at("written")]),
        network: Network::Ports { connect: vec![9, 5432], bind: vec![80] },
        ..Asked::nothing()
    };
    let Proposal { asked, notes } = proposed(&observed(&[], &subjects), &before);
    assert_eq!(
        asked.read,
        places(&[&at("used"), &at("one")]),
        "the directory that an author grants stays"
    );
    assert_eq!(asked.write, places(&[&at("written")]));
    assert_eq!(asked.network, Network::Ports { connect: vec![5432], bind: vec![] });
    assert_eq!(notes, [""; 0]);
    let unused = before.beyond(&asked);
    for line in [
        "[sandbox] profile = \"program\"".to_owned(),
        "[sandbox] proc = true".to_owned(),
        "[sandbox] allow_syscalls = [\"sync\"]".to_owned(),
        "[sandbox] read = [\"/srv/unused\"]".to_owned(),
        "[network] connect = [9]".to_owned(),
        "[network] bind = [80]".to_owned(),
    ] {
        assert!(unused.contains(&line), "{line} is not in {unused:?}");
    }
    assert_eq!(asked.beyond(&asked), [""; 0]);
    // The next run has both.
    let next = before.with(&asked);
    assert_eq!(asked.beyond(&next), [""; 0]);
    assert_eq!(before.beyond(&next), [""; 0]);
}

#[test]
fn what_no_manifest_can_have_is_said() {
    let mut seen = observed(
        &[],
        &[
            Subject::Bind("127.0.0.1:0".parse().unwrap()),
            Subject::Connect("127.0.0.1:7".parse().unwrap()),
        ],
    );
    seen.impossible.insert("bpf");
    seen.hosts.insert("a:1".parse().unwrap());
    let Proposal { asked, notes } = proposed(&seen, &Asked::nothing());
    assert_eq!(asked.network, Network::Hosts(vec!["a:1".parse().unwrap()]));
    for why in ["bpf", "any port", "by itself (ports 7)"] {
        assert!(notes.iter().any(|note| note.contains(why)), "{why} is not in {notes:?}");
    }
}
