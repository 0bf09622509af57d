//! Signed packages, from the author's key to a running plugin, and everything that is not one: it is
//! refused with the reason, and nothing of it is left.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bulkhead_tests::admin::Admin;
use bulkhead_tests::archive::{Archive, Attack, attacks};
use bulkhead_tests::process::{DEADLINE, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::signing::{Signer, beside};
use bulkhead_tests::{lane, plugin, program, test_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NAME: &str = "probe-1.0.0.plugin";

/// The bytes of a package of the plugin `probe`.
fn probe() -> Vec<u8> {
    let mut archive = Archive::plugin(&binary());
    archive.file("mode", b"serve");
    archive.package()
}

fn binary() -> Vec<u8> {
    std::fs::read(program::path("hostile")).unwrap()
}

fn install(service: &Service, package: &Path) -> Value {
    service.json(["install".as_ref(), package.as_os_str(), "--yes".as_ref()])
}

fn refused(service: &Service, package: &Path) -> Value {
    service.error(["install".as_ref(), package.as_os_str()])
}

/// The example `appointments` as its author would make a package of it.
fn appointments(service: &Service) -> PathBuf {
    let directory = plugin::example(service.directory(), "appointments");
    let package = service.directory().join("appointments-0.1.0.plugin");
    bulkhead(["pack"]).arg(directory).arg("-o").arg(&package).run().expect(0);
    package
}

#[track_caller]
fn nothing_remains(service: &Service) {
    assert_eq!(service.remains(), [""; 0]);
}

#[test]
fn a_signed_package_is_installed_started_called_and_leaves_nothing() {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["appointments"]);
    let package = appointments(&service);
    signer.sign(&package);
    let installed = install(&service, &package);
    assert_eq!(
        (&installed["id"], &installed["version"]),
        (&json!("appointments"), &json!("0.1.0"))
    );
    assert_eq!(installed["state"], "disabled");
    // The tree, its list and its signer; and the storage.
    assert_eq!(service.remains().len(), 4, "{:?}", service.remains());
    let enabled = service.json(["enable", "appointments"]);
    assert_eq!(enabled["state"], "enabled");
    // The control of what looks for cgroups and processes.
    if !enabled["plugin"]["process"]["cgroup"].is_null() {
        assert_eq!(service.compartments(), ["appointments"]);
    }
    assert!(!service.plugin_processes().is_empty());
    let reply = service.command(["call", "appointments", "stats", "{}"]).run().expect(0);
    assert_eq!(serde_json::from_str::<Value>(&reply.stdout).unwrap()["patients"], 0);
    // The same again is there already.
    assert_eq!(install(&service, &package)["state"], "enabled");
    service.json(["disable", "appointments"]);
    service.json(["uninstall", "appointments"]);
    nothing_remains(&service);
}

#[test]
fn what_no_trusted_key_has_signed_is_refused() {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["probe"]);
    let below = tempfile::tempdir().unwrap();
    let content = probe();
    let good = signer.signature(&content);
    let write = |name: &str, content: &[u8], signature: Option<&str>| {
        let path = below.path().join(name);
        std::fs::write(&path, content).unwrap();
        let _ = std::fs::remove_file(beside(&path));
        if let Some(signature) = signature {
            std::fs::write(beside(&path), signature).unwrap();
        }
        path
    };
    let check = |package: &Path, reason: &str| {
        let error = refused(&service, package);
        assert_eq!((&error["code"], &error["exitCode"]), (&json!("SIGNATURE_INVALID"), &json!(1)));
        assert_eq!(error["details"]["reason"], reason, "{error}");
        nothing_remains(&service);
        error
    };
    check(&write(NAME, &content, None), "unsigned");
    check(&write(NAME, &content, Some("no signature")), "malformed");
    check(&write(NAME, &content, Some(&Signer::new().signature(&content))), "unknown-key");
    let elsewhere = Signer::trusted(&service, &["other", "prob"]);
    let error = check(&write(NAME, &content, Some(&elsewhere.signature(&content))), "other-plugin");
    assert_eq!(error["details"]["id"], "probe");
    let revoked = Signer::new();
    let id = revoked.trust(&service, &["*"]);
    service.json(["trust", "rm", &id, "--config", service.config().to_str().unwrap()]);
    let error = check(&write(NAME, &content, Some(&revoked.signature(&content))), "revoked-key");
    assert_eq!(error["details"]["key"], id);
    for at in [0, 1, content.len() / 2, content.len() - 1] {
        let mut flipped = content.clone();
        flipped[at] ^= 0x10;
        check(&write(NAME, &flipped, Some(&good)), "mismatch");
    }
    check(&write(NAME, &content[..content.len() - 1], Some(&good)), "mismatch");
    check(&write(NAME, &[&content[..], b"\0"].concat(), Some(&good)), "mismatch");
    check(&write(NAME, b"", Some(&good)), "mismatch");
    // The control; and the store trusts nobody it was not told to.
    assert_eq!(install(&service, &write(NAME, &content, Some(&good)))["id"], "probe");
    assert!(service.error(["enable", "prob"])["code"] == "NOT_FOUND");
}

#[test]
fn keygen_sign_and_trust_are_all_that_it_takes() {
    let service = Service::start();
    let at = |name: &str| service.directory().join(name);
    let package = appointments(&service);
    let (secret, public) = (at("ours.key"), at("ours.pub"));
    bulkhead(["keygen", "--no-password", "-s"]).arg(&secret).arg("-p").arg(&public).run().expect(0);
    bulkhead(["sign", "-s"]).arg(&secret).arg(&package).run().expect(0);
    let before = refused(&service, &package);
    assert_eq!(before["details"]["reason"], "unknown-key", "{before}");
    let config = service.config();
    let verb = ["trust".as_ref(), "add".as_ref(), public.as_os_str(), "--for".as_ref()];
    let rest = ["appointments".as_ref(), "--config".as_ref(), config.as_os_str()];
    service.json(verb.into_iter().chain(rest));
    install(&service, &package);
    assert_eq!(service.json(["enable", "appointments"])["state"], "enabled");
}

#[test]
fn a_package_is_what_its_name_says() {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["*"]);
    let content = probe();
    for name in ["probe-1.0.1.plugin", "other-1.0.0.plugin", "probe.plugin", "x"] {
        let error = refused(&service, &signer.package(service.directory(), name, &content));
        assert_eq!(error["code"], "PACKAGE_INVALID", "{error}");
        assert_eq!(error["details"]["expected"], NAME);
        nothing_remains(&service);
    }
    install(&service, &signer.package(service.directory(), NAME, &content));
}

/// One of three parts of the attacks: each test has a process, and so a processor, of its own.
fn attack(part: usize) {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["probe"]);
    // Small, so that what is to be a bomb is one.
    let binary = std::fs::read("/bin/true").unwrap();
    let mut controlled = HashSet::new();
    let attacks = attacks(&binary);
    assert!(attacks.len() > 60, "{}", attacks.len());
    for Attack { name, reason, member, package, control } in
        attacks.into_iter().skip(part).step_by(3)
    {
        println!("{name}");
        let error = refused(&service, &signer.package(service.directory(), NAME, &package));
        assert_eq!(error["code"], "PACKAGE_INVALID", "{error}");
        assert_eq!(error["details"]["reason"], reason, "{error}");
        assert_eq!(error["details"]["member"].as_str(), member.as_deref());
        nothing_remains(&service);
        // Without the trick it is installed. Many share one control, and a few are enough here: the
        // reader's own tests have them all.
        if controlled.len() < 2 && controlled.insert(control.clone()) {
            install(&service, &signer.package(service.directory(), NAME, &control));
            service.json(["uninstall", "probe"]);
            nothing_remains(&service);
        }
    }
    assert!(!controlled.is_empty());
}

#[test]
fn every_attack_by_a_package_is_refused_and_leaves_nothing_first_third() {
    attack(0);
}

#[test]
fn every_attack_by_a_package_is_refused_and_leaves_nothing_second_third() {
    attack(1);
}

#[test]
fn every_attack_by_a_package_is_refused_and_leaves_nothing_last_third() {
    attack(2);
}

#[test]
fn a_revoked_key_stops_the_next_start_and_not_what_runs() {
    let service = Service::start();
    let signer = Signer::new();
    let key = signer.trust(&service, &["appointments"]);
    let package = appointments(&service);
    signer.sign(&package);
    install(&service, &package);
    service.json(["enable", "appointments"]);
    service.json(["trust", "rm", &key, "--config", service.config().to_str().unwrap()]);
    // What runs goes on.
    service.command(["call", "appointments", "stats", "{}"]).run().expect(0);
    service.json(["disable", "appointments"]);
    let error = service.error(["enable", "appointments"]);
    assert_eq!(error["code"], "SIGNATURE_INVALID", "{error}");
    assert_eq!(error["details"]["reason"], "revoked-key");
    assert_eq!(error["details"]["key"], key);
    assert!(service.plugin_processes().is_empty());
    assert_eq!(service.json(["inspect", "appointments"])["state"], "disabled");
    // The author signs it again, with a key that is trusted.
    let next = Signer::trusted(&service, &["appointments"]);
    next.sign(&package);
    install(&service, &package);
    assert_eq!(service.json(["enable", "appointments"])["state"], "enabled");
}

#[test]
fn a_supervisor_that_dies_during_an_import_leaves_nothing_of_it() {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["probe"]);
    // Noise, which no compression makes small: it is copied, opened and imported for a while.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(12 << 20)
    .collect();
    let mut archive = Archive::plugin(&binary());
    archive.file("mode", b"serve");
    archive.file("share/noise", &noise);
    let package = signer.package(service.directory(), NAME, &archive.package());
    for hidden in [".unpack-", ".import-"] {
        let supervisor = service.supervisor();
        let running = service.command(["install".as_ref(), package.as_os_str()]).start();
        let deadline = Instant::now() + DEADLINE;
        let store = service.directory().join("state/store");
        let is_there = || {
            let mut names = std::fs::read_dir(&store).unwrap();
            names.any(|name| name.unwrap().file_name().to_str().unwrap().starts_with(hidden))
        };
        while !is_there() {
            assert!(Instant::now() < deadline, "no {hidden} came");
            std::thread::yield_now();
        }
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        assert_ne!(running.wait().code(), 0);
        while !service.remains().is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", service.remains());
            std::thread::yield_now();
        }
    }
    install(&service, &package);
}

#[test]
fn a_form_is_refused_for_what_is_wrong_with_it() {
    let service = Service::start();
    let signer = Signer::trusted(&service, &["probe"]);
    let content = probe();
    let signature = signer.signature(&content);
    let part = |name: &str, content: &[u8]| {
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let post = |parts: &[Vec<u8>]| {
        let mut admin = Admin::connect(&service.socket()).unwrap();
        let body = [parts.concat(), b"--b--\r\n".to_vec()].concat();
        let kind = "content-type: multipart/form-data; boundary=b\r\n";
        let reply = admin.ask_with("POST", "/v1/plugins", kind, &body).unwrap();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        (reply.status, answer)
    };
    let package = || part("package", &content);
    let signed = || part("signature", signature.as_bytes());
    for (parts, status, code) in [
        (vec![], 400, "INVALID_REQUEST"),
        (vec![signed()], 400, "INVALID_REQUEST"),
        (vec![package()], 422, "SIGNATURE_INVALID"),
        (vec![package(), signed(), part("extra", b"")], 400, "INVALID_REQUEST"),
        (vec![package(), signed(), package()], 400, "INVALID_REQUEST"),
        (vec![package(), part("signature", &[b'x'; 5000])], 422, "SIGNATURE_INVALID"),
        (vec![package(), part("signature", b"\xff")], 422, "SIGNATURE_INVALID"),
        (vec![package(), signed(), part("options", b"{")], 400, "INVALID_REQUEST"),
        (vec![package(), signed(), part("options", b"{\"x\":1}")], 400, "INVALID_REQUEST"),
        (
            vec![package(), signed(), part("options", b"{\"directory\":\"/\"}")],
            400,
            "INVALID_REQUEST",
        ),
        (vec![package(), signed(), part("options", &[b' '; 70_000])], 429, "RESOURCE_EXHAUSTED"),
        (vec![package(), signed(), part("options", b"{\"id\":\"other\"}")], 409, "CONFLICT"),
        (
            vec![package(), signed(), part("options", b"{\"version\":\"2.0.0\"}")],
            409,
            "VERSION_INCOMPATIBLE",
        ),
        (vec![b"--b\r\nnonsense".to_vec()], 400, "INVALID_REQUEST"),
    ] {
        let (found, answer) = post(&parts);
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{answer}");
        nothing_remains(&service);
    }
    let options = part("options", b"{\"id\":\"probe\",\"version\":\"1.0.0\"}");
    let (status, answer) = post(&[options, signed(), package()]);
    assert_eq!((status, &answer["id"]), (201, &json!("probe")), "{answer}");
}

#[test]
fn a_client_that_goes_away_while_it_sends_leaves_nothing() {
    let service = Service::start();
    let head = "--b\r\ncontent-disposition: form-data; name=\"package\"\r\n\r\n";
    let mut stream = std::os::unix::net::UnixStream::connect(service.socket()).unwrap();
    let request = format!(
        "POST /v1/plugins HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         content-length: 100000000\r\n\r\n{head}"
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    std::io::Write::write_all(&mut stream, &vec![7; 4 << 20]).unwrap();
    drop(stream);
    // Answered after it, on the same thread.
    service.json(["ls"]);
    nothing_remains(&service);
}

#[test]
fn the_real_minisign_signs_packages_too() {
    if !lane::program(test_name!(), "minisign") {
        return;
    }
    let service = Service::start();
    let at = |name: &str| service.directory().join(name);
    let minisign = |arguments: &[&str]| {
        let mut program = bulkhead_tests::process::Program::new("minisign").args(arguments);
        program = program.directory(service.directory());
        program.run().expect(0)
    };
    minisign(&["-G", "-W", "-p", "their.pub", "-s", "their.key"]);
    std::fs::write(at(NAME), probe()).unwrap();
    minisign(&["-S", "-s", "their.key", "-m", NAME]);
    let trust = |plugins: &str| {
        let (key, config) = (at("their.pub"), service.config());
        let verb = ["trust".as_ref(), "add".as_ref(), key.as_os_str(), "--for".as_ref()];
        let rest = [plugins.as_ref(), "--config".as_ref(), config.as_os_str()];
        service.json(verb.into_iter().chain(rest))
    };
    let key = trust("probe");
    let shown = std::fs::read_to_string(at("their.pub")).unwrap();
    // It leaves out zeros in front.
    let id = key["id"].as_str().unwrap().trim_start_matches('0');
    assert!(shown.contains(id), "{key} is not {shown}");
    assert_eq!(install(&service, &at(NAME))["id"], "probe");
}

#[test]
fn the_verbs_of_trust() {
    let service = Service::start();
    let config = service.config();
    let config = config.to_str().unwrap();
    let empty = service.json(["trust", "ls", "--config", config]);
    assert_eq!(empty["keys"], json!([]));
    let signer = Signer::new();
    let id = signer.trust(&service, &["probe", "clinic-*"]);
    let add = |key: &str, plugin: &str| {
        service.json([
            "trust",
            "add",
            key,
            "--for",
            plugin,
            "--comment",
            "ours",
            "--config",
            config,
        ])
    };
    let added = add(&signer.public(), "third");
    assert_eq!(added["plugins"], json!(["probe", "third", "clinic-*"]));
    let listed = service.json(["trust", "ls", "--config", config]);
    assert_eq!(
        (&listed["keys"][0]["id"], &listed["keys"][0]["comment"]),
        (&json!(id), &json!("ours"))
    );
    let table = service.command(["trust", "ls", "--config", config]).run().expect(0).stdout;
    let fields: Vec<&str> = table.trim_end().split('\t').collect();
    assert_eq!(fields[..3], [id.as_str(), "trusted", "probe, third, clinic-*"]);
    let fails = |arguments: &[&str], code: i32, text: &str| {
        let outcome = service.command(arguments).args(["--config", config]).run().expect(code);
        assert!(outcome.stderr.contains(text), "{}", outcome.stderr);
    };
    fails(&["trust", "add", "/nowhere", "--for", "a"], 3, "/nowhere");
    fails(&["trust", "add", config, "--for", "a"], 2, "no minisign public key");
    fails(&["trust", "add", &signer.public(), "--for", "A"], 2, "no plugin id");
    fails(&["trust", "rm", "0000000000000000"], 3, "no key 0000000000000000");
    fails(&["trust", "rm", "x"], 2, "no key id");
    let revoked = service.json(["trust", "rm", &id, "--config", config]);
    assert!(revoked["revoked"].is_string(), "{revoked}");
    fails(&["trust", "add", &signer.public(), "--for", "a"], 1, "was revoked");
    let table = service.command(["trust", "ls", "--config", config]).run().expect(0).stdout;
    assert!(table.contains("revoked"), "{table}");
    // A store that others can write is not believed.
    let store = service.directory().join("trust");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(store, open).unwrap();
    fails(&["trust", "ls"], 1, "can be written by others");
}
