//! What a row says.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::principal::Principal;
use crate::supervise::store::{Kind, NewAuditRow};
use crate::supervise::timestamp;

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
    /// An archive, for good.
    RemoveArchive,
    /// A call of a plugin's method by the host application.
    Call,
    /// An event of the host application for plugins.
    Publish,
    /// A configuration that is replaced.
    Configure,
    /// What a plugin is permitted, changed after its installation.
    SetPermissions,
    /// Somebody, or a plugin, asked for what it may not have.
    Denied,
    /// A plugin's process ended and nobody had asked for that.
    Died,
    /// A plugin that died is started again after a pause.
    Restarting,
    /// A plugin died too often and is left alone for a while.
    Tripped,
    /// A plugin that died is up again.
    Recovered,
    /// Something was done to a trusted key, by hand.
    TrustChanged,
    /// Rows older than the retention were removed.
    Pruned,
    /// The supervisor began to serve.
    ServiceStarted,
    /// The service was told to end.
    ServiceStopping,
}

/// How it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is about to be done; another row has the outcome.
    Begun,
    Done,
    Failed(Code),
    /// Whoever asked went away before it was done.
    Cancelled,
    /// The service died before it was done, or before that was recorded.
    Interrupted,
}

impl Outcome {
    pub(crate) fn of<T>(result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(failure) => Self::Failed(failure.code),
        }
    }
}

/// `begun`, `ok`, `cancelled`, `interrupted`, or the code of the failure.
impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Begun => serializer.serialize_str("begun"),
            Self::Done => serializer.serialize_str("ok"),
            Self::Cancelled => serializer.serialize_str("cancelled"),
            Self::Interrupted => serializer.serialize_str("interrupted"),
            Self::Failed(code) => code.serialize(serializer),
        }
    }
}

/// A row before it has its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) principal: Principal,
    pub(crate) action: Action,
    pub(crate) plugin: Option<PluginId>,
    pub(crate) outcome: Outcome,
    pub(crate) details: Map<String, Value>,
    /// The row that says that it has begun.
    pub(crate) begun: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    time: String,
    principal: &'a Principal,
    action: Action,
    outcome: &'a Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    begun: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: &'a Map<String, Value>,
    salt: &'a str,
}

impl Entry {
    pub(crate) fn new(principal: Principal, action: Action, outcome: Outcome) -> Self {
        Self { principal, action, plugin: None, outcome, details: Map::new(), begun: None }
    }

    /// A plugin was refused an event, to publish it or to hear it.
    pub(crate) fn of_event(plugin: &PluginId, topic: &str) -> Self {
        let outcome = Outcome::Failed(Code::PermissionDenied);
        let refused = Self::new(Principal::plugin(plugin, None), Action::Denied, outcome);
        refused.about(plugin).with("topic", topic)
    }

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

    pub(crate) fn row(self, kind: Kind) -> NewAuditRow {
        let plugin = self.plugin.clone();
        let time = timestamp();
        let content = Box::new(move |salt: &str| {
            let Self { principal, action, outcome, details, begun, .. } = &self;
            let content =
                Content { time, principal, action: *action, outcome, begun: *begun, details, salt };
            serde_json::to_string(&content).expect("strings, numbers and maps with string keys")
        });
        NewAuditRow { kind, plugin, content }
    }
}

/// The row of an operation's end, made of the content of its beginning.
pub(super) fn again(
    mut content: Value,
    plugin: Option<PluginId>,
    kind: Kind,
    outcome: &Outcome,
    begun: u64,
) -> NewAuditRow {
    let time = timestamp();
    if !content.is_object() {
        content = json!({});
    }
    content["time"] = json!(time);
    content["outcome"] = json!(outcome);
    content["begun"] = json!(begun);
    let content = Box::new(move |salt: &str| {
        content["salt"] = json!(salt);
        content.to_string()
    });
    NewAuditRow { kind, plugin, content }
}
