//! How far the audit had come: kept where the supervisor cannot write.
//!
//! The audit is a chain of hashes in the supervisor's store, and a chain cannot prove its own end:
//! whoever can write the store could cut it off, or write it anew from the beginning. So the head is
//! kept here too, in a file that only root can write, and it moves in one way only: the supervisor
//! gives the bodies of the rows that follow, and the hash of the new head is computed here. What
//! was anchored once can be neither shortened nor rewritten by a supervisor that somebody has taken
//! over. It can still add what it likes: nobody can tell that from what it should have added.
//!
//! It begins once: at the very first start, or where root has written the word `begin` into the file. A
//! head that is gone, or is none, is told as a fault of the audit and never replaced, as otherwise who
//! wants to be rid of what was anchored need only spoil it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::whole_file;
use crate::audit_chain::Head;
use crate::failure::{Code, Failure};
use crate::id::Digest;

/// The file's name, beside the store of packages.
const FILE: &str = "audit.head";
/// What stands in it before there is a head.
const BEGIN: &str = "begin";
/// No head is longer.
const MAX_LENGTH: usize = 128;
/// The most rows that one request can add; the link's packet would hold few more.
pub(crate) const MAX_ROWS: usize = 1000;

/// The head that is kept.
pub(super) struct AuditAnchor {
    path: PathBuf,
    /// None: it begins where the audit stands. A fault: what was kept is lost.
    head: Result<Option<Head>, Failure>,
}

impl AuditAnchor {
    /// Reads what is kept in the launcher's state directory; `first`: nothing was ever kept there.
    pub(super) fn open(state: &Path, first: bool) -> std::io::Result<Self> {
        let path = state.join(FILE);
        if first && !path.exists() {
            // From now on one that is missing was removed.
            write(&path, BEGIN)?;
        }
        let head = match fs::read(&path) {
            Ok(bytes) => read(&bytes).ok_or_else(|| {
                lost(&path, "anchor-unreadable", "is neither a place in the audit nor `begin`")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(lost(&path, "anchor-missing", "is not there any more"))
            }
            Err(error) => {
                Err(lost(&path, "anchor-unreadable", &format!("cannot be read: {error}")))
            }
        };
        if let Err(failure) = &head {
            tracing::error!(path = %path.display(), %failure, "the audit is not anchored");
        }
        Ok(Self { path, head })
    }

    /// The head; none where it has yet to begin.
    ///
    /// # Errors
    /// [`Code::AuditBroken`]: what was kept is lost.
    pub(super) fn head(&self) -> Result<Option<Head>, Failure> {
        self.head.clone()
    }

    /// The head after `after` and the rows of these bodies. Where none is kept yet, `after` is where it
    /// begins. It is the head when it is written: [`AuditAnchor::writing`], [`AuditAnchor::is_at`].
    pub(super) fn extended(&self, after: Head, bodies: &[Digest]) -> Result<Head, Failure> {
        if bodies.len() > MAX_ROWS {
            let message = format!("{} rows at once; at most {MAX_ROWS} are taken", bodies.len());
            return Err(Failure::new(Code::InvalidRequest, message)
                .with("limit", MAX_ROWS)
                .with("used", bodies.len()));
        }
        if let Some(head) = self.head.clone()?
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
        Ok(bodies.iter().fold(after, |head, body| head.next(*body)))
    }

    /// What writes that head: one at a time.
    pub(super) fn writing(
        &self,
        head: Head,
    ) -> impl FnOnce() -> std::io::Result<()> + Send + 'static {
        let path = self.path.clone();
        move || {
            write(&path, &head.to_string())?;
            // Else a power cut could bring the one before it back.
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::File::open(directory)?.sync_all()
        }
    }

    /// That head is written.
    pub(super) fn is_at(&mut self, head: Head) {
        self.head = Ok(Some(head));
    }

    /// It could not be written, and the head is what it was.
    pub(super) fn not_kept(&self, error: &std::io::Error) -> Failure {
        let path = &self.path;
        let message = format!("the audit's head cannot be kept in {}: {error}", path.display());
        Failure::new(Code::StorageFailed, message).with("path", path)
    }
}

/// What was kept is lost: somebody has meddled with it, or the disk has failed.
fn lost(path: &Path, reason: &str, what: &str) -> Failure {
    let message = format!(
        "the launcher's word on how far the audit had come, {}, {what}: nobody can tell whether rows \
         were cut off or written anew; see docs/audit.md",
        path.display()
    );
    Failure::new(Code::AuditBroken, message)
        .with("sequence", Option::<u64>::None)
        .with("reason", reason)
        .with("path", path)
}

/// It is one small write, at most a few times a second. A file that is empty would be a false alarm.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    whole_file::write(path, &path.with_extension("draft"), 0o644, format!("{text}\n").as_bytes())
}

/// What the file says; the outer `None`: nothing that makes sense.
#[allow(clippy::option_option, reason = "the inner one is a head that has yet to begin")]
fn read(bytes: &[u8]) -> Option<Option<Head>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_LENGTH)?;
    match text.strip_suffix('\n')? {
        BEGIN => Some(None),
        place => place.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl AuditAnchor {
        /// All at once, as the loop does it over time.
        fn extend(&mut self, after: Head, bodies: &[Digest]) -> Result<Head, Failure> {
            let head = self.extended(after, bodies)?;
            self.writing(head)().map_err(|error| self.not_kept(&error))?;
            self.is_at(head);
            Ok(head)
        }
    }

    fn bodies(texts: &[&str]) -> Vec<Digest> {
        texts.iter().map(|text| Digest::of(text.as_bytes())).collect()
    }

    #[test]
    fn the_head_moves_on_and_never_back_or_aside() {
        let directory = tempfile::tempdir().unwrap();
        let mut anchor = AuditAnchor::open(directory.path(), true).unwrap();
        assert_eq!(anchor.head(), Ok(None));
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
        let mut again = AuditAnchor::open(directory.path(), false).unwrap();
        assert_eq!(again.head(), Ok(Some(two)), "kept over a restart");
        assert_eq!(again.extend(two, &bodies(&["d"])).unwrap().sequence, 4);
    }

    #[test]
    fn it_begins_where_the_audit_stands_at_the_first_start_or_on_roots_word() {
        let pruned = Head { sequence: 700, hash: Digest::of(b"row 700") };
        for first in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            if !first {
                fs::write(directory.path().join(FILE), "begin\n").unwrap();
            }
            let mut anchor = AuditAnchor::open(directory.path(), first).unwrap();
            assert_eq!(anchor.head(), Ok(None));
            assert_eq!(anchor.extend(pruned, &bodies(&["a"])).unwrap().sequence, 701);
            // A first start that died before the store was made is another first one.
            let again = AuditAnchor::open(directory.path(), true).unwrap();
            assert_eq!(again.head().unwrap().unwrap().sequence, 701);
        }
    }

    #[test]
    fn one_that_is_lost_is_told_and_not_replaced() {
        for (left, reason) in [
            (None, "anchor-missing"),
            (Some(&b""[..]), "anchor-unreadable"),
            (Some(b"1:zz\n"), "anchor-unreadable"),
            (Some(b"begin"), "anchor-unreadable"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(FILE);
            if let Some(bytes) = left {
                fs::write(&file, bytes).unwrap();
            }
            let mut anchor = AuditAnchor::open(directory.path(), false).unwrap();
            for failure in [
                anchor.head().unwrap_err(),
                anchor.extend(Head::START, &bodies(&["a"])).unwrap_err(),
            ] {
                assert_eq!(
                    (failure.code, &failure.details["reason"]),
                    (Code::AuditBroken, &reason.into())
                );
            }
            assert_eq!(fs::read(&file).ok().as_deref(), left, "what is there is evidence");
        }
    }

    #[test]
    fn a_head_that_cannot_be_written_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut anchor = AuditAnchor::open(&state, true).unwrap();
        fs::remove_dir_all(&state).unwrap();
        let failure = anchor.extend(Head::START, &bodies(&["a"])).unwrap_err();
        assert_eq!((failure.code, anchor.head()), (Code::StorageFailed, Ok(None)));
        fs::create_dir(&state).unwrap();
        assert_eq!(anchor.extend(Head::START, &bodies(&["a"])).unwrap().sequence, 1);
        let long = bodies(&vec!["x"; MAX_ROWS + 1]);
        let failure = anchor.extend(anchor.head().unwrap().unwrap(), &long).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest);
    }
}
