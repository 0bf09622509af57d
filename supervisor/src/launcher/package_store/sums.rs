//! The list of a package's files, whose SHA-256 is the package's digest.
//!
//! One line per file, sorted by path: `<sha256> <mode> <path>`, the mode `0444` or `0555`. The
//! format is a promise: the same tree has the same digest on every machine and in every version.

use std::collections::{BTreeMap, btree_map};
use std::fmt::Write as _;

use crate::id::Digest;

/// The longest path of a file within a package, in bytes.
pub(super) const MAX_PATH: usize = 1024;
/// The longest name of one component, in bytes (NAME_MAX of every usual file system).
const MAX_NAME: usize = 255;

/// One file as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) digest: Digest,
    pub(crate) executable: bool,
}

impl Sum {
    /// The permission bits in the store: nobody writes there.
    pub(super) fn mode(self) -> u32 {
        if self.executable { 0o555 } else { 0o444 }
    }
}

/// Files as they must be, by path.
pub(super) type Files = btree_map::IntoIter<String, Sum>;

/// Every file of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums(BTreeMap<String, Sum>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the list of sums is not `<sha256> 0444|0555 <path>` in the order of paths")]
pub(crate) struct BadSums {
    line: usize,
}

impl Sums {
    pub(super) fn insert(&mut self, path: String, sum: Sum) {
        self.0.insert(path, sum);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Sum> {
        self.0.get(path).copied()
    }

    /// The files in the order of their paths.
    pub(super) fn into_files(self) -> Files {
        self.0.into_iter()
    }

    /// The bytes whose SHA-256 is the digest.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (path, sum) in &self.0 {
            writeln!(text, "{} {:04o} {path}", sum.digest, sum.mode())
                .expect("writing to a String cannot fail");
        }
        text
    }

    /// Adds what a piece of the list says: whole lines, which follow on those before. Accepts exactly
    /// what [`Sums::to_text`] writes.
    pub(super) fn extend(&mut self, piece: &str) -> Result<(), BadSums> {
        for line in piece.split_inclusive('\n') {
            // Each line is a file, and no file has two.
            let bad = || BadSums { line: self.0.len() + 1 };
            let mut fields = line.strip_suffix('\n').ok_or_else(bad)?.splitn(3, ' ');
            let (Some(digest), Some(mode), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(bad());
            };
            let digest = digest.parse().map_err(|_| bad())?;
            let executable = match mode {
                "0555" => true,
                "0444" => false,
                _ => return Err(bad()),
            };
            let last = self.0.last_key_value();
            if check_path(path).is_err() || last.is_some_and(|(last, _)| last.as_str() >= path) {
                return Err(bad());
            }
            self.0.insert(path.to_owned(), Sum { digest, executable });
        }
        Ok(())
    }
}

/// What a path within a package must be: relative, plain names joined by `/`, printable, bounded.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > MAX_PATH {
        return Err("it is longer than 1024 bytes");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("it is absolute or has an empty component"),
            "." | ".." => return Err("it has a component `.` or `..`"),
            _ if name.len() > MAX_NAME => return Err("a component is longer than 255 bytes"),
            _ if name.chars().any(char::is_control) => return Err("it has a control character"),
            _ => {}
        }
    }
    Ok(())
}
