//! Stopping: finish the calls in flight, save, shut down, say goodbye; all within one budget.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout_at;

use super::{Shared, Stop};
use crate::error::Error;
use crate::host::Stage;
use crate::panic::caught;
use crate::plugin::Plugin;

/// How a plugin's life ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What went wrong on the way, stage first; empty for an orderly end.
    pub(crate) faults: Vec<String>,
}

/// Parts of the budget, in tenths, by whose end a stage must be over: a call that hangs must not cost the saved
/// state, nor a save that hangs the chance to close what is open.
const CALLS: u32 = 6;
const SAVE: u32 = 9;

/// How long the goodbye may take to be written, if the budget has as much left.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) async fn run<P: Plugin>(shared: &Rc<Shared<P>>, stop: &Stop) -> Ending {
    shared.stopping.set(true);
    // What waits is still handled, each event as a call in flight is.
    shared.host.subscribers().close_routed();
    shared.host.tasks().reach(Stage::Stopping);
    let mut faults = Vec::new();
    let budget = stop.by.remaining();
    let now = tokio::time::Instant::now();
    let tenths = |count: u32| now + budget * count / 10;

    if timeout_at(tenths(CALLS), shared.pending.none()).await.is_err() {
        faults.push(format!("calls: {} still in flight, given up", shared.pending.count()));
    }
    // From here on nothing changes but by the plugin itself, so that what is saved is what it knows.
    shared.listening.borrow_mut().end();
    shared.host.tasks().reach(Stage::Over);
    if let Some(plugin) = shared.plugin.get() {
        if stop.save_state {
            stage("save", timeout_at(tenths(SAVE), caught(plugin.save())).await, &mut faults);
        }
        shared.host.caches().close();
        let shutdown = caught(plugin.shutdown(stop.reason.clone(), stop.by));
        stage("shutdown", timeout_at(stop.by.instant(), shutdown).await, &mut faults);
    }
    for fault in &faults {
        shared
            .host
            .log()
            .with("reason", &stop.reason)
            .error(format_args!("while stopping: {fault}"));
    }
    shared.host.subscribers().close();
    if let Some(peer) = shared.host.link().peer() {
        let words = match faults.first() {
            None => stop.reason.to_string(),
            Some(first) => format!("{}, but {first}", stop.reason),
        };
        peer.goodbye(&words);
        let patience = GOODBYE.min(stop.by.remaining().max(GOODBYE / 10));
        // The goodbye is a courtesy: the exit that follows says as much.
        let _ = tokio::time::timeout(patience, peer.closed()).await;
    }
    shared.host.link().close();
    Ending { faults }
}

fn stage<T>(
    name: &str,
    outcome: Result<Result<T, Error>, tokio::time::error::Elapsed>,
    faults: &mut Vec<String>,
) {
    match outcome {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => faults.push(format!("{name}: {error}")),
        Err(_) => faults.push(format!("{name}: not done within the budget, given up")),
    }
}
