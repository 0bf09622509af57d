//! Signatures, ours and those of the real `minisign`: keys and signatures of either work with the
//! other.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_tests::process::{Outcome, Program, bulkhead};
use bulkhead_tests::{lane, plugin, test_name};
use serde_json::Value;
use tempfile::TempDir;

/// A package of the plugin `probe`, in a directory that each program runs in.
struct Desk {
    directory: TempDir,
}

const PACKAGE: &str = "probe-1.0.0.plugin";

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        let manifest = "id = \"probe\"\nversion = \"1.0.0\"\n";
        plugin::write(desk.path(), "probe", manifest, "hostile");
        desk.ours(&["pack", "probe"]).expect(0);
        desk
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn ours(&self, arguments: &[&str]) -> Outcome {
        bulkhead(arguments)
            .directory(self.path())
            .env("HOME", self.path())
            .env_remove("XDG_CONFIG_HOME")
            .run()
    }

    fn minisign(&self, arguments: &[&str]) -> Outcome {
        let minisign = Program::new("minisign").args(arguments).directory(self.path());
        // Without a terminal it reads a password from there.
        minisign.env("HOME", self.path()).input("a password\na password\n").run()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }
}

#[test]
fn from_the_directory_to_the_verified_package() {
    let desk = Desk::new();
    desk.ours(&["keygen", "--no-password"]).expect(0);
    let secret = desk.file(".config/bulkhead/signing.key");
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    desk.ours(&["keygen", "--no-password"]).expect(1);
    let signed = desk.ours(&["sign", PACKAGE, "--json"]).expect(0);
    let signed: Value = serde_json::from_str(&signed.stdout).unwrap();
    let public = desk.file(".config/bulkhead/signing.pub");
    let verified = desk.ours(&["verify", PACKAGE, "-p", public.to_str().unwrap(), "--json"]);
    let verified: Value = serde_json::from_str(&verified.expect(0).stdout).unwrap();
    assert_eq!(verified["key"], signed["key"]);
    assert_eq!((&verified["id"], &verified["version"]), (&"probe".into(), &"1.0.0".into()));
    // The key's own text is as good as the file that has it.
    let text = std::fs::read_to_string(&public).unwrap();
    desk.ours(&["verify", PACKAGE, "-p", text.lines().nth(1).unwrap()]).expect(0);
    let untrusted = desk.ours(&["verify", PACKAGE, "--trust", "nobody", "--json"]).expect(1);
    let untrusted: Value = serde_json::from_str(&untrusted.stderr).unwrap();
    assert_eq!(untrusted["details"]["reason"], "unknown-key");
    let mut package = std::fs::read(desk.file(PACKAGE)).unwrap();
    *package.last_mut().unwrap() ^= 1;
    std::fs::write(desk.file(PACKAGE), package).unwrap();
    let altered = desk.ours(&["verify", PACKAGE, "-p", public.to_str().unwrap()]).expect(1);
    assert!(altered.stderr.contains("SIGNATURE_INVALID"), "{}", altered.stderr);
}

#[test]
fn a_password_comes_from_a_file_where_there_is_no_terminal() {
    let desk = Desk::new();
    // Setsid, as a terminal of whoever runs the tests would be asked.
    let asked = Program::new("setsid")
        .args(["-w".as_ref(), bulkhead_tests::program::bulkhead().as_os_str()])
        .args(["keygen", "-s", "a.key"])
        .directory(desk.path());
    let refused = asked.run().expect(2);
    assert!(refused.stderr.contains("--password-file"), "{}", refused.stderr);
    desk.write("empty", "\n");
    desk.write("password", "a password\r\nmore\n");
    desk.write("wrong", "another");
    desk.ours(&["keygen", "-s", "a.key", "--password-file", "empty"]).expect(2);
    assert!(!desk.file("a.key").exists());
    desk.ours(&["keygen", "-s", "a.key", "--password-file", "password"]).expect(0);
    let wrong = desk.ours(&["sign", PACKAGE, "-s", "a.key", "--password-file", "wrong"]).expect(4);
    assert!(wrong.stderr.contains("password is wrong"), "{}", wrong.stderr);
    desk.ours(&["sign", PACKAGE, "-s", "a.key", "--password-file", "password"]).expect(0);
    desk.ours(&["verify", PACKAGE, "-p", "a.pub"]).expect(0);
}

#[test]
fn what_we_sign_minisign_verifies() {
    if !lane::program(test_name!(), "minisign") {
        return;
    }
    let desk = Desk::new();
    desk.ours(&["keygen", "-s", "ours.key", "--no-password"]).expect(0);
    desk.ours(&["sign", PACKAGE, "-s", "ours.key"]).expect(0);
    let shown = desk.minisign(&["-V", "-p", "ours.pub", "-m", PACKAGE]).expect(0);
    assert!(shown.stdout.contains(&format!("file:{PACKAGE}")), "{}", shown.stdout);
    // The control: it does look.
    std::fs::copy(desk.file("ours.pub"), desk.file("kept.pub")).unwrap();
    desk.ours(&["keygen", "-s", "ours.key", "--no-password", "--force"]).expect(0);
    desk.minisign(&["-V", "-p", "ours.pub", "-m", PACKAGE]).expect(1);
    desk.minisign(&["-V", "-p", "kept.pub", "-m", PACKAGE]).expect(0);
}

#[test]
fn what_minisign_signs_we_verify() {
    if !lane::program(test_name!(), "minisign") {
        return;
    }
    let desk = Desk::new();
    desk.minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs.key"]).expect(0);
    desk.minisign(&["-S", "-W", "-s", "theirs.key", "-m", PACKAGE]).expect(0);
    desk.ours(&["verify", PACKAGE, "-p", "theirs.pub"]).expect(0);
    // Its old kind of signature is told apart.
    desk.minisign(&["-S", "-l", "-W", "-s", "theirs.key", "-m", PACKAGE]).expect(0);
    let legacy = desk.ours(&["verify", PACKAGE, "-p", "theirs.pub", "--json"]).expect(1);
    let legacy: Value = serde_json::from_str(&legacy.stderr).unwrap();
    assert_eq!(legacy["details"]["reason"], "legacy");
}

#[test]
fn the_keys_of_either_work_with_the_other() {
    if !lane::program(test_name!(), "minisign") {
        return;
    }
    let desk = Desk::new();
    desk.minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs.key"]).expect(0);
    std::fs::set_permissions(desk.file("theirs.key"), Permissions::from_mode(0o600)).unwrap();
    desk.ours(&["sign", PACKAGE, "-s", "theirs.key"]).expect(0);
    desk.minisign(&["-V", "-p", "theirs.pub", "-m", PACKAGE]).expect(0);
    desk.write("password", "a password\n");
    for flag in [&["--no-password"][..], &["--password-file", "password"]] {
        let made = [&["keygen", "-s", "ours.key", "--force"], flag].concat();
        desk.ours(&made).expect(0);
        desk.minisign(&["-S", "-s", "ours.key", "-m", PACKAGE]).expect(0);
        desk.ours(&["verify", PACKAGE, "-p", "ours.pub"]).expect(0);
        desk.minisign(&["-V", "-p", "ours.pub", "-m", PACKAGE]).expect(0);
    }
}
