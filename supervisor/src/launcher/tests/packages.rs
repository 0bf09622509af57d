//! Packages: what a trusted key has signed gets in, and of everything else nothing is left.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::harness::{PATIENCE, wait};
use super::trusting::*;
use crate::archive::Archive;
use crate::failure::Code;
use crate::link::{Reply, Request};
use crate::trust::Scope;
use crate::trust::sample::Signing;

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
    let mut trusting = Trusting::start("");
    trusting.service.ready();
    // The launcher reads it when it starts: the next one, not this one while it is written.
    fs::write(trusting.service.path().join("unpack-within"), "700").unwrap();
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
