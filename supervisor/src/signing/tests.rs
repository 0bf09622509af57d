use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::*;
use crate::failure::{Code, Failure};
use crate::package;
use crate::trust::{PublicKey, Scope, TrustStore};

/// A directory with a package, and a pair of keys without a password.
struct Author {
    below: tempfile::TempDir,
    package: PathBuf,
    keys: KeyPaths,
}

fn no_password() -> Result<String, Failure> {
    panic!("nobody needs a password here")
}

impl Author {
    fn new() -> Self {
        let below = tempfile::tempdir().unwrap();
        let plugin = below.path().join("plugin");
        std::fs::create_dir_all(plugin.join("bin")).unwrap();
        std::fs::write(plugin.join("plugin.toml"), "id = 'probe'\nversion = '1.0.0'\n").unwrap();
        std::fs::write(plugin.join("bin/probe"), "\x7fELF and so on").unwrap();
        std::fs::set_permissions(plugin.join("bin/probe"), Permissions::from_mode(0o755)).unwrap();
        let package = package::pack(&plugin, Some(below.path())).unwrap().package;
        let keys = KeyPaths::of(Some(&below.path().join("keys/author.key")), None);
        make(&keys, None, false).unwrap();
        Self { below, package, keys }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.below.path().join(name)
    }

    fn public(&self) -> PublicKey {
        PublicKey::of_file(&std::fs::read_to_string(&self.keys.public).unwrap()).unwrap()
    }

    fn sign(&self) -> PathBuf {
        let key = load(&self.keys.secret, no_password).unwrap();
        let signature = path_of(&self.package);
        sign(&self.package, &signature, &key).unwrap();
        signature
    }

    fn verify(&self) -> Result<(), Failure> {
        let by = By::Key(self.public());
        verify(&self.package, &path_of(&self.package), &by).map(|_| ())
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn reason(failure: &Failure) -> &str {
    failure.details["reason"].as_str().unwrap_or_default()
}

#[test]
fn what_one_signs_another_verifies() {
    let author = Author::new();
    let signature = author.sign();
    assert_eq!(signature, author.path("probe-1.0.0.plugin.minisig"));
    let verified = verify(&author.package, &signature, &By::Key(author.public())).unwrap();
    assert_eq!((verified.key, verified.id.as_str()), (author.public().id(), "probe"));
    assert!(verified.comment.contains("file:probe-1.0.0.plugin"), "{}", verified.comment);
    assert_eq!(mode(&signature), 0o644);
    // Signing again replaces it.
    author.sign();
    author.verify().unwrap();
}

#[test]
fn the_trust_store_says_which_plugins_a_key_may_sign() {
    let author = Author::new();
    let signature = author.sign();
    let verify = |store: &TrustStore| {
        verify(&author.package, &signature, &By::Trust(store.clone())).map(|_| ())
    };
    let store = TrustStore::at(author.path("trust"));
    assert_eq!(reason(&verify(&store).unwrap_err()), "unknown-key");
    store.add(author.public(), vec!["other".parse().unwrap()], None, "now".into()).unwrap();
    assert_eq!(reason(&verify(&store).unwrap_err()), "other-plugin");
    store.add(author.public(), vec![Scope::All], None, "now".into()).unwrap();
    verify(&store).unwrap();
}

#[test]
fn another_key_is_told_apart_from_another_content() {
    let author = Author::new();
    let signature = author.sign();
    let other = KeyPaths::of(Some(&author.path("other.key")), None);
    let made = make(&other, None, false).unwrap();
    let failure = verify(&author.package, &signature, &By::Key(made.public_key)).unwrap_err();
    assert_eq!((failure.code, reason(&failure)), (Code::SignatureInvalid, "other-key"));
    let absent = verify(&author.package, &author.path("x"), &By::Key(author.public()));
    assert_eq!(absent.unwrap_err().code, Code::NotFound);
}

/// Every byte of the package, and every one that the signature and the key are made of. Only the first
/// line of either is nobody's word (minisign calls it the untrusted comment).
#[test]
fn no_bit_can_be_flipped() {
    let author = Author::new();
    let signature = author.sign();
    author.verify().unwrap();
    let mut free = 0;
    for (path, bits) in [(&author.package, 2), (&signature, 2), (&author.keys.public, 8)] {
        let right = std::fs::read(path).unwrap();
        let comment = if path == &author.package {
            0
        } else {
            right.iter().position(|byte| *byte == b'\n').unwrap()
        };
        for (at, bit) in (0..right.len()).flat_map(|at| (0..bits).map(move |bit| (at, bit))) {
            let mut wrong = right.clone();
            wrong[at] ^= 1 << (bit * 8 / bits);
            std::fs::write(path, &wrong).unwrap();
            let text = String::from_utf8_lossy(&wrong);
            let key = if path == &author.keys.public {
                PublicKey::of_file(&text).ok()
            } else {
                Some(author.public())
            };
            let verified = key.map(|key| verify(&author.package, &signature, &By::Key(key)));
            if at < comment {
                free += usize::from(verified.is_some_and(|verified| verified.is_ok()));
                continue;
            }
            match verified {
                Some(Err(failure)) => assert_eq!(failure.code, Code::SignatureInvalid, "{failure}"),
                // It is no key any more.
                None => {}
                Some(Ok(_)) if is_blank(&right, &wrong, at) => {}
                Some(Ok(_)) => panic!("bit {bit} of byte {at} of {} was flipped", path.display()),
            }
        }
        std::fs::write(path, &right).unwrap();
    }
    author.verify().unwrap();
    assert!(free > 0, "the comments were changed too, and do not count");
}

/// The line end of the last line only: what is read is the line before it.
fn is_blank(right: &[u8], wrong: &[u8], at: usize) -> bool {
    at + 1 == right.len() && char::from(wrong[at]).is_whitespace()
}

#[test]
fn an_encrypted_key_needs_its_password() {
    let author = Author::new();
    let keys = KeyPaths::of(Some(&author.path("encrypted.key")), None);
    assert!(make(&keys, Some("correct horse".into()), false).unwrap().encrypted);
    let wrong = load(&keys.secret, || Ok("battery".into())).unwrap_err();
    assert_eq!(wrong.code, Code::PermissionDenied);
    assert!(wrong.message.contains("password is wrong"), "{wrong}");
    let key = load(&keys.secret, || Ok("correct horse".into())).unwrap();
    let signature = path_of(&author.package);
    sign(&author.package, &signature, &key).unwrap();
    let public = PublicKey::of_file(&std::fs::read_to_string(&keys.public).unwrap()).unwrap();
    verify(&author.package, &signature, &By::Key(public)).unwrap();
    let asked = load(&keys.secret, || Err(Failure::new(Code::Conflict, "asked"))).unwrap_err();
    assert_eq!(asked.code, Code::Conflict);
}

#[test]
fn a_secret_key_is_private_and_never_overwritten() {
    let below = tempfile::tempdir().unwrap();
    let keys = KeyPaths::of(Some(&below.path().join("deep/er/a.key")), None);
    let before = umask(Mode::empty());
    make(&keys, None, false).unwrap();
    umask(before);
    assert_eq!((mode(&keys.secret), mode(&keys.public)), (0o600, 0o644));
    assert_eq!(mode(&below.path().join("deep/er")), 0o700);
    let secret = std::fs::read(&keys.secret).unwrap();
    for gone in [&keys.public, &keys.secret] {
        // Either half alone is in the way, and what is there stays.
        let kept = std::fs::read(gone).unwrap();
        std::fs::remove_file(gone).unwrap();
        assert_eq!(make(&keys, None, false).unwrap_err().code, Code::AlreadyExists);
        assert!(!gone.exists(), "half a pair was written");
        std::fs::write(gone, kept).unwrap();
        std::fs::set_permissions(gone, Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(std::fs::read(&keys.secret).unwrap(), secret);
    make(&keys, None, true).unwrap();
    assert_ne!(std::fs::read(&keys.secret).unwrap(), secret);
    assert_eq!(mode(&keys.secret), 0o600);
    let dangling = KeyPaths::of(Some(&below.path().join("b.key")), None);
    symlink("/nonexistent/elsewhere", &dangling.secret).unwrap();
    assert_eq!(make(&dangling, None, false).unwrap_err().code, Code::AlreadyExists);
    // Nothing is left of the attempts.
    assert_eq!(std::fs::read_dir(below.path().join("deep/er")).unwrap().count(), 2);
    let same = KeyPaths::of(Some(&below.path().join("c.pub")), None);
    assert_eq!(make(&same, None, false).unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn a_secret_key_that_others_can_read_is_not_used() {
    let author = Author::new();
    load(&author.keys.secret, no_password).unwrap();
    for bits in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&author.keys.secret, Permissions::from_mode(bits)).unwrap();
        let failure = load(&author.keys.secret, no_password).unwrap_err();
        assert_eq!(failure.code, Code::PermissionDenied);
        assert!(failure.message.contains("chmod 600"), "{failure}");
    }
    let absent = load(&author.path("absent"), no_password).unwrap_err();
    assert_eq!(absent.code, Code::NotFound);
    assert!(absent.message.contains("bulkhead keygen"), "{absent}");
    for text in ["", "untrusted comment: x\n", "a\nb\n", &"x".repeat(9000)] {
        let path = author.path("wrong.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let failure = load(&path, no_password).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
}

/// As minisign 0.11 makes them with -W.
#[test]
fn a_key_without_a_checksum_signs_and_a_damaged_one_does_not() {
    use ct_codecs::{Base64, Decoder as _, Encoder as _};
    let author = Author::new();
    let text = std::fs::read_to_string(&author.keys.secret).unwrap();
    let right = Base64::decode_to_vec(text.lines().nth(1).unwrap(), None).unwrap();
    let load = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = right.clone();
        change(&mut bytes);
        let line = Base64::encode_to_string(&bytes).unwrap();
        std::fs::write(&author.keys.secret, format!("untrusted comment: x\n{line}\n")).unwrap();
        load(&author.keys.secret, no_password)
    };
    let signature = path_of(&author.package);
    let without = load(&|bytes| bytes[126..].fill(0)).unwrap();
    sign(&author.package, &signature, &without).unwrap();
    author.verify().unwrap();
    std::fs::remove_file(&signature).unwrap();
    // With a checksum the damage is found at once, without one by what it signs.
    load(&|bytes| bytes[70] ^= 1).unwrap_err();
    let damaged = load(&|bytes| {
        bytes[70] ^= 1;
        bytes[126..].fill(0);
    });
    sign(&author.package, &signature, &damaged.unwrap()).unwrap_err();
    assert!(!signature.exists());
    load(&|bytes| bytes[0] = 0).unwrap_err();
    load(&|bytes| bytes[2] = 1).unwrap_err();
    load(&|bytes| bytes.truncate(157)).unwrap_err();
}

#[test]
fn only_a_package_under_its_name_is_signed() {
    let author = Author::new();
    let key = load(&author.keys.secret, no_password).unwrap();
    let refused = |path: &Path| {
        let signature = path_of(path);
        let failure = sign(path, &signature, &key).unwrap_err();
        assert!(!signature.exists(), "{failure}");
        failure
    };
    sign(&author.package, &author.path("elsewhere.minisig"), &key).unwrap();
    let renamed = author.path("probe-1.0.1.plugin");
    std::fs::copy(&author.package, &renamed).unwrap();
    let failure = refused(&renamed);
    assert_eq!((failure.code, reason(&failure)), (Code::PackageInvalid, "file-name"));
    assert_eq!(failure.details["expected"], "probe-1.0.0.plugin");
    std::fs::write(&renamed, "no package").unwrap();
    assert_eq!(reason(&refused(&renamed)), "not-compressed");
    assert_eq!(refused(&author.path("absent")).code, Code::NotFound);
    assert_eq!(refused(&author.path("plugin")).code, Code::InvalidRequest);
    let fifo = author.path("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    assert_eq!(refused(&fifo).code, Code::InvalidRequest);
}

#[test]
fn what_is_signed_and_no_package_is_refused_all_the_same() {
    let author = Author::new();
    let key = load(&author.keys.secret, no_password).unwrap();
    // Signed by minisign itself, which does not ask what it is.
    let content = b"no package";
    let text = minisign::sign(None, &key, &content[..], None, None).unwrap().into_string();
    let signature = path_of(&author.package);
    std::fs::write(&author.package, content).unwrap();
    std::fs::write(&signature, text).unwrap();
    let failure = author.verify().unwrap_err();
    assert_eq!((failure.code, reason(&failure)), (Code::PackageInvalid, "not-compressed"));
}
