//! Keys and how they are named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes before the key's id in what minisign encodes: the algorithm.
const ALGORITHM: usize = 2;
/// Base64 characters that hold the algorithm and the id.
const PREFIX: usize = 16;

/// What minisign calls a key: 16 hexadecimal digits. A name and no proof: whoever makes a key
/// chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyId(u64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no key id: it has 16 hexadecimal digits, as `bulkhead trust ls` shows them")]
pub(crate) struct BadKeyId {
    value: String,
}

impl FromStr for KeyId {
    type Err = BadKeyId;

    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let bad = || BadKeyId { value: text.to_owned() };
        if text.len() != 16 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for KeyId {
    type Error = BadKeyId;

    fn try_from(text: String) -> Result<Self, BadKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Of the content's BLAKE2b hash: what minisign has made since 2017.
    Prehashed,
    /// Of the content itself, which all of it in memory would need.
    Legacy,
}

/// The algorithm and the id at the begin of an encoded key or signature. `None` if it has none.
pub(super) fn prefix(encoded: &str) -> Option<(Algorithm, KeyId)> {
    let mut bytes = [0; PREFIX / 4 * 3];
    let characters = encoded.as_bytes().get(..PREFIX)?;
    for (group, decoded) in characters.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let mut bits = 0;
        for character in group {
            bits = bits << 6 | sextet(*character)?;
        }
        decoded.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    let algorithm = match &bytes[..ALGORITHM] {
        b"ED" => Algorithm::Prehashed,
        b"Ed" => Algorithm::Legacy,
        _ => return None,
    };
    let id = bytes[ALGORITHM..].first_chunk()?;
    Some((algorithm, KeyId(u64::from_le_bytes(*id))))
}

/// RFC 4648, section 4.
fn sextet(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// A public key as minisign writes it: 56 characters of base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicKey {
    text: String,
    id: KeyId,
    key: minisign_verify::PublicKey,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no minisign public key: give the second line of a .pub file, or the file")]
pub(crate) struct BadKey {
    value: String,
}

impl PublicKey {
    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn minisign(&self) -> &minisign_verify::PublicKey {
        &self.key
    }

    /// From the text of a `.pub` file: a comment, and a line with the key.
    pub(crate) fn of_file(text: &str) -> Result<Self, BadKey> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        match lines.next() {
            Some(second) => second.parse(),
            None => first.parse(),
        }
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let parse = || {
            let key = minisign_verify::PublicKey::from_base64(text).ok()?;
            // A key has one algorithm, whichever way is signed with it. minisign's crate takes the
            // other name too, and then one key would have two texts.
            let (Algorithm::Legacy, id) = prefix(text)? else { return None };
            Some(Self { text: text.to_owned(), id, key })
        };
        // Whatever it is, it is shown: so not a whole file.
        parse().ok_or_else(|| BadKey { value: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// minisign's own key, from its manual page.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_key_is_named_as_minisign_names_it() {
        let key: PublicKey = KEY.parse().unwrap();
        assert_eq!(key.id().to_string(), "E7620F1842B4E81F");
        assert_eq!("e7620f1842b4e81f".parse(), Ok(key.id()));
        assert_eq!(prefix(KEY), Some((Algorithm::Legacy, key.id())));
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{KEY}\n");
        assert_eq!(PublicKey::of_file(&file), Ok(key.clone()));
        assert_eq!(PublicKey::of_file(KEY), Ok(key));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for bad in ["", "RWQ", &KEY[1..], &KEY[..55], &format!("{KEY}="), &KEY.replace("RW", "AA")]
        {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?}");
            assert!(PublicKey::of_file(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "E7620F1842B4E81", "E7620F1842B4E81G", "+7620F1842B4E81F"] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad:?}");
        }
        assert_eq!(prefix("RWQf6LRCGA9i53m"), None);
        assert_eq!(prefix("RWQf6LRCGA9i5\u{e4}m"), None);
    }
}
