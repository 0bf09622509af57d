//! From the process to its host.

use std::time::Duration;

use bulkhead_ipc_protocol::host::METRICS_PUSH;
use bulkhead_ipc_protocol::{Call, Payload};

use super::super::Link;
use super::Registry;
use crate::deadline::Deadline;

/// How long changes are gathered before they are told.
const GATHER: Duration = Duration::from_secs(1);
/// How long the host has to take them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells what changed, a moment after it did, for as long as the process lives. A plugin that
/// measures nothing, or in which nothing happens, is not woken.
pub(crate) async fn push(registry: Registry, link: Link) {
    loop {
        registry.change().wait().await;
        tokio::time::sleep(GATHER).await;
        registry.change().take();
        let Ok(payload) = Payload::bincode(&registry.snapshot()) else { continue };
        // A host that is older than this has no such method; one that is away hears all on the next
        // session.
        let _ = link.call(Call::new(METRICS_PUSH, payload), Deadline::after(PATIENCE), true).await;
    }
}
