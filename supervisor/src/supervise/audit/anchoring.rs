//! Keeping the launcher's copy of the chain's head up to date.
//!
//! The launcher computes its new head from the old one and the bodies of the rows in between, so it
//! can never be given a head that does not go on from what it knew.

use std::time::Duration;

use super::Audit;
use super::verification::{Broken, Reason, Verified, Verifier, broken};
use crate::audit_chain::{Head, body};
use crate::failure::Failure;
use crate::launcher::audit_anchor::MAX_ROWS;
use crate::link::{Reply, Request};
use crate::supervise::launcher_link::{Launcher, unexpected};

/// How long new rows wait to be anchored together: what could be cut off without a trace.
const TOGETHER: Duration = Duration::from_millis(500);
/// How many rows are read at a time.
const PAGE: usize = 500;

impl Audit {
    /// Anchors new rows soon after they are written, for as long as the service lives.
    pub(crate) async fn keep_anchored(self, launcher: Launcher) {
        let mut news = self.store.audited();
        let mut told = None;
        loop {
            let anchored = self.anchor(&launcher).await;
            match anchored.map_err(|failure| failure.code) {
                Ok(()) => told = None,
                // Once, and not for every row from now on.
                Err(code) if told == Some(code) => {}
                Err(code) => {
                    tracing::error!(%code, "the audit cannot be anchored: `bulkhead audit verify`");
                    told = Some(code);
                }
            }
            if news.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Anchors all that is written.
    pub(crate) async fn anchor(&self, launcher: &Launcher) -> Result<(), Failure> {
        let _alone = self.anchoring.lock().await;
        let mut at = match head(launcher, Request::AuditHead).await? {
            Some(head) => head,
            // It begins with the oldest row that is there.
            None => match self.since(0, None, 1).await?.first() {
                Some(row) => Head { sequence: row.sequence - 1, hash: row.previous },
                None => return Ok(()),
            },
        };
        loop {
            let rows = self.since(at.sequence, None, PAGE.min(MAX_ROWS)).await?;
            let Some(first) = rows.first() else { return Ok(()) };
            if (first.sequence, first.previous) != (at.sequence + 1, at.hash) {
                let sequence = at.sequence;
                return Err(broken(&Broken { sequence, reason: Reason::Rewritten }));
            }
            let bodies =
                rows.iter().map(|row| body(row.plugin.as_ref(), row.content_hash)).collect();
            let anchored = head(launcher, Request::Anchor { after: at, bodies }).await?;
            at = anchored
                .ok_or_else(|| Failure::internal("a head was anchored and is not there"))?;
        }
    }

    /// Checks all rows. `known` is a place that somebody kept.
    ///
    /// AUDIT_BROKEN: the first fault.
    pub(crate) async fn verify(
        &self,
        launcher: &Launcher,
        known: Option<Head>,
    ) -> Result<Verified, Failure> {
        let anchored = head(launcher, Request::AuditHead).await?;
        let mut verifier = Verifier::new(anchored, known);
        loop {
            let rows = self.since(verifier.after(), None, PAGE).await?;
            if rows.is_empty() {
                return verifier.end().map_err(|fault| broken(&fault));
            }
            for row in rows {
                verifier.row(&row).map_err(|fault| broken(&fault))?;
            }
            // Others have work too.
            tokio::task::yield_now().await;
        }
    }
}

async fn head(launcher: &Launcher, request: Request) -> Result<Option<Head>, Failure> {
    match launcher.ask(request).await? {
        (Reply::AuditHead(head), _) => Ok(head),
        (other, _) => Err(unexpected(&other)),
    }
}
