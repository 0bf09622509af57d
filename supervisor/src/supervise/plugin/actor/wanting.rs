//! What the operator wants, as it is stored.

use serde_json::Value;

use super::super::machine::{Input, State};
use super::super::plan::check_config;
use super::{Actor, default_stop};
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};

impl Actor {
    /// Stores what the operator wants before anything happens, so that a crash in between ends
    /// with it done.
    pub(super) async fn accept_enable(&mut self, config: Option<Value>) -> Result<(), Failure> {
        let state = self.machine.state();
        if state == State::Disabling {
            let message =
                format!("{} is being disabled; enable it again when that is done", self.row.id);
            return Err(Failure::new(Code::Conflict, message).with("state", state.name()));
        }
        if let Some(config) = config {
            let config = self.manifest.config.unredacted(config, &self.row.config);
            if !config.is_object() {
                return Err(Failure::new(
                    Code::ConfigInvalid,
                    "the configuration must be an object",
                )
                .with("path", ""));
            }
            let in_use = matches!(state, State::Enabled | State::Enabling(_));
            if in_use && config != self.row.config {
                let message = format!(
                    "{} is {} with another configuration; disable it first",
                    self.row.id,
                    state.name()
                );
                return Err(Failure::new(Code::Conflict, message).with("state", state.name()));
            }
            check_config(&self.manifest, &config)?;
            self.context.store.set_config(self.row.id.clone(), config.clone()).await?;
            self.row.config = config;
        } else {
            check_config(&self.manifest, &self.row.config)?;
        }
        if !matches!(state, State::Enabling(_)) {
            self.wanted = self.row.enabled;
        }
        self.want(true).await
    }

    pub(super) async fn want(&mut self, enabled: bool) -> Result<(), Failure> {
        if self.row.enabled != enabled {
            self.context.store.set_enabled(self.row.id.clone(), enabled).await?;
            self.row.enabled = enabled;
        }
        Ok(())
    }

    /// A plugin that was taken over though the operator had disabled it: the stop that a dead
    /// supervisor had begun is finished.
    pub(super) async fn finish_disable(&mut self) {
        self.stop_asked = Monotonic::now();
        self.stop_options = default_stop(&self.context, &self.manifest, "disable");
        self.step(Input::Disable).await;
    }
}
