//! How far the audit had come: kept where the supervisor cannot write.
//!
//! The audit is a chain of hashes in the supervisor's store, and a chain cannot prove its own end:
//! whoever can write the store could cut it off, or write it anew from the beginning. So the head is
//! kept here too, in a file that only root can write, and it moves in one way only: the supervisor
//! gives the bodies of the rows that follow, and the hash of the new head is computed here. What
//! was anchored once can be neither shortened nor rewritten by a supervisor that somebody has taken
//! over. It can still add what it likes: nobody can tell that from what it should have added.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::audit_chain::Head;
use crate::failure::{Code, Failure};
use crate::id::Digest;

/// The file's name, beside the store of packages.
const FILE: &str = "audit.head";
/// No head is longer.
const MAX_LENGTH: usize = 128;
/// The most rows that one request can add; the link's packet would hold few more.
pub(crate) const MAX_ROWS: usize = 1000;

/// The head that is kept.
pub(super) struct AuditAnchor {
    path: PathBuf,
    head: Option<Head>,
}

impl AuditAnchor {
    /// Reads what is kept in the launcher's state directory.
    pub(super) fn open(state: &Path) -> std::io::Result<Self> {
        let path = state.join(FILE);
        let head = match fs::read(&path) {
            Ok(bytes) => read(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path, head: None });
            }
            Err(error) => return Err(error),
        };
        if head.is_none() {
            // Only root writes it, so this is what a crash of the machine left.
            tracing::error!(
                path = %path.display(),
                "this is no head of an audit: the audit is anchored anew from where it stands"
            );
        }
        Ok(Self { path, head })
    }

    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// Moves the head on from `after` by the rows of these bodies. Where none is
    /// kept yet, `after` is where it begins.
    pub(super) fn extend(&mut self, after: Head, bodies: &[Digest]) -> Result<Head, Failure> {
        if bodies.len() > MAX_ROWS {
            let message = format!("{} rows at once; at most {MAX_ROWS} are taken", bodies.len());
            return Err(Failure::new(Code::InvalidRequest, message)
                .with("limit", MAX_ROWS)
                .with("used", bodies.len()));
        }
        if let Some(head) = self.head
            && head != after
        {
            return Err(Failure::new(
                Code::AuditBroken,
                format!(
                    "the audit does not go on from its anchored head {head} but from {after}; the \
                     store was shortened, replaced or rewritten: see docs/audit.md"
                ),
            )
            .with("sequence", head.sequence)
            .with("reason", "not-anchored"));
        }
        let head = bodies.iter().fold(after, |head, body| head.next(*body));
        if self.head != Some(head) {
            self.write(head).map_err(|error| {
                Failure::new(
                    Code::StorageFailed,
                    format!("the audit's head cannot be kept in {}: {error}", self.path.display()),
                )
                .with("path", &self.path)
            })?;
            self.head = Some(head);
        }
        Ok(head)
    }

    /// Whole or not at all. Not synced, as the launcher's loop does not wait for a disk: after a
    /// power cut an older head may be there, which is as true as the newest.
    fn write(&self, head: Head) -> std::io::Result<()> {
        let draft = self.path.with_extension("draft");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o644).open(&draft)?;
        file.write_all(format!("{head}\n").as_bytes())?;
        fs::rename(&draft, &self.path)
    }
}

fn read(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_LENGTH)?;
    text.strip_suffix('\n')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(texts: &[&str]) -> Vec<Digest> {
        texts.iter().map(|text| Digest::of(text.as_bytes())).collect()
    }

    #[test]
    fn the_head_moves_on_and_never_back_or_aside() {
        let directory = tempfile::tempdir().unwrap();
        let mut anchor = AuditAnchor::open(directory.path()).unwrap();
        assert_eq!(anchor.head(), None);
        let one = anchor.extend(Head::START, &bodies(&["a", "b"])).unwrap();
        assert_eq!(one, Head::START.next(Digest::of(b"a")).next(Digest::of(b"b")));
        let two = anchor.extend(one, &bodies(&["c"])).unwrap();
        assert_eq!(two.sequence, 3);
        let forged = Head { hash: Digest::of(b"forged"), ..two };
        for (what, after) in [("shorter", one), ("from the start", Head::START), ("other", forged)]
        {
            let failure = anchor.extend(after, &bodies(&["d"])).unwrap_err();
            assert_eq!(failure.code, Code::AuditBroken, "{what}");
            assert_eq!(failure.details["sequence"], 3, "{what}");
        }
        assert_eq!(anchor.extend(two, &[]), Ok(two), "nothing new is no fault");
        drop(anchor);
        let mut again = AuditAnchor::open(directory.path()).unwrap();
        assert_eq!(again.head(), Some(two), "kept over a restart");
        assert_eq!(again.extend(two, &bodies(&["d"])).unwrap().sequence, 4);
    }

    #[test]
    fn one_that_is_gone_begins_where_the_audit_stands() {
        let directory = tempfile::tempdir().unwrap();
        let pruned = Head { sequence: 700, hash: Digest::of(b"row 700") };
        for left in [None, Some(&b""[..]), Some(b"1:zz\n"), Some(b"garbage")] {
            if let Some(bytes) = left {
                fs::write(directory.path().join(FILE), bytes).unwrap();
            }
            let mut anchor = AuditAnchor::open(directory.path()).unwrap();
            assert_eq!(anchor.head(), None, "{left:?}");
            assert_eq!(anchor.extend(pruned, &bodies(&["a"])).unwrap().sequence, 701);
        }
    }

    #[test]
    fn a_head_that_cannot_be_written_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut anchor = AuditAnchor::open(&state).unwrap();
        fs::remove_dir(&state).unwrap();
        let failure = anchor.extend(Head::START, &bodies(&["a"])).unwrap_err();
        assert_eq!((failure.code, anchor.head()), (Code::StorageFailed, None));
        fs::create_dir(&state).unwrap();
        assert_eq!(anchor.extend(Head::START, &bodies(&["a"])).unwrap().sequence, 1);
        let long = bodies(&vec!["x"; MAX_ROWS + 1]);
        let failure = anchor.extend(anchor.head().unwrap(), &long).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest);
    }
}
