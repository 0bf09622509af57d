//! What was done to the trust store, until it is in the audit.
//!
//! The trust store is changed by root's own hand and not through the service, so nothing here is told
//! of a change: it is seen. The launcher looks at each question that it asks the store, so that no
//! key counts that was not noticed, and whenever the supervisor asks what is new, which it does all
//! the time. Each change waits until the supervisor has put it into the audit; what the audit then
//! knows is kept in a file that only root can write, so that what is done while the service does not
//! run is seen at its next start.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::whole_file;
use crate::failure::{Code, Failure};
use crate::trust::{Change, Snapshot, TrustStore};

/// The file's name, beside the head of the audit.
const FILE: &str = "trust.recorded";

/// The changes and what is known.
pub(super) struct TrustLog {
    path: PathBuf,
    /// What the audit knows: the file's content.
    recorded: Snapshot,
    /// The same after the changes that wait.
    seen: Snapshot,
    waiting: VecDeque<Change>,
    /// Of the first that waits.
    number: u64,
    /// The store cannot be read; said once.
    unreadable: bool,
}

impl TrustLog {
    /// Reads what is kept in the launcher's state directory. Nothing: then every key is new.
    pub(super) fn open(state: &Path) -> std::io::Result<Self> {
        let path = state.join(FILE);
        let recorded = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                // Only root writes it, so this is what a crash of the machine left.
                tracing::error!(path = %path.display(), %error, "every trusted key is recorded anew");
                Snapshot::default()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Snapshot::default(),
            Err(error) => return Err(error),
        };
        let seen = recorded.clone();
        Ok(Self { path, recorded, seen, waiting: VecDeque::new(), number: 1, unreadable: false })
    }

    /// Looks what was done since the last look.
    pub(super) fn look(&mut self, store: &TrustStore) {
        match Snapshot::of(store) {
            Ok(now) => {
                self.unreadable = false;
                for change in now.since(&self.seen, store) {
                    tracing::warn!(key = %change.id, kind = ?change.kind, "the trust store was changed");
                    self.waiting.push_back(change);
                }
                self.seen = now;
            }
            // Nothing is trusted then, and what it was before is what the next look is held against.
            Err(failure) if !self.unreadable => {
                self.unreadable = true;
                tracing::error!(%failure, "the trust store cannot be read: no key is trusted");
            }
            Err(_) => {}
        }
    }

    /// The change that waits longest, and its number.
    pub(super) fn first(&self) -> Option<(u64, &Change)> {
        self.waiting.front().map(|change| (self.number, change))
    }

    /// The change of that number is in the audit. One that was told of before is no fault.
    pub(super) fn recorded(&mut self, number: u64) -> Result<(), Failure> {
        if number != self.number {
            return Ok(());
        }
        let Some(change) = self.waiting.front() else { return Ok(()) };
        let mut recorded = self.recorded.clone();
        recorded.apply(change);
        self.write(&recorded).map_err(|error| {
            let path = &self.path;
            let message = format!(
                "what the audit knows of the trust store cannot be kept in {}: {error}",
                path.display()
            );
            Failure::new(Code::StorageFailed, message).with("path", path)
        })?;
        self.recorded = recorded;
        self.waiting.pop_front();
        self.number += 1;
        Ok(())
    }

    /// One small write for each change. Of a file that is empty every key would be recorded once more.
    fn write(&self, recorded: &Snapshot) -> std::io::Result<()> {
        let draft = self.path.with_extension("draft");
        whole_file::write(&self.path, &draft, 0o600, &serde_json::to_vec(recorded)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::ChangeKind;
    use crate::trust::sample::Signing;

    fn trust(store: &TrustStore, key: &Signing) {
        store.add(key.public(), vec!["*".parse().unwrap()], None, "now".to_owned()).unwrap();
    }

    fn first(log: &TrustLog) -> Option<(u64, ChangeKind)> {
        log.first().map(|(number, change)| (number, change.kind))
    }

    #[test]
    fn a_change_waits_until_it_is_recorded_and_is_then_told_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let store = TrustStore::at(directory.path().join("trust"));
        let mut log = TrustLog::open(directory.path()).unwrap();
        log.look(&store);
        assert_eq!(first(&log), None);
        let key = Signing::new();
        trust(&store, &key);
        log.look(&store);
        // It is revoked before anybody has asked: both are told, in order.
        store.revoke(key.public().id(), "then".to_owned()).unwrap();
        log.look(&store);
        assert_eq!(first(&log), Some((1, ChangeKind::Added)));
        log.recorded(7).unwrap();
        assert_eq!(first(&log), Some((1, ChangeKind::Added)), "another's word");
        // It dies before that is recorded.
        let mut again = TrustLog::open(directory.path()).unwrap();
        again.look(&store);
        let (number, change) = again.first().unwrap();
        assert_eq!((number, change.kind), (1, ChangeKind::Added));
        assert!(change.after.as_ref().unwrap().revoked.is_some(), "as it is now");
        log.recorded(1).unwrap();
        log.recorded(1).unwrap();
        assert_eq!(first(&log), Some((2, ChangeKind::Revoked)), "a number counts once");
        log.recorded(2).unwrap();
        assert_eq!(first(&log), None);
        let mut again = TrustLog::open(directory.path()).unwrap();
        again.look(&store);
        assert_eq!(first(&again), None, "known over a restart");
        // What is done meanwhile is seen.
        fs::remove_dir_all(store.path()).unwrap();
        let mut again = TrustLog::open(directory.path()).unwrap();
        again.look(&store);
        assert_eq!(first(&again), Some((1, ChangeKind::Removed)));
    }

    #[test]
    fn what_cannot_be_kept_waits_on() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        let store = TrustStore::at(directory.path().join("trust"));
        trust(&store, &Signing::new());
        let mut log = TrustLog::open(&state).unwrap();
        log.look(&store);
        fs::remove_dir(&state).unwrap();
        assert_eq!(log.recorded(1).unwrap_err().code, Code::StorageFailed);
        assert_eq!(first(&log), Some((1, ChangeKind::Added)));
        fs::create_dir(&state).unwrap();
        log.recorded(1).unwrap();
        assert_eq!(first(&log), None);
        fs::write(state.join(FILE), "garbage").unwrap();
        let mut log = TrustLog::open(&state).unwrap();
        log.look(&store);
        assert_eq!(first(&log), Some((1, ChangeKind::Added)), "rather twice than never");
    }
}
