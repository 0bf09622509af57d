//! Reading the list of a tree's files, a bounded piece at a time.
//!
//! A list can have megabytes, and whoever asks for a start chooses which. So it is read, hashed and taken
//! apart between two turns of the loop, like the files that it names.

use std::fs::File;
use std::io::{self, Read as _, Take};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::MAX_SUMS;
use super::sums::Sums;
use crate::id::Digest;

/// Bytes that one step reads and hashes at most.
const PIECE: u64 = 1 << 20;
/// Lines that one step takes apart at most.
const LINES: usize = 512;

/// A list on its way from the disk to what it says.
pub(super) struct Listing {
    expected: Digest,
    phase: Phase,
}

enum Phase {
    Reading { file: Take<File>, text: Vec<u8>, hash: Sha256 },
    Parsing { text: String, at: usize, sums: Sums },
}

/// Why there is no list.
pub(super) enum BadList {
    Unreadable,
    /// It is not the one of that digest, or none at all.
    Altered {
        found: Digest,
    },
}

impl Listing {
    pub(super) fn open(path: &Path, expected: Digest) -> io::Result<Self> {
        let file = File::open(path)?.take(MAX_SUMS);
        let phase = Phase::Reading { file, text: Vec::new(), hash: Sha256::new() };
        Ok(Self { expected, phase })
    }

    /// Does one bounded piece; at the end what the list says.
    pub(super) fn step(&mut self) -> Result<Option<Sums>, BadList> {
        let altered = |found| BadList::Altered { found };
        match &mut self.phase {
            Phase::Reading { file, text, hash } => {
                let begin = text.len();
                let read = file.by_ref().take(PIECE).read_to_end(text);
                if read.map_err(|_| BadList::Unreadable)? > 0 {
                    hash.update(&text[begin..]);
                    return Ok(None);
                }
                let found = Digest::new(hash.finalize_reset().into());
                if found != self.expected {
                    return Err(altered(found));
                }
                let text = String::from_utf8(std::mem::take(text)).map_err(|_| altered(found))?;
                self.phase = Phase::Parsing { text, at: 0, sums: Sums::default() };
                Ok(None)
            }
            Phase::Parsing { text, at, sums } => {
                let rest = &text[*at..];
                if rest.is_empty() {
                    return Ok(Some(std::mem::take(sums)));
                }
                let end = rest.match_indices('\n').nth(LINES - 1);
                let piece = &rest[..end.map_or(rest.len(), |(index, _)| index + 1)];
                sums.extend(piece).map_err(|_| altered(self.expected))?;
                *at += piece.len();
                Ok(None)
            }
        }
    }
}
