//! The arithmetic of the audit's chain, which launcher and supervisor share.
//!
//! Each row has a sequence number, from 1 and without a gap, perhaps a plugin, and a content:
//! ```text
//! body = SHA-256(the plugin's id or nothing ‖ "\n" ‖ SHA-256(content))
//! hash = SHA-256("bulkhead audit 1\n" ‖ sequence, 8 bytes big-endian ‖ hash of the row before ‖ body)
//! ```
//! where before the first row there are 32 zero bytes. As only the content's own hash goes in, the
//! content can be removed and the chain still proves that nothing else was. This is a stored format
//! and a promise to those who check it with programs of their own: see `docs/audit.md`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, PluginId};

const DOMAIN: &[u8] = b"bulkhead audit 1\n";

/// A place in the chain: the row at `sequence` has this hash, and so all rows before it are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) hash: Digest,
}

impl Head {
    /// Before the first row.
    pub(crate) const START: Self = Self { sequence: 0, hash: Digest::new([0; 32]) };

    /// The place after one more row, of that [`body`]. The last number there is stays: no chain comes so far, but
    /// a request can say that one has.
    pub(crate) fn next(self, body: Digest) -> Self {
        let sequence = self.sequence.saturating_add(1);
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 8 + 32 + 32);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(self.hash.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        Self { sequence, hash: Digest::of(&bytes) }
    }
}

/// What a row says, whatever its place: about which plugin, and the hash of its content.
pub(crate) fn body(plugin: Option<&PluginId>, content: Digest) -> Digest {
    let mut bytes = plugin.map_or("", PluginId::as_str).as_bytes().to_vec();
    bytes.push(b'\n');
    bytes.extend_from_slice(content.as_bytes());
    Digest::of(&bytes)
}

/// `<sequence>:<hash>`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no place in the audit: it is written <sequence>:<hash in 64 digits>")]
pub(crate) struct BadHead {
    value: String,
}

impl FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Self, BadHead> {
        let parse = || {
            let (sequence, hash) = text.split_once(':')?;
            let plain = sequence.bytes().all(|byte| byte.is_ascii_digit());
            Some(Self {
                sequence: sequence.parse().ok().filter(|_| plain)?,
                hash: hash.parse().ok()?,
            })
        };
        parse().ok_or_else(|| BadHead { value: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_as_the_documentation_has_it() {
        // Computed by another program.
        let first = Head::START.next(body(None, Digest::of(b"{}")));
        assert_eq!(
            first.to_string(),
            "1:59bc87a8673985fc01c050a651656f66eb0a99624a0a43c0c2fc91c0ac764162"
        );
        let scheduler = "scheduler".parse().unwrap();
        let second = first.next(body(Some(&scheduler), Digest::of(b"{\"a\":1}")));
        assert_eq!(
            second.to_string(),
            "2:a35b2b66f105b35f33c91fa03fbabf4c15325853cde69b708883d3f18fa5f7f1"
        );
    }

    #[test]
    fn a_number_that_no_chain_reaches_is_taken() {
        let end = Head { sequence: u64::MAX, hash: Digest::of(b"a") };
        let next = end.next(Digest::of(b"b"));
        assert_eq!(next.sequence, u64::MAX);
        assert_ne!(next.hash, end.hash);
    }

    #[test]
    fn each_part_of_a_row_counts() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let at = |sequence, hash| Head { sequence, hash };
        assert_eq!(at(4, a).next(b), at(4, a).next(b));
        for other in [at(5, a).next(b), at(4, b).next(b), at(4, a).next(a)] {
            assert_ne!(other.hash, at(4, a).next(b).hash);
        }
    }

    #[test]
    fn a_place_reads_back_as_it_was_written() {
        let head = Head::START.next(Digest::of(b"x"));
        assert_eq!(head.to_string().parse::<Head>(), Ok(head));
        let hash = head.hash.to_string();
        for bad in ["", ":", "1", "1:", &format!("+1:{hash}"), &format!("x:{hash}"), &hash, "1:ab"]
        {
            assert!(bad.parse::<Head>().is_err(), "{bad:?}");
        }
    }
}
