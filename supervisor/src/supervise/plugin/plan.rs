//! What a start needs to know, put together once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_sandbox::Policy;
use semver::Version;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::manifest::{Manifest, Permission};
use crate::supervise::registry::Grant;
use crate::supervise::store::PluginRow;

/// Everything that a start, and a session, goes by.
#[derive(Clone)]
pub(crate) struct StartPlan {
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    pub(crate) manifest: Arc<Manifest>,
    /// The operator's configuration over the manifest's defaults.
    pub(crate) config: Value,
    /// What was granted, which can be less than the manifest asks for.
    pub(crate) permissions: Vec<Permission>,
    pub(crate) granted: Arc<Grant>,
    pub(crate) policy: Policy,
    pub(crate) timeouts: Timeouts,
}

/// Without the configuration, which can have secrets.
impl fmt::Debug for StartPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StartPlan");
        shown.field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

impl StartPlan {
    pub(crate) fn new(row: &PluginRow, manifest: &Arc<Manifest>, strict: bool) -> Self {
        let defaults = Value::Object(manifest.config.defaults.clone());
        let init = manifest.lifecycle.init_timeout.duration();
        let granted = granted(row, manifest);
        Self {
            id: row.id.clone(),
            version: row.version.clone(),
            digest: row.digest,
            manifest: Arc::clone(manifest),
            config: merge(&defaults, &row.config),
            policy: granted.policy(manifest, strict),
            permissions: granted.permissions.clone(),
            granted: Arc::new(granted),
            timeouts: Timeouts {
                handshake: HANDSHAKE.min(init),
                init,
                health: manifest.lifecycle.health_timeout.duration(),
            },
        }
    }
}

/// What the operator lets the plugin do.
pub(crate) fn granted(row: &PluginRow, manifest: &Manifest) -> Grant {
    row.granted.clone().unwrap_or_else(|| Grant::all(manifest))
}

/// How long a process may take to say hello, where its whole start may take longer.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long each stage of a start may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) init: Duration,
    pub(crate) health: Duration,
}

/// Whether an operator's configuration, laid over the defaults, fits the manifest's schema.
pub(crate) fn check_config(manifest: &Manifest, given: &Value) -> Result<(), Failure> {
    let defaults = Value::Object(manifest.config.defaults.clone());
    manifest.config.check(&merge(&defaults, given))
}

/// The operator's values over the defaults, objects merged key by key.
pub(crate) fn merge(defaults: &Value, given: &Value) -> Value {
    match (defaults, given) {
        (Value::Object(defaults), Value::Object(given)) => {
            let mut merged: Map<String, Value> = defaults.clone();
            for (key, value) in given {
                let value = match defaults.get(key) {
                    Some(default) => merge(default, value),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (_, given) => given.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Code;
    use crate::nesting::{DEEPEST, nested};

    #[test]
    fn a_configuration_is_no_deeper_than_the_journal_can_be_read() {
        let text = b"id = \"a\"\nversion = \"1.0.0\"\n";
        let manifest = Manifest::parse(text, "plugin.toml".as_ref()).unwrap();
        let read = |config| {
            let plan = json!({ "from": { "config": config }, "to": { "config": config } });
            plan.to_string().parse::<Value>()
        };
        let deepest = nested(DEEPEST);
        assert_eq!(check_config(&manifest, &deepest), Ok(()));
        assert_eq!(read(&deepest).unwrap()["from"]["config"], deepest);
        // A request can have it, and whoever starts after a death could not read what was under way.
        let deeper = nested(127);
        assert_eq!(deeper.to_string().parse::<Value>().unwrap(), deeper, "the control");
        assert!(read(&deeper).is_err(), "the control");
        let failure = check_config(&manifest, &deeper).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.message.contains("100 levels"), "{failure}");
    }

    #[test]
    fn what_is_given_wins_key_by_key() {
        let defaults = json!({"a": 1, "hours": {"start": "09:00", "end": "17:00"}, "list": [1, 2]});
        let given = json!({"hours": {"end": "18:00"}, "list": [3], "new": null});
        assert_eq!(
            merge(&defaults, &given),
            json!({"a": 1, "hours": {"start": "09:00", "end": "18:00"}, "list": [3], "new": null})
        );
    }
}
