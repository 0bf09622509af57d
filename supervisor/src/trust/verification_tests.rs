use std::io::{Read as _, Seek as _};

use super::super::Scope;
use super::super::sample::Signing;
use super::*;

struct Trusting {
    _below: tempfile::TempDir,
    store: TrustStore,
    signing: Signing,
}

impl Trusting {
    fn new() -> Self {
        let below = tempfile::tempdir().unwrap();
        let store = TrustStore::at(below.path());
        let signing = Signing::new();
        store.add(signing.public(), vec![Scope::All], None, "now".into()).unwrap();
        Self { _below: below, store, signing }
    }

    /// Copies `content` by that signature, with its pieces, and gives the copy's content.
    fn copy(&self, content: &[u8], signature: &str) -> Result<Vec<u8>, Failure> {
        let from = file(content);
        let copying = self.store.claim(signature)?.copy(from, tempfile::tempfile().unwrap());
        let (mut copy, key) = copying.finish()?;
        assert_eq!(key.key, self.signing.public());
        copy.rewind().unwrap();
        let mut copied = Vec::new();
        copy.read_to_end(&mut copied).unwrap();
        Ok(copied)
    }
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn reason(failure: &Failure) -> &str {
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    failure.details["reason"].as_str().unwrap()
}

#[test]
fn what_was_signed_is_copied() {
    let trusting = Trusting::new();
    let several = vec![7; 3 * BUFFER + 1];
    for content in [&b""[..], b"a", &several] {
        let signature = trusting.signing.sign(content);
        assert_eq!(trusting.copy(content, &signature).unwrap(), content);
    }
}

#[test]
fn no_flipped_bit_is_copied() {
    let trusting = Trusting::new();
    let content = b"a package";
    let signature = trusting.signing.sign(content);
    for index in 0..content.len() {
        let mut altered = content.to_vec();
        altered[index] ^= 1;
        assert_eq!(reason(&trusting.copy(&altered, &signature).unwrap_err()), "mismatch");
    }
    for altered in [&content[1..], &content[..8], b"a package\0"] {
        assert_eq!(reason(&trusting.copy(altered, &signature).unwrap_err()), "mismatch");
    }
    // Of the signature, all but the first line, which minisign calls untrusted.
    let covered = signature.find('\n').unwrap() + 1;
    for index in covered..signature.trim_end().len() {
        let mut altered = signature.clone().into_bytes();
        altered[index] ^= 1;
        let Ok(altered) = String::from_utf8(altered) else { continue };
        let failure = trusting.copy(content, &altered).expect_err(&altered);
        assert_eq!(failure.code, Code::SignatureInvalid);
    }
}

#[test]
fn the_reasons_are_told_apart() {
    let trusting = Trusting::new();
    let content = b"a package";
    let good = trusting.signing.sign(content);
    let because = |signature: &str| {
        let failure = trusting.copy(content, signature).unwrap_err();
        reason(&failure).to_owned()
    };
    for malformed in ["", "x", "x\ny\nz\n", "x\n\n\n\n", &good[..150], &"x\n".repeat(3000)] {
        assert_eq!(because(malformed), "malformed", "{malformed:?}");
    }
    let padded = format!("{}{good}", "x".repeat(MAX_SIGNATURE));
    assert_eq!(because(&padded), "malformed");
    let stranger = Signing::new();
    let failure = trusting.copy(content, &stranger.sign(content)).unwrap_err();
    assert_eq!(reason(&failure), "unknown-key");
    assert_eq!(failure.details["key"], stranger.public().id().to_string());
    // `ED`, prehashed, becomes `Ed`: minisign's old way.
    let legacy = good.replacen("\nRU", "\nRW", 1);
    assert_ne!(legacy, good);
    assert_eq!(because(&legacy), "legacy");
    assert_eq!(because(&trusting.signing.sign(b"another package")), "mismatch");
    trusting.store.revoke(trusting.signing.public().id(), "today".into()).unwrap();
    assert_eq!(because(&good), "revoked-key");
}

#[test]
fn who_writes_on_meanwhile_alters_the_copy_in_vain() {
    let trusting = Trusting::new();
    let content = vec![7; 2 * PIECE as usize + 5];
    let signature = trusting.signing.sign(&content);
    for at in [0, content.len() as u64 - 1] {
        let from = file(&content);
        let theirs = from.try_clone().unwrap();
        let copy = tempfile::tempfile().unwrap();
        let ours = copy.try_clone().unwrap();
        let mut copying = trusting.store.claim(&signature).unwrap().copy(from, copy);
        assert!(copying.step().is_none(), "the first of several pieces");
        theirs.write_all_at(b"!", at).unwrap();
        match copying.finish() {
            // The byte was read before: what is in the copy was signed.
            Ok(_) if at == 0 => {
                let mut copied = vec![0; content.len()];
                ours.read_exact_at(&mut copied, 0).unwrap();
                assert!(copied == content);
            }
            Err(failure) if at > 0 => assert_eq!(reason(&failure), "mismatch"),
            other => panic!("at {at}: {:?}", other.map(|(_, key)| key)),
        }
    }
}

#[test]
fn a_file_that_grows_without_end_is_given_up() {
    let trusting = Trusting::new();
    let from = file(b"");
    from.set_len(MAX_PACKAGE + 1).unwrap();
    let claim = trusting.store.claim(&trusting.signing.sign(b"")).unwrap();
    // It goes nowhere: a copy of this size is not needed to see that it ends.
    let nowhere = File::options().write(true).open("/dev/null").unwrap();
    let failure = claim.copy(from, nowhere).finish().unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(failure.details["limit"], MAX_PACKAGE);
}
