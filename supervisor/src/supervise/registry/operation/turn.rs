//! One operation at a time on each plugin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Kind;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// Whose turn it is, plugin by plugin.
#[derive(Default)]
pub(in crate::supervise::registry) struct Turns {
    /// What is done with whom, as [`Kind::doing`] has it.
    busy: Mutex<BTreeMap<PluginId, &'static str>>,
    freed: Notify,
}

/// The right to carry out an operation on a plugin; given back when it is dropped.
pub(in crate::supervise::registry) struct Turn {
    turns: Arc<Turns>,
    plugin: PluginId,
}

impl Turns {
    fn busy(&self) -> MutexGuard<'_, BTreeMap<PluginId, &'static str>> {
        // Nothing that holds it can leave the map half changed.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other operation on the plugin is under way.
    pub(in crate::supervise::registry) async fn take(
        self: &Arc<Self>,
        plugin: &PluginId,
        kind: Kind,
    ) -> Turn {
        self.take_to(plugin, kind.doing()).await
    }

    /// The same for what has no journal; `doing` is for those who are refused meanwhile.
    pub(in crate::supervise::registry) async fn take_to(
        self: &Arc<Self>,
        plugin: &PluginId,
        doing: &'static str,
    ) -> Turn {
        loop {
            // Before the look, so that one that is freed after it is heard.
            let freed = self.freed.notified();
            if let Some(turn) = self.try_take_to(plugin, doing) {
                return turn;
            }
            freed.await;
        }
    }

    /// `None` while an operation on the plugin is under way.
    pub(super) fn try_take(self: &Arc<Self>, plugin: &PluginId, kind: Kind) -> Option<Turn> {
        self.try_take_to(plugin, kind.doing())
    }

    fn try_take_to(self: &Arc<Self>, plugin: &PluginId, doing: &'static str) -> Option<Turn> {
        let mut busy = self.busy();
        if busy.contains_key(plugin) {
            return None;
        }
        busy.insert(plugin.clone(), doing);
        Some(Turn { turns: Arc::clone(self), plugin: plugin.clone() })
    }

    /// CONFLICT while an operation on the plugin is under way.
    pub(in crate::supervise::registry) fn check(&self, plugin: &PluginId) -> Result<(), Failure> {
        match self.busy().get(plugin) {
            None => Ok(()),
            Some(doing) => Err(Failure::new(
                Code::Conflict,
                format!("{plugin} is {doing}; ask again when that is done"),
            )
            .with("state", doing)),
        }
    }
}

impl Turn {
    pub(super) fn plugin(&self) -> &PluginId {
        &self.plugin
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.busy().remove(&self.plugin);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_operation_waits_and_other_requests_are_refused_meanwhile() {
        let turns = Arc::new(Turns::default());
        let (one, other): (PluginId, PluginId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let first = turns.take(&one, Kind::Upgrade).await;
        let refused = turns.check(&one).unwrap_err();
        assert_eq!(
            (refused.code, &refused.details["state"]),
            (Code::Conflict, &"upgrading".into())
        );
        turns.check(&other).unwrap();
        drop(turns.take(&other, Kind::Install).await);

        let mut second = Box::pin(turns.take(&one, Kind::Uninstall));
        assert!(futures_poll(&mut second).await.is_none(), "it waits");
        drop(first);
        let second = second.await;
        assert_eq!(turns.check(second.plugin()).unwrap_err().details["state"], "uninstalling");
        drop(second);
        turns.check(&one).unwrap();
    }

    /// Polls once.
    async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
