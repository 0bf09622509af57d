//! Reading a secret key, encrypted or not.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ct_codecs::{Base64, Decoder as _};
use minisign::{SecretKey, SecretKeyBox};

use crate::failure::{Code, Failure};

/// Longer text is no key: it has two lines.
const MAX_BYTES: u64 = 4096;

/// What the second line of a key's file encodes: three names of algorithms, salt and cost of the
/// password's derivation, then id, key and checksum, encrypted together.
const DECODED: usize = 158;
const SIGNS_WITH: Range<usize> = 0..2;
const DERIVED_WITH: Range<usize> = 2..4;
const CHECKSUM: Range<usize> = 126..DECODED;

/// Reads the secret key; asks `password` only if it is encrypted.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::PermissionDenied`] where others can read it, or for a wrong password;
/// [`Code::InvalidRequest`] where it is no secret key.
pub(crate) fn load(
    path: &Path,
    password: impl FnOnce() -> Result<String, Failure>,
) -> Result<SecretKey, Failure> {
    let text = read(path)?;
    let refused = |code: Code, why: &str| {
        Failure::new(code, format!("{}: {why}", path.display())).with("path", path)
    };
    let no_key = "this is no secret key of minisign; give one with -s";
    let bytes = text
        .lines()
        .nth(1)
        .and_then(|line| Base64::decode_to_vec(line.trim(), None).ok())
        .filter(|bytes| bytes.len() == DECODED && bytes[SIGNS_WITH] == *b"Ed")
        .ok_or_else(|| refused(Code::InvalidRequest, no_key))?;
    match &bytes[DERIVED_WITH] {
        [0, 0] if bytes[CHECKSUM].iter().all(|byte| *byte == 0) => {
            // minisign's own program writes no checksum into a key without a password. What a
            // damaged one signs does not verify, and is not written.
            SecretKey::from_bytes(&bytes)
        }
        [0, 0] => SecretKeyBox::from(text).into_unencrypted_secret_key(),
        b"Sc" => SecretKeyBox::from(text).into_secret_key(Some(password()?)),
        _ => return Err(refused(Code::InvalidRequest, no_key)),
    }
    .map_err(|error| match (error.kind(), &bytes[DERIVED_WITH]) {
        (minisign::ErrorKind::Verify, b"Sc") => {
            refused(Code::PermissionDenied, "the password is wrong")
        }
        _ => refused(Code::InvalidRequest, &format!("the key cannot be used: {error}")),
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        let (code, hint) = match error.kind() {
            std::io::ErrorKind::NotFound => {
                (Code::NotFound, "; `bulkhead keygen` makes a key, -s names another")
            }
            std::io::ErrorKind::PermissionDenied => (Code::PermissionDenied, ""),
            _ => (Code::InvalidRequest, ""),
        };
        let message = format!("cannot read the secret key {}: {error}{hint}", path.display());
        Failure::new(code, message).with("path", path).with("what", "key").with("name", path)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let message = format!(
            "the secret key {} can be read by others (mode {mode:04o}); chmod 600 it, and think of who may have copied it",
            path.display()
        );
        return Err(Failure::new(Code::PermissionDenied, message).with("path", path));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
