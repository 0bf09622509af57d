//! What a supervisor that somebody has taken over asks for: code that nobody signed, uids, floors, sources, files
//! and processes that are not its plugins'.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_sandbox::Mount;
use bulkhead_sandbox::descriptors::send_with_fds;
use bulkhead_sandbox::seccomp::{calls, lists};
use nix::unistd::geteuid;

use super::harness::{PATIENCE, Running, Service, Supervisor, shell};
use crate::failure::Code;
use crate::id::PluginId;
use crate::link::{self, Numbered, Reply, Request, Spawn};

fn spawn(spawn: Spawn) -> Request {
    Request::Spawn(Box::new(spawn))
}

/// Ends a plugin, and hears of it.
fn end(supervisor: &mut Supervisor, plugin: &Running) {
    supervisor.done(plugin.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
    supervisor.done(plugin.acknowledge());
}

#[test]
fn what_takes_the_place_of_a_binary_while_it_is_started_is_not_run() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("swapped", Path::new("/bin/sh"));
    let digest = supervisor.install("swapped", &package);
    let good = shell("swapped", digest, "echo up; read x <&3");
    // Another program, which says something else when it is given the same arguments.
    let evil = service.path().join("evil");
    fs::copy("/bin/echo", &evil).unwrap();
    let said = Command::new(&evil).args(&good.args).output().unwrap().stdout;
    assert!(said.starts_with(b"-c"), "the control");
    let entry = service.path().join(format!("state/store/{digest}/bin/entry"));
    // Without root its owner opens it first.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(entry.parent().unwrap(), open).unwrap();
    let kept = service.path().join("kept");
    fs::hard_link(&entry, &kept).unwrap();
    let (over, left_alone) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut started, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let draft = service.path().join("draft");
            while !over.load(Ordering::Relaxed) {
                if left_alone.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                    continue;
                }
                for file in [&evil, &kept] {
                    fs::hard_link(file, &draft).unwrap();
                    fs::rename(&draft, &entry).unwrap();
                    // Renaming one name of a file onto another of it leaves both.
                    let _ = fs::remove_file(&draft);
                }
            }
        });
        let late = Instant::now() + PATIENCE;
        // Until the check has met both. On one processor no start would come between two swaps, so every other
        // one is left alone.
        while (started == 0 || refused == 0) && Instant::now() < late {
            left_alone.fetch_xor(true, Ordering::Relaxed);
            match supervisor.ask(spawn(good.clone())) {
                Ok((Reply::Spawned(spawned), descriptors)) => {
                    let mut plugin = Running::new(good.id.clone(), spawned, descriptors);
                    let mut text = String::new();
                    plugin.stdout.read_until(&mut text, |text| text.contains('\n'));
                    assert_eq!(text, "up\n");
                    end(&mut supervisor, &plugin);
                    started += 1;
                }
                Ok((other, _)) => panic!("{other:?}"),
                Err(failure) => {
                    assert_eq!(failure.code, Code::IntegrityFailed, "{failure}");
                    refused += 1;
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(started > 0 && refused > 0, "{started} started and {refused} refused");
    // As it was, it starts.
    fs::hard_link(&kept, service.path().join("last")).unwrap();
    fs::rename(service.path().join("last"), &entry).unwrap();
    let mut plugin = supervisor.spawn(good);
    plugin.stdout.wait_for("up");
}

#[test]
fn a_uid_is_of_the_range_and_nobody_elses() {
    if !geteuid().is_root() {
        println!("SKIP a_uid_is_of_the_range_and_nobody_elses: only root leases uids");
        return;
    }
    let service = Service::start("[uids]\nfirst = 1900004000\ncount = 3\n");
    let mut supervisor = service.ready();
    let package = service.package("first", Path::new("/bin/sh"));
    let digest = supervisor.install("first", &package);
    let mut uids = Vec::new();
    for id in ["first", "second"] {
        let (reply, _) = supervisor.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
        let Reply::Allotted { uid, .. } = reply else { panic!("{reply:?}") };
        uids.push(uid);
    }
    // The first of the range is the supervisor's own.
    assert_eq!(uids, [1_900_004_001, 1_900_004_002]);
    let third = supervisor.refused(Request::Allot { id: "third".parse().unwrap() });
    assert_eq!(third.code, Code::ResourceExhausted, "{third}");
    // A start takes the lease of its id: the request has no uid that it could name.
    let mut plugin = supervisor.spawn(shell("first", digest, "echo up; read x <&3"));
    plugin.stdout.wait_for("up");
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.spawned.pid)).unwrap();
    assert!(status.contains("Uid:\t1900004001\t1900004001\t1900004001\t1900004001"), "{status}");
    end(&mut supervisor, &plugin);
}

#[test]
fn no_call_of_the_never_list_can_be_asked_for() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("asking", Path::new("/bin/sh"));
    let digest = supervisor.install("asking", &package);
    let asking = |call: &str| {
        let mut asked = shell("asking", digest, "echo up; read x <&3");
        asked.policy.0.allow_syscalls.push(call.to_owned());
        asked
    };
    let never = lists::NEVER.iter().filter(|line| line.unless.is_none());
    let never = never.flat_map(|line| line.calls).filter(|call| calls::number(call).is_some());
    let mut asked = 0;
    for call in never {
        assert_eq!(supervisor.refused(spawn(asking(call))).code, Code::PermissionDenied, "{call}");
        asked += 1;
    }
    assert!(asked > 80, "{asked} calls");
    // The control: another call can be had.
    let mut plugin = supervisor.spawn(asking("inotify_init1"));
    plugin.stdout.wait_for("up");
    end(&mut supervisor, &plugin);
}

#[test]
fn a_source_is_mounted_only_where_the_administrator_allows_it() {
    let shared = tempfile::tempdir().unwrap();
    let at = |name: &str| shared.path().join(name);
    for name in ["allowed/inner", "secret"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("allowed/inner/file"), "shared").unwrap();
    symlink(at("secret"), at("allowed/link")).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(shared.path(), permissions).unwrap();
    let service = Service::start(&format!("[mounts]\nread_only = [{:?}]\n", at("allowed")));
    let mut supervisor = service.ready();
    let package = service.package("mounting", Path::new("/bin/sh"));
    let digest = supervisor.install("mounting", &package);
    let mounting = |mount: Mount| {
        let mut asked = shell("mounting", digest, "cat /srv/file; echo; read x <&3");
        asked.policy.0.filesystem.mounts.push(mount);
        asked
    };
    let state = service.path().join("state");
    for source in [
        at("secret"),
        at("allowed/link"),
        at("allowed/../secret"),
        at("."),
        "/etc".into(),
        "/".into(),
        state.join("plugins"),
        state.join("supervisor"),
    ] {
        let failure = supervisor.refused(spawn(mounting(Mount::read_only(&source, "/srv"))));
        assert_eq!(failure.code, Code::PermissionDenied, "{}: {failure}", source.display());
    }
    let writable = Mount::read_write(at("allowed/inner"), "/srv");
    assert_eq!(supervisor.refused(spawn(mounting(writable))).code, Code::PermissionDenied);
    let hiding = Mount::read_only(at("allowed/inner"), "/usr");
    assert_eq!(supervisor.refused(spawn(mounting(hiding))).code, Code::PermissionDenied);
    // The control: what the administrator allows is shown.
    let mut plugin = supervisor.spawn(mounting(Mount::read_only(at("allowed/inner"), "/srv")));
    plugin.stdout.wait_for("shared");
    end(&mut supervisor, &plugin);
}

#[test]
fn an_id_that_leads_out_of_the_directories_of_plugins_ends_the_link() {
    let service = Service::start("");
    let supervisor = service.ready();
    let id: PluginId = "aaaaaaaaaa".parse().unwrap();
    // As long as a good one, so that only the name is wrong.
    let packet = |name: &str, number| {
        let good = link::encode(&Numbered { number, request: Request::Allot { id: id.clone() } });
        let mut bytes = good.unwrap();
        let at = bytes.windows(10).position(|window| window == b"aaaaaaaaaa").unwrap();
        bytes[at..at + 10].copy_from_slice(name.as_bytes());
        bytes
    };
    let made = || service.path().join("state/plugins").read_dir().unwrap().count();
    send_with_fds(supervisor.link(), &packet("../../evil", 1), &[]).unwrap();
    supervisor.wait_hangup();
    assert_eq!(made(), 0);
    assert!(!service.path().join("evil").exists());
    // The control, to the next one: the same bytes with a name that is one.
    let mut supervisor = service.ready();
    send_with_fds(supervisor.link(), &packet("bbbbbbbbbb", 1), &[]).unwrap();
    let (reply, _) = supervisor.answer(1).unwrap();
    assert!(matches!(reply, Reply::Allotted { .. }), "{reply:?}");
    assert_eq!(made(), 1);
}

#[test]
fn no_request_reaches_a_process_that_is_no_plugin() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut foreign = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    let id: PluginId = "foreign".parse().unwrap();
    supervisor.ask(Request::Allot { id: id.clone() }).unwrap();
    for generation in [u64::from(foreign.id()), 0, u64::MAX] {
        let (term_in, kill_in) = (Duration::ZERO, Duration::ZERO);
        let stop = Request::Stop { id: id.clone(), generation, term_in, kill_in };
        assert_eq!(supervisor.refused(stop).code, Code::NotFound);
        let session = Request::Session { id: id.clone(), generation };
        assert_eq!(supervisor.refused(session).code, Code::NotFound);
    }
    let (reply, _) = supervisor.ask(Request::NetworkDevices { id }).unwrap();
    assert!(matches!(reply, Reply::NetworkDevices(None)), "{reply:?}");
    assert_eq!(foreign.try_wait().unwrap(), None);
    // The control: what is a plugin ends.
    let plugin = supervisor.shell(&service, "own", "read x <&3");
    let (reply, _) = supervisor.ask(Request::NetworkDevices { id: plugin.id.clone() }).unwrap();
    let Reply::NetworkDevices(devices) = reply else { panic!("{reply:?}") };
    assert!(devices.is_none_or(|devices| devices.contains("lo:")));
    end(&mut supervisor, &plugin);
    drop(foreign.stdin.take());
    foreign.wait().unwrap();
}
