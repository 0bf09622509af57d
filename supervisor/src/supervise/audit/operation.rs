//! One operation, from its request to its record.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::id::PluginId;
use crate::supervise::principal::Principal;
use crate::supervise::registry::Registry;

/// What is done. Others rely on the names: one is never renamed, only added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Install,
    Uninstall,
    Upgrade,
    Rollback,
    Enable,
    Disable,
    /// An event of the host application for plugins.
    Publish,
    /// A configuration that is replaced.
    Configure,
}

/// An operation that somebody asks for.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    principal: Principal,
    action: Action,
    plugin: Option<PluginId>,
    details: Map<String, Value>,
}

impl Operation {
    pub(crate) fn new(principal: Principal, action: Action) -> Self {
        Self { principal, action, plugin: None, details: Map::new() }
    }

    /// The plugin that it is about, where that is known beforehand.
    pub(crate) fn about(mut self, plugin: &PluginId) -> Self {
        self.plugin = Some(plugin.clone());
        self
    }

    /// Adds a detail: never a payload, a value of a configuration, or a secret.
    pub(crate) fn with(mut self, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.details.insert(key.to_owned(), value);
        self
    }

    /// Carries it out, to its end even if the client that asked for it goes away meanwhile.
    pub(crate) async fn run<T, F>(
        self,
        registry: &Arc<Registry>,
        work: impl FnOnce(Arc<Registry>, Principal) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let work = work(Arc::clone(registry), self.principal.clone());
        let task = tokio::spawn(async move {
            let result = work.await;
            self.record(result.as_ref().err());
            result
        });
        task.await
            .unwrap_or_else(|error| Err(Failure::internal(format!("an operation ended: {error}"))))
    }

    fn record(&self, failure: Option<&Failure>) {
        let details = Value::Object(self.details.clone());
        tracing::info!(
            action = ?self.action,
            plugin = self.plugin.as_ref().map(PluginId::as_str),
            principal = %self.principal,
            %details,
            outcome = failure.map_or_else(|| "ok".to_owned(), |failure| failure.code.to_string()),
            "operation"
        );
    }
}
