//! A supervisor that somebody else has taken over gets nothing that it could not have before.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bulkhead_sandbox::{Mount, Network};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::harness::{Service, shell};
use crate::failure::Code;
use crate::link::{Reply, Request, Spawn};

type Change = fn(&mut Spawn);

fn spawn(spawn: Spawn) -> Request {
    Request::Spawn(Box::new(spawn))
}

#[test]
fn a_start_outside_of_the_rules_is_refused() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("guest", Path::new("/bin/sh"));
    let (reply, _) = supervisor.ask(Request::Import { source: package }).unwrap();
    let Reply::Imported { digest, root, .. } = reply else { panic!("{reply:?}") };
    let good = shell("guest", digest, "echo up; read x <&3");
    let failure = supervisor.refused(spawn(good.clone()));
    assert_eq!((failure.code, &failure.details["what"]), (Code::NotFound, &"storage".into()));
    supervisor.ask(Request::Allot { id: good.id.clone() }).unwrap();
    let cases: [(&str, Change, Code); 14] = [
        ("entry", |s| s.entry = "../../bin/sh".into(), Code::EntryInvalid),
        ("absent entry", |s| s.entry = "bin/other".into(), Code::NotFound),
        ("entry without run bit", |s| s.entry = "plugin.toml".into(), Code::EntryInvalid),
        ("digest", |s| s.digest = crate::id::Digest::of(b"other"), Code::NotFound),
        (
            "mount",
            |s| s.policy.0.filesystem.mounts.push(Mount::read_only("/etc", "/srv")),
            Code::PermissionDenied,
        ),
        ("syscall", |s| s.policy.0.allow_syscalls.push("ptrace".into()), Code::PermissionDenied),
        ("network", |s| s.policy.0.network = Network::Host, Code::PermissionDenied),
        ("memory", |s| s.policy.0.limits.memory = None, Code::PermissionDenied),
        ("processes", |s| s.policy.0.limits.pids = None, Code::PermissionDenied),
        ("cpu", |s| s.policy.0.limits.cpu = None, Code::PermissionDenied),
        ("file size", |s| s.policy.0.limits.file_size = None, Code::PermissionDenied),
        ("memory of more", |s| s.policy.0.limits.memory = Some(u64::MAX), Code::ResourceExhausted),
        ("all processes", |s| s.policy.0.limits.pids = Some(u32::MAX), Code::ResourceExhausted),
        (
            "loader",
            |s| s.env.push(("LD_PRELOAD".into(), "/data/x.so".into())),
            Code::PermissionDenied,
        ),
    ];
    for (what, change, code) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let failure = supervisor.refused(spawn(bad));
        assert_eq!(failure.code, code, "{what}: {failure}");
    }
    // The control: as it should be, it starts.
    let mut running = supervisor.spawn(good.clone());
    running.stdout.wait_for("up");
    assert_eq!(supervisor.refused(spawn(good.clone())).code, Code::Conflict);
    assert_eq!(supervisor.refused(Request::Discard { digest }).code, Code::Conflict);
    assert_eq!(supervisor.refused(Request::Release { id: good.id.clone() }).code, Code::Conflict);
    supervisor.done(running.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
    // Now all of it can go, and nothing is left.
    supervisor.done(Request::Discard { digest });
    supervisor.done(Request::Release { id: good.id });
    assert!(!root.exists());
    let left = fs::read_dir(service.path().join("state/plugins")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn what_plugins_may_use_together_is_kept_whatever_is_asked_for() {
    let service = Service::start("[admission]\nmemory = \"100M\"\n");
    let mut supervisor = service.ready();
    let mut first = supervisor.shell(&service, "first", "echo up; read x <&3");
    first.stdout.wait_for("up");
    let package = service.package("second", Path::new("/bin/sh"));
    let second = shell("second", supervisor.install("second", &package), "echo up; read x <&3");
    let failure = supervisor.refused(spawn(second.clone()));
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(failure.details["resource"], "memory", "{failure:?}");
    assert_eq!(failure.details["used"], 64 << 20, "{failure:?}");
    // The control: alone there is room for it.
    supervisor.done(first.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
    let mut alone = supervisor.spawn(second);
    alone.stdout.wait_for("up");
    supervisor.done(alone.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
}

#[test]
fn what_a_plugin_has_written_is_counted_while_it_runs() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let id: crate::id::PluginId = "writer".parse().unwrap();
    let failure = supervisor.refused(Request::Measure { id: id.clone() });
    assert_eq!((failure.code, &failure.details["what"]), (Code::NotFound, &"storage".into()));
    let script = "head -c 3000000 /dev/zero > /data/file; echo up; read x <&3";
    let mut plugin = supervisor.shell(&service, "writer", script);
    plugin.stdout.wait_for("up");
    let (reply, _) = supervisor.ask(Request::Measure { id }).unwrap();
    let Reply::Measured(found) = reply else { panic!("{reply:?}") };
    assert!((3_000_000..4_000_000).contains(&found.bytes) && found.files == 2, "{found:?}");
    supervisor.done(plugin.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
}

#[test]
fn a_file_that_the_sender_could_not_use_is_not_used_for_it() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let id: crate::id::PluginId = "archived".parse().unwrap();
    supervisor.ask(Request::Allot { id: id.clone() }).unwrap();
    let path = service.path().join("state/precious");
    fs::write(&path, "precious").unwrap();
    let save = || Request::SaveData { id: id.clone(), limit: 1 << 20 };
    let restore = || Request::RestoreData { id: id.clone() };
    for (request, flags) in [
        (save(), OFlag::O_PATH),
        (save(), OFlag::O_RDONLY),
        (restore(), OFlag::O_PATH),
        (restore(), OFlag::O_WRONLY),
    ] {
        let file = open(&path, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let asked = supervisor.send_with(request.clone(), &[file.as_fd()]);
        let failure = supervisor.answer(asked).expect_err("it must be refused");
        assert_eq!(failure.code, Code::PermissionDenied, "{request:?} {flags:?}: {failure}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    // The control: the same file, of one who may write it, is not what is refused.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let asked = supervisor.send_with(save(), &[file.as_fd()]);
    let code = supervisor.answer(asked).err().map(|failure| failure.code);
    assert_ne!(code, Some(Code::PermissionDenied));
}

#[test]
fn a_binary_that_was_altered_is_not_run() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("altered", Path::new("/bin/sh"));
    let digest = supervisor.install("altered", &package);
    let good = shell("altered", digest, "echo up");
    let mut running = supervisor.spawn(good.clone());
    running.stdout.wait_for("up");
    supervisor.exit();
    let entry = service.path().join(format!("state/store/{digest}/bin/entry"));
    let original = fs::metadata(&entry).unwrap().permissions();
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o755)).unwrap();
    let mut content = fs::read(&entry).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&entry, content).unwrap();
    fs::set_permissions(&entry, original).unwrap();
    let failure = supervisor.refused(spawn(good));
    assert_eq!(failure.code, Code::IntegrityFailed);
    assert_ne!(failure.details["expected"], failure.details["found"]);
}

#[test]
fn another_start_of_a_plugin_is_not_stopped_by_mistake() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "steady", "echo up; read x <&3; read x <&3");
    plugin.stdout.wait_for("up");
    let (id, generation) = (plugin.id.clone(), plugin.spawned.generation);
    for (wrong, code) in [(generation + 1, Code::Conflict), (0, Code::Conflict)] {
        let stop = Request::Stop {
            id: id.clone(),
            generation: wrong,
            term_in: Duration::ZERO,
            kill_in: Duration::ZERO,
        };
        assert_eq!(supervisor.refused(stop).code, code);
        let session = Request::Session { id: id.clone(), generation: wrong };
        assert_eq!(supervisor.refused(session).code, code);
    }
    let nobody = Request::Session { id: "nobody".parse().unwrap(), generation };
    assert_eq!(supervisor.refused(nobody).code, Code::NotFound);
    // An acknowledgement of what has not ended forgets nothing.
    supervisor.done(plugin.acknowledge());
    supervisor.done(Request::Session { id, generation });
}

#[test]
fn sessions_that_nobody_takes_run_out() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(&service, "lazy", "echo up; while :; do :; done");
    plugin.stdout.wait_for("up");
    let session = Request::Session { id: plugin.id.clone(), generation: plugin.spawned.generation };
    let failure = (0..10_000)
        .find_map(|_| supervisor.ask(session.clone()).err())
        .expect("a plugin's queue is bounded");
    assert_eq!(failure.code, Code::ResourceExhausted, "{failure}");
    supervisor.done(plugin.stop(Duration::ZERO, Duration::ZERO));
    supervisor.exit();
}

#[test]
fn directories_are_imported_only_where_that_is_allowed() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let package = service.package("unsigned", Path::new("/bin/sh"));
    supervisor.ask(Request::Import { source: package.clone() }).unwrap();
    let strict = Service::with("heartbeat = \"1m\"\n");
    let failure = strict.ready().refused(Request::Import { source: package });
    assert_eq!(failure.code, Code::PermissionDenied);
}
