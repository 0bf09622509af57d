//! The trees in the launcher's store, as the registry uses them.
//!
//! A tree comes into the store before it is known which plugin it is of, and is discarded when
//! nobody needs it. Between an import and the row that needs it the tree is *held*, so that a failure
//! of one request does not discard what another has just imported. While something is imported nobody
//! knows yet which tree it will be, so what is to be discarded then is left to the end of the import:
//! nobody waits for a slow one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Registry;
use crate::failure::Failure;
use crate::id::Digest;
use crate::link::Request;

/// No operation has this number.
pub(super) const NO_OPERATION: i64 = 0;

#[derive(Default)]
pub(super) struct HeldTrees {
    /// Imports share it; a removal has it alone.
    gate: RwLock<()>,
    /// One removal at a time, so that only imports keep one from the gate.
    removing: tokio::sync::Mutex<()>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// How many requests hold each tree.
    held: BTreeMap<Digest, usize>,
    /// To be discarded, each with the operation that said so.
    left: BTreeSet<(Digest, i64)>,
}

impl HeldTrees {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing that holds it can leave it half changed.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a removal under way, which is short. Until it is given back nothing is removed.
    pub(super) async fn import(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    pub(super) fn hold(&self, digest: Digest) {
        *self.book().held.entry(digest).or_default() += 1;
    }

    fn release(&self, digest: Digest) {
        let held = &mut self.book().held;
        if let Some(count) = held.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&digest);
            }
        }
    }

    /// `None`, with the tree noted for later, while something is imported.
    fn remove(&self, digest: Digest, operation: i64) -> Option<RwLockWriteGuard<'_, ()>> {
        // Noted first: an import that ends in between finds it.
        self.book().left.insert((digest, operation));
        let alone = self.gate.try_write().ok()?;
        self.book().left.remove(&(digest, operation));
        Some(alone)
    }
}

impl Registry {
    /// Gives back a tree that was fetched; it is discarded if it came to nothing.
    pub(super) async fn let_go(&self, digest: Digest) {
        self.trees.release(digest);
        if let Err(failure) = self.discard_unused(digest, NO_OPERATION).await {
            tracing::error!(%digest, %failure, "a tree may be left behind in the store");
        }
    }

    /// Discards what was left while something was imported.
    pub(super) async fn discard_left(&self) {
        let left = std::mem::take(&mut self.trees.book().left);
        for (digest, operation) in left {
            if let Err(failure) = self.discard_unused(digest, operation).await {
                tracing::error!(%digest, %failure, "a tree may be left behind in the store");
            }
        }
    }

    /// Removes a tree that no plugin has, no request holds, and no operation but `operation` needs;
    /// later, if something is imported just now.
    pub(super) async fn discard_unused(
        &self,
        digest: Digest,
        operation: i64,
    ) -> Result<(), Failure> {
        let _turn = self.trees.removing.lock().await;
        // Nothing is imported between the look and the removal.
        let Some(_alone) = self.trees.remove(digest, operation) else { return Ok(()) };
        let held = self.trees.book().held.contains_key(&digest);
        if held || self.store.has_use_for(digest, operation).await? {
            return Ok(());
        }
        if let Err(failure) = self.launcher.ask_done(Request::Discard { digest }).await {
            // The next start finds it without an owner.
            tracing::error!(%digest, %failure, "a tree is left behind in the store");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_removal_does_not_wait_for_an_import_and_is_not_forgotten() {
        let trees = HeldTrees::default();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let (first, second) = (trees.import().await, trees.import().await);
        assert!(trees.remove(one, 7).is_none());
        drop(first);
        assert!(trees.remove(other, NO_OPERATION).is_none(), "another is still imported");
        drop(second);
        assert_eq!(trees.book().left, [(one, 7), (other, NO_OPERATION)].into());
        // The control: alone it is done at once, and keeps imports waiting.
        let alone = trees.remove(one, 7).unwrap();
        assert_eq!(trees.book().left, [(other, NO_OPERATION)].into());
        assert!(trees.gate.try_read().is_err());
        drop(alone);
        drop(trees.import().await);
    }

    #[test]
    fn what_several_hold_is_held_until_the_last_lets_go() {
        let trees = HeldTrees::default();
        let tree = Digest::of(b"tree");
        trees.hold(tree);
        trees.hold(tree);
        trees.release(tree);
        assert!(trees.book().held.contains_key(&tree));
        trees.release(tree);
        assert!(trees.book().held.is_empty());
    }
}
