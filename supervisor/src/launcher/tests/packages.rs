//! Packages: what a trusted key has signed gets in, and of everything else nothing is left.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::harness::{PATIENCE, Service, Supervisor, shell, wait};
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::link::{Reply, Request};
use crate::trust::sample::Signing;
use crate::trust::{Scope, TrustStore};

use crate::archive::Archive;

/// A service, and a key that may sign `probe` and `probe-*` there.
struct Trusting {
    service: Service,
    signing: Signing,
}

impl Trusting {
    fn start(extra: &str) -> Self {
        // Uids of this test alone, to find its processes by.
        let uids = format!("[uids]\nfirst = {}\ncount = 100\n", first_uid());
        let heartbeat = "heartbeat = \"1m\"\n";
        let service = Service::with(&format!("{heartbeat}{extra}\n{uids}"));
        let trusting = Self { service, signing: Signing::new() };
        let scopes = ["probe", "probe-*"].map(|scope| scope.parse().unwrap());
        trusting.trust(&trusting.signing, scopes.to_vec());
        trusting
    }

    fn store(&self) -> TrustStore {
        TrustStore::at(self.service.path().join("trust"))
    }

    fn trust(&self, signing: &Signing, scopes: Vec<Scope>) {
        self.store().add(signing.public(), scopes, None, "now".to_owned()).unwrap();
    }

    fn revoke(&self, signing: &Signing) {
        self.store().revoke(signing.public().id(), "now".to_owned()).unwrap();
    }

    fn packages(&self) -> PathBuf {
        self.service.path().join("state/store")
    }

    /// A file with that content, where a supervisor would have it.
    fn file(&self, content: &[u8]) -> File {
        let mut file = tempfile::tempfile_in(self.service.path()).unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn import(
        &self,
        supervisor: &mut Supervisor,
        content: &[u8],
        signature: &str,
    ) -> Result<Reply, Failure> {
        let asked = self.send(supervisor, content, signature);
        supervisor.answer(asked).map(|(reply, _)| reply)
    }

    fn send(&self, supervisor: &mut Supervisor, content: &[u8], signature: &str) -> u64 {
        let signature = signature.to_owned();
        let request = Request::ImportPackage { signature };
        supervisor.send_with(request, &[self.file(content).as_fd()])
    }

    fn import_signed(&self, supervisor: &mut Supervisor, content: &[u8]) -> Result<Reply, Failure> {
        self.import(supervisor, content, &self.signing.sign(content))
    }

    /// What is in the store, hidden or not, but for these trees.
    fn left_in_store(&self, but: &[Digest]) -> Vec<String> {
        let names = fs::read_dir(self.packages()).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !but.iter().any(|digest| name.starts_with(&digest.to_string())));
        names
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.left_in_store(&[]), [""; 0]);
        assert_eq!(processes(), [0; 0]);
        let plugins = fs::read_dir(self.service.path().join("state/plugins")).unwrap();
        assert_eq!(plugins.count(), 0);
    }

    /// The same, of what nobody tells the end of.
    #[track_caller]
    fn soon_nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.left_in_store(&[]).is_empty() || !processes().is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", self.left_in_store(&[]));
            std::thread::yield_now();
        }
        self.nothing_is_left();
    }

    /// Waits until a package is being opened.
    fn wait_until_opened(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.left_in_store(&[]).iter().any(|name| name.starts_with(".unpack-"))
            || (geteuid().is_root() && processes().is_empty())
        {
            assert!(Instant::now() < deadline, "it is not opened; {}", self.service.log());
            std::thread::yield_now();
        }
    }
}

/// The processes of this test's compartments.
fn processes() -> Vec<u32> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    // The first is the supervisor's.
    let uids = first_uid() + 1..first_uid() + 100;
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        uids.contains(&uid).then_some(pid)
    });
    pids.collect()
}

fn first_uid() -> u32 {
    1_920_000_000 + std::process::id() % 100_000 * 100
}

/// A plugin whose entry `bin/probe` is a shell.
fn package() -> Vec<u8> {
    Archive::plugin(&fs::read("/bin/sh").unwrap()).package()
}

fn digest(reply: Result<Reply, Failure>) -> Digest {
    match reply.unwrap() {
        Reply::Imported { digest, .. } => digest,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: Result<Reply, Failure>, reason: &str) {
    let failure = reply.expect_err("it must be refused");
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    assert_eq!(failure.details["reason"], reason, "{failure}");
}

fn allot(supervisor: &mut Supervisor, id: &str) {
    let (reply, _) = supervisor.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
    assert!(matches!(reply, Reply::Allotted { .. }), "{reply:?}");
}

fn authorize(id: &str, digest: Digest) -> Request {
    Request::Authorize { id: id.parse().unwrap(), digest }
}

#[test]
fn what_a_trusted_key_has_signed_is_imported_as_a_directory_is() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let reply = trusting.import_signed(&mut supervisor, &package()).unwrap();
    let Reply::Imported { digest, root, signer } = reply else { panic!("{reply:?}") };
    assert_eq!(signer.unwrap().key, trusting.signing.public().id());
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("plugin.toml"), mode("bin/probe"), mode("bin")), (0o444, 0o555, 0o555));
    assert_eq!(fs::metadata(&root).unwrap().uid(), geteuid().as_raw());
    assert_eq!(fs::read(root.join("bin/probe")).unwrap(), fs::read("/bin/sh").unwrap());
    // Nothing but the tree, its list and its signer; nothing else runs.
    assert_eq!(trusting.left_in_store(&[digest]), [""; 0]);
    assert_eq!(trusting.left_in_store(&[]).len(), 3);
    assert_eq!(processes(), [0; 0]);
    supervisor.done(authorize("probe", digest));
    supervisor.done(authorize("probe-x", digest));
    let other = supervisor.refused(authorize("other", digest));
    assert_eq!(other.details["reason"], "other-plugin");
    supervisor.done(Request::Discard { digest });
    trusting.nothing_is_left();
    assert_eq!(supervisor.refused(authorize("probe", digest)).code, Code::NotFound);
}

#[test]
fn what_is_not_signed_by_a_trusted_key_is_refused_and_gone() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let package = package();
    let good = trusting.signing.sign(&package);
    let revoked = Signing::new();
    trusting.trust(&revoked, vec![Scope::All]);
    trusting.revoke(&revoked);
    let mut flipped = package.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (content, signature, reason) in [
        (&package, String::new(), "malformed"),
        (&package, "x".repeat(5000), "malformed"),
        (&package, Signing::new().sign(&package), "unknown-key"),
        (&package, revoked.sign(&package), "revoked-key"),
        (&package, trusting.signing.sign(b"another"), "mismatch"),
        (&package, good.replacen("\nRU", "\nRW", 1), "legacy"),
        (&flipped, good.clone(), "mismatch"),
        (&Vec::new(), good.clone(), "mismatch"),
    ] {
        refused(trusting.import(&mut supervisor, content, &signature), reason);
        trusting.nothing_is_left();
    }
    // The control.
    digest(trusting.import(&mut supervisor, &package, &good));
}

#[test]
fn what_is_signed_and_no_package_is_refused_and_gone() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let mut cut_off = package();
    cut_off.truncate(cut_off.len() / 2);
    for content in [&b"no package"[..], &cut_off] {
        let reply = trusting.import_signed(&mut supervisor, content).unwrap();
        let Reply::Unopened { report } = reply else { panic!("{reply:?}") };
        let report = String::from_utf8(report).unwrap();
        assert!(report.contains("PACKAGE_INVALID"), "{report}");
        trusting.nothing_is_left();
    }
}

#[test]
fn whatever_opening_it_comes_to_nothing_is_left() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    for (content, code) in [
        ("link!", Code::IntegrityFailed),
        ("deep!", Code::IntegrityFailed),
        ("none!", Code::NotFound),
        ("talk!", Code::Internal),
        ("dead!", Code::Internal),
    ] {
        let failure = match trusting.import_signed(&mut supervisor, content.as_bytes()) {
            Err(failure) => failure,
            // What it said is passed on, as far as anybody reads it.
            Ok(Reply::Unopened { report }) if content == "talk!" => {
                assert!(report.len() <= 64 << 10);
                trusting.nothing_is_left();
                continue;
            }
            other => panic!("{content}: {other:?}"),
        };
        assert_eq!(failure.code, code, "{content}: {failure}");
        trusting.nothing_is_left();
    }
    // It goes on as if nothing had been.
    digest(trusting.import_signed(&mut supervisor, &package()));
}

#[test]
fn one_that_takes_too_long_is_killed() {
    let trusting = Trusting::start("");
    fs::write(trusting.service.path().join("unpack-within"), "700").unwrap();
    // The launcher reads it when it starts.
    let mut trusting = trusting;
    trusting.service.ready();
    trusting.service.signal(Signal::SIGKILL);
    trusting.service.wait();
    let mut launcher = trusting.service.another();
    let mut supervisor = trusting.service.ready();
    let begin = Instant::now();
    let failure = trusting.import_signed(&mut supervisor, b"hang!").unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
    assert_eq!(failure.code, Code::Timeout);
    assert_eq!(failure.details["stage"], "unpack");
    trusting.nothing_is_left();
    launcher.kill().unwrap();
    wait(&mut launcher);
}

#[test]
fn nothing_else_waits_for_a_package_that_is_being_opened() {
    let mut trusting = Trusting::start("stop_timeout = \"1s\"");
    let mut supervisor = trusting.service.ready();
    let digest = digest(trusting.import_signed(&mut supervisor, &package()));
    trusting.send(&mut supervisor, b"hang!", &trusting.signing.sign(b"hang!"));
    trusting.wait_until_opened();
    let begin = Instant::now();
    allot(&mut supervisor, "probe");
    let mut plugin = supervisor.spawn(probe(digest, "echo up; read x <&3"));
    plugin.stdout.wait_for("up");
    supervisor.done(plugin.stop(Duration::ZERO, Duration::from_millis(200)));
    supervisor.exit();
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    // Nor the end of the service.
    trusting.service.signal(Signal::SIGTERM);
    let (_, _) = supervisor.next();
    supervisor.send(Request::Bye);
    drop(supervisor);
    assert!(trusting.service.wait().success());
    assert_eq!(trusting.left_in_store(&[digest]), [""; 0]);
    assert_eq!(processes(), [0; 0]);
}

/// A start of the shell in [`package`].
fn probe(digest: Digest, script: &str) -> crate::link::Spawn {
    crate::link::Spawn { entry: "bin/probe".into(), ..shell("probe", digest, script) }
}

#[test]
fn when_a_supervisor_dies_what_it_was_importing_goes_with_it() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    // While it is opened, and while it is copied.
    let large = vec![7; 64 << 20];
    trusting.send(&mut supervisor, &large, &trusting.signing.sign(&large));
    trusting.send(&mut supervisor, b"hang!", &trusting.signing.sign(b"hang!"));
    trusting.wait_until_opened();
    supervisor.kill();
    let mut supervisor = trusting.service.ready();
    trusting.soon_nothing_is_left();
    digest(trusting.import_signed(&mut supervisor, &package()));
}

#[test]
fn when_a_launcher_dies_the_next_one_clears_what_it_was_importing() {
    let mut trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    trusting.send(&mut supervisor, b"hang!", &trusting.signing.sign(b"hang!"));
    trusting.wait_until_opened();
    trusting.service.signal(Signal::SIGKILL);
    trusting.service.wait();
    supervisor.wait_hangup();
    let mut launcher = trusting.service.another();
    let mut supervisor = trusting.service.ready();
    trusting.soon_nothing_is_left();
    digest(trusting.import_signed(&mut supervisor, &package()));
    launcher.kill().unwrap();
    wait(&mut launcher);
}

#[test]
fn a_launcher_that_dies_in_the_middle_of_a_start_leaves_nothing_of_it() {
    for _ in 0..8 {
        let mut trusting = Trusting::start("");
        let mut supervisor = trusting.service.ready();
        trusting.send(&mut supervisor, b"hang!", &trusting.signing.sign(b"hang!"));
        let deadline = Instant::now() + PATIENCE;
        // From here on the compartment is made: in a moment of that it is killed.
        while trusting.left_in_store(&[]).is_empty() {
            assert!(Instant::now() < deadline, "it is not opened; {}", trusting.service.log());
        }
        trusting.service.signal(Signal::SIGKILL);
        // Whatever is left would hold what it has inherited, the launcher's standard input too.
        trusting.service.wait();
        supervisor.wait_hangup();
    }
}

#[test]
fn a_package_that_is_rewritten_meanwhile_is_what_was_signed_or_is_nothing() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let mut archive = Archive::plugin(&fs::read("/bin/sh").unwrap());
    // Noise, so that it is as large as a package as it is.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(9 << 20)
    .collect();
    archive.file("share/noise", &noise);
    let content = archive.package();
    assert!(content.len() > 8 << 20);
    let signature = trusting.signing.sign(&content);
    let expected = digest(trusting.import(&mut supervisor, &content, &signature));
    supervisor.done(Request::Discard { digest: expected });
    for at in [0, content.len() as u64 / 2, content.len() as u64 - 1] {
        let file = trusting.file(&content);
        let request = Request::ImportPackage { signature: signature.clone() };
        let asked = supervisor.send_with(request, &[file.as_fd()]);
        file.write_all_at(b"!", at).unwrap();
        match supervisor.answer(asked) {
            Ok((Reply::Imported { digest, .. }, _)) => {
                assert_eq!(digest, expected);
                supervisor.done(Request::Discard { digest });
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => assert_eq!(failure.details["reason"], "mismatch", "{failure}"),
        }
        trusting.nothing_is_left();
    }
}

#[test]
fn only_a_file_that_can_be_read_at_once_is_taken() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let content = package();
    let signature = trusting.signing.sign(&content);
    let beside = trusting.service.path().join("package");
    fs::write(&beside, &content).unwrap();
    let (pipe, _writer) = nix::unistd::pipe().unwrap();
    let mut refused = |descriptor: std::os::fd::OwnedFd| {
        let request = Request::ImportPackage { signature: signature.clone() };
        let asked = supervisor.send_with(request, &[descriptor.as_fd()]);
        let failure = supervisor.answer(asked).expect_err("it must be refused");
        trusting.nothing_is_left();
        failure.code
    };
    let open = |path: &Path| std::os::fd::OwnedFd::from(File::open(path).unwrap());
    assert_eq!(refused(pipe), Code::InvalidRequest);
    assert_eq!(refused(open(trusting.service.path())), Code::InvalidRequest);
    assert_eq!(refused(open("/dev/zero".as_ref())), Code::InvalidRequest);
    assert_eq!(refused(open("/proc/self/status".as_ref())), Code::InvalidRequest);
    let write_only = File::options().write(true).open(&beside).unwrap();
    assert_eq!(refused(write_only.into()), Code::InvalidRequest);
    let large = trusting.file(b"");
    large.set_len(600 << 20).unwrap();
    assert_eq!(refused(large.into()), Code::ResourceExhausted);
    // The control.
    digest(trusting.import(&mut supervisor, &content, &signature));
}

#[test]
fn a_request_brings_as_many_descriptors_as_it_speaks_of() {
    let trusting = Trusting::start("");
    for (request, count) in [
        (Request::ImportPackage { signature: String::new() }, 0),
        (Request::ImportPackage { signature: String::new() }, 2),
        (Request::Ready, 1),
    ] {
        let mut supervisor = trusting.service.ready();
        let file = trusting.file(b"");
        let descriptors = vec![file.as_fd(); count];
        supervisor.send_with(request, &descriptors);
        supervisor.wait_hangup();
    }
    trusting.nothing_is_left();
}

#[test]
fn a_revoked_key_keeps_its_plugins_from_starting_and_stops_none_that_runs() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let digest = digest(trusting.import_signed(&mut supervisor, &package()));
    allot(&mut supervisor, "probe");
    let script = "echo up; read x <&3; read x <&3";
    let mut plugin = supervisor.spawn(probe(digest, script));
    plugin.stdout.wait_for("up");
    trusting.revoke(&trusting.signing);
    let failure = supervisor.refused(authorize("probe", digest));
    assert_eq!(failure.details["reason"], "revoked-key");
    // It runs on: what is refused next is that it runs already.
    let start = || Request::Spawn(Box::new(probe(digest, script)));
    assert_eq!(supervisor.refused(start()).code, Code::Conflict);
    supervisor.done(plugin.stop(Duration::ZERO, Duration::from_secs(1)));
    supervisor.exit();
    supervisor.done(plugin.acknowledge());
    refused(supervisor.ask(start()).map(|(reply, _)| reply), "revoked-key");
    // Another key that has signed the same tree is enough.
    let second = Signing::new();
    trusting.trust(&second, vec!["probe".parse().unwrap()]);
    let content = package();
    let again = trusting.import(&mut supervisor, &content, &second.sign(&content)).unwrap();
    assert!(matches!(again, Reply::Imported { digest: same, .. } if same == digest), "{again:?}");
    let mut plugin = supervisor.spawn(probe(digest, script));
    plugin.stdout.wait_for("up");
}

#[test]
fn a_tree_starts_only_as_a_plugin_that_its_key_may_sign() {
    let trusting = Trusting::start("");
    let mut supervisor = trusting.service.ready();
    let digest = digest(trusting.import_signed(&mut supervisor, &package()));
    allot(&mut supervisor, "probe");
    allot(&mut supervisor, "victim");
    let start = |id: &str| crate::link::Spawn {
        id: id.parse().unwrap(),
        ..probe(digest, "echo up; read x <&3")
    };
    let failure = supervisor.refused(Request::Spawn(Box::new(start("victim"))));
    assert_eq!(
        (failure.code, &failure.details["reason"]),
        (Code::SignatureInvalid, &"other-plugin".into())
    );
    supervisor.spawn(start("probe")).stdout.wait_for("up");
}

#[test]
fn a_directory_needs_the_administrators_word_at_every_start() {
    let mut trusting = Trusting::start("allow_directories = true");
    let mut supervisor = trusting.service.ready();
    let directory = trusting.service.package("probe", Path::new("/bin/sh"));
    let digest = supervisor.install("probe", &directory);
    supervisor.done(authorize("probe", digest));
    let script = "echo up; read x <&3";
    supervisor.spawn(shell("probe", digest, script)).stdout.wait_for("up");
    trusting.service.signal(Signal::SIGKILL);
    trusting.service.wait();
    let config = trusting.service.path().join("bulkhead.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("allow_directories = true", "")).unwrap();
    let mut launcher = trusting.service.another();
    let mut supervisor = trusting.service.ready();
    let failure = supervisor.refused(authorize("probe", digest));
    assert_eq!(failure.details["reason"], "unsigned");
    let start = Request::Spawn(Box::new(shell("probe", digest, script)));
    refused(supervisor.ask(start).map(|(reply, _)| reply), "unsigned");
    launcher.kill().unwrap();
    wait(&mut launcher);
}
