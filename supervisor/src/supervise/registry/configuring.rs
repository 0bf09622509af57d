//! Replacing a plugin's configuration.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::operation::Request;
use super::{DisableRequest, Registry, ask};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::supervise::plugin::{Applied, Command};
use crate::supervise::principal::Principal;

impl Registry {
    /// Replaces the operator's configuration. With `restart` a plugin that runs and does not take
    /// one while it does is disabled and enabled again; if it does not come up, with the one before.
    pub(crate) async fn configure(
        self: &Arc<Self>,
        id: &PluginId,
        config: Value,
        restart: bool,
    ) -> Result<Applied, Failure> {
        self.check_open()?;
        let share = loop {
            let share = self.turns.share(id, Request::Configure)?;
            if !self.is_unfinished(id) {
                break share;
            }
            drop(share);
            self.settle(id).await?;
        };
        let handle = self.get(id)?;
        let before = self.store.plugin(id.clone()).await?.map(|row| row.config);
        let (answer, answered) = oneshot::channel();
        let applied = ask(&handle, Command::Configure { config, answer }, answered).await?;
        if applied != Applied::AtRestart || !restart {
            return Ok(applied);
        }
        let kept = |failure: Failure| Failure {
            message: format!("the configuration is kept, but not in force: {}", failure.message),
            ..failure
        };
        self.check_dependents(id).map_err(kept)?;
        // It stays wanted, so that a death in between does not leave it disabled.
        let request = DisableRequest::orderly("configure");
        self.disable_one(&handle, &request, false).await.map_err(kept)?;
        drop(share);
        match self.enable(id, None, &Principal::service()).await {
            Ok(_) => Ok(Applied::Restarted),
            Err(refused) => Err(self.put_back(id, before, refused).await),
        }
    }

    /// A plugin that did not come up with its new configuration goes on with the one before. Returns
    /// what is told.
    async fn put_back(
        self: &Arc<Self>,
        id: &PluginId,
        before: Option<Value>,
        refused: Failure,
    ) -> Failure {
        let again = self.enable(id, before, &Principal::service()).await;
        let what = match &again {
            Ok(_) => "the configuration before is in force again".to_owned(),
            Err(failure) => format!("with the one before it does not come up either ({failure})"),
        };
        let message =
            format!("it does not come up with this configuration, and {what}: {}", refused.message);
        Failure { message, ..refused }
    }
}
