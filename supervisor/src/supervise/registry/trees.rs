//! The trees in the launcher's store, as the registry uses them.
//!
//! A tree comes into the store before it is known which plugin it is of, and is discarded when
//! nobody needs it. Between an import and the row that needs it the tree is *held*, so that a failure
//! of one request does not discard what another has just imported.

use std::collections::BTreeMap;

use super::Registry;
use crate::failure::Failure;
use crate::id::Digest;
use crate::link::Request;

/// How many requests hold each tree.
pub(super) type HeldTrees = tokio::sync::Mutex<BTreeMap<Digest, usize>>;

/// No operation has this number.
pub(super) const NO_OPERATION: i64 = 0;

impl Registry {
    /// Gives back a tree that was fetched; it is discarded if it came to nothing.
    pub(super) async fn let_go(&self, digest: Digest) {
        {
            let mut held = self.trees.lock().await;
            if let Some(count) = held.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&digest);
                }
            }
        }
        if let Err(failure) = self.discard_unused(digest, NO_OPERATION).await {
            tracing::error!(%digest, %failure, "a tree may be left behind in the store");
        }
    }

    /// Removes a tree that no plugin has, no request holds, and no operation but `operation` needs.
    pub(super) async fn discard_unused(
        &self,
        digest: Digest,
        operation: i64,
    ) -> Result<(), Failure> {
        // Nothing is imported between the look and the removal.
        let held = self.trees.lock().await;
        if held.contains_key(&digest) || self.store.has_use_for(digest, operation).await? {
            return Ok(());
        }
        if let Err(failure) = self.launcher.ask_done(Request::Discard { digest }).await {
            // The next start finds it without an owner.
            tracing::error!(%digest, %failure, "a tree is left behind in the store");
        }
        Ok(())
    }
}
