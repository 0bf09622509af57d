//! Events for plugins: from each other, from the host application, and of the service itself.
//!
//! Theory of operation. An event goes at once into the session of each enabled plugin whose manifest
//! subscribes to its topic, or it is lost for that plugin: a session's queue is bounded, so a slow
//! subscriber holds nobody up, and its losses are counted. There is no table of subscriptions: the
//! manifest and the state of the plugin are it, so nothing outlives a disable. Topics that begin with
//! `plugin:` are the service's own word; nobody else can send one.

use std::sync::Arc;

use bulkhead_ipc_protocol::{Payload, TraceContext};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use super::Registry;
use super::losses::Loss;
use super::permitting::remedy;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::{Permission, TopicPattern};
use crate::refusal::{Barrier, quoted};
use crate::supervise::audit::Entry;
use crate::supervise::plugin::{PluginHandle, StartPlan};
use crate::supervise::store::Recorded;

/// What the service says itself.
const RESERVED: &str = "plugin:";
/// The longest topic; a manifest can name no longer one.
const MAX_TOPIC: usize = 128;

/// What became of an event of the host application.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delivery {
    /// The plugins that it was sent to.
    #[schema(value_type = Vec<String>)]
    pub(crate) delivered: Vec<PluginId>,
    /// Those that were to have it and do not.
    pub(crate) missed: Vec<Miss>,
}

/// A plugin that does not have an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Miss {
    #[schema(value_type = String)]
    pub(crate) id: PluginId,
    /// `not-subscribed`, `busy` (its queue is full), or the state in which it is.
    pub(crate) reason: &'static str,
}

impl Registry {
    /// Gives an event of a plugin to every other one that is enabled and subscribes to its topic.
    pub(crate) fn publish(
        &self,
        publisher: &StartPlan,
        topic: &str,
        payload: &Payload,
        trace: Option<TraceContext>,
    ) {
        let mut allowed = publisher.manifest.events.publishes.iter();
        if topic.starts_with(RESERVED) || !allowed.any(|pattern| pattern.matches(topic)) {
            tracing::debug!(plugin = %publisher.id, topic, "may not publish this");
            let shown = topic.chars().take(MAX_TOPIC).collect::<String>();
            let remedy = would_allow(topic);
            self.losses.count(
                &self.events,
                &publisher.id,
                Loss::Refused,
                &shown,
                1,
                remedy.clone(),
            );
            let entry = Entry::of_event(&publisher.id, &shown).with("layer", Barrier::GRANT);
            self.note_refusal(entry.with("remedy", remedy));
            return;
        }
        for handle in self.all() {
            if handle.manifest.id == publisher.id || !subscribes(&handle, topic) {
                continue;
            }
            let mut needed = publisher.manifest.events.needed(topic);
            match needed.find(|permission| !handle.may(permission)) {
                None => drop(self.deliver(&handle, topic, payload, trace)),
                Some(permission) => self.withhold(&handle, publisher, topic, permission),
            }
        }
    }

    /// A plugin subscribes to what it may not hear.
    fn withhold(
        &self,
        subscriber: &PluginHandle,
        publisher: &StartPlan,
        topic: &str,
        permission: &Permission,
    ) {
        // What does not run would not have heard it anyway.
        if subscriber.peer_now().is_none() {
            return;
        }
        let id = &subscriber.manifest.id;
        tracing::debug!(plugin = %id, topic, %permission, "may not hear this");
        let remedy = remedy(&subscriber.manifest, permission);
        self.losses.count(&self.events, id, Loss::Withheld, topic, 1, Some(remedy.clone()));
        self.note_refusal(
            Entry::of_event(id, topic)
                .with("publisher", &publisher.id)
                .with("permission", permission)
                .with("layer", Barrier::GRANT)
                .with("remedy", remedy),
        );
    }

    /// Writes a refusal down beside what goes on: an event waits for nothing.
    fn note_refusal(&self, entry: Entry) {
        if let Some(entry) = self.audit.admit_refusal(entry) {
            let audit = self.audit.clone();
            tokio::spawn(async move { audit.record_refusal(entry).await });
        }
    }

    /// Gives an event of the host application to those that subscribe to its topic, or to some of
    /// them only.
    pub(crate) fn announce(
        &self,
        topic: &str,
        payload: &Payload,
        trace: Option<TraceContext>,
        only: Option<&[PluginId]>,
    ) -> Result<Delivery, Failure> {
        check_topic(topic)?;
        let handles = match only {
            None => self.all().into_iter().filter(|handle| subscribes(handle, topic)).collect(),
            Some(ids) => ids.iter().map(|id| self.get(id)).collect::<Result<Vec<_>, _>>()?,
        };
        let mut delivery = Delivery::default();
        for handle in handles {
            let id = handle.manifest.id.clone();
            let sent = if subscribes(&handle, topic) {
                self.deliver(&handle, topic, payload, trace)
            } else {
                Err("not-subscribed")
            };
            match sent {
                Ok(()) => delivery.delivered.push(id),
                Err(reason) => delivery.missed.push(Miss { id, reason }),
            }
        }
        Ok(delivery)
    }

    fn deliver(
        &self,
        handle: &PluginHandle,
        topic: &str,
        payload: &Payload,
        trace: Option<TraceContext>,
    ) -> Result<(), &'static str> {
        let id = &handle.manifest.id;
        let peer = handle.peer_now().ok_or_else(|| handle.view().state)?;
        peer.publish_traced(topic, payload.clone(), trace).map_err(|failure| {
            tracing::debug!(plugin = %id, topic, %failure, "event missed");
            // The warning of a loss must not be a loss to warn of.
            if topic != "plugin:warning" {
                self.losses.count(&self.events, id, Loss::Missed, topic, 1, None);
            }
            "busy"
        })
    }

    /// Passes the service's own events on to the plugins that subscribe to them, for as long as the
    /// supervisor lives.
    pub(crate) async fn pass_events_on(self: Arc<Self>) {
        let mut live = self.events.listen();
        loop {
            match live.recv().await {
                Ok(recorded) => self.pass_on(&recorded),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "events for plugins are lost");
                    for handle in self.all().iter().filter(|handle| handle.peer_now().is_some()) {
                        let mut wanted = handle.manifest.events.subscribes.iter();
                        if wanted.any(|pattern| pattern.begins_like(RESERVED)) {
                            let id = &handle.manifest.id;
                            let losses = &self.losses;
                            losses.count(&self.events, id, Loss::Missed, RESERVED, missed, None);
                        }
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn pass_on(&self, recorded: &Recorded) {
        for handle in self.all() {
            if !subscribes(&handle, &recorded.name) {
                continue;
            }
            let own = recorded.plugin.as_ref() == Some(&handle.manifest.id);
            let payload = Payload::json_bytes(as_shown(recorded, own).to_string());
            let _ = self.deliver(&handle, &recorded.name, &payload, None);
        }
    }
}

fn subscribes(handle: &PluginHandle, topic: &str) -> bool {
    handle.manifest.events.subscribes.iter().any(|pattern| pattern.matches(topic))
}

/// The line of a manifest by which a plugin may publish that. None: nobody but the service may, or it
/// is no topic.
fn would_allow(topic: &str) -> Option<String> {
    let topic = TopicPattern::try_from(topic.to_owned()).ok()?.to_string();
    let can_be_published = !topic.starts_with(RESERVED) && !topic.ends_with('*');
    can_be_published.then(|| format!("[events] publishes = [{}]", quoted(&topic)))
}

/// An event as a plugin is shown it. Of others' errors, warnings and denials it sees no text, and of details
/// only the service's own: what those wrote can be in them.
fn as_shown(recorded: &Recorded, own: bool) -> Value {
    let mut shown = recorded.body.clone();
    if let Value::Object(body) = &mut shown {
        if !own {
            if let Some(error) = body.get_mut("error") {
                *error = json!({ "code": error["code"] });
            }
            body.remove("stop");
            body.remove("message");
            if body.get("code") == Some(&json!(Code::PermissionDenied)) {
                body.retain(|key, _| key == "code");
            }
        }
        body.insert("time".to_owned(), json!(recorded.time));
        body.insert("pluginId".to_owned(), json!(recorded.plugin));
    }
    shown
}

fn check_topic(topic: &str) -> Result<(), Failure> {
    let fault = if topic.starts_with(RESERVED) {
        "topics that begin with plugin: are the service's own"
    } else if topic.is_empty()
        || topic.len() > MAX_TOPIC
        || !topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    {
        "use 1 to 128 letters, digits, '-', '_', '.' and ':', for example appointments.opened"
    } else {
        return Ok(());
    };
    Err(Failure::new(Code::InvalidRequest, format!("name: {topic:?} cannot be sent: {fault}"))
        .with("name", topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_topics_are_reserved() {
        for good in ["appointments.opened", "a", "user:clicked_save-1", &"x".repeat(128)] {
            assert_eq!(check_topic(good), Ok(()), "{good:?}");
        }
        for bad in ["", "plugin:enabled", "a b", "a*", "ä", &"x".repeat(129)] {
            let failure = check_topic(bad).unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest, "{bad:?}");
        }
    }

    #[test]
    fn a_plugin_sees_the_code_of_others_errors_and_all_of_its_own() {
        let recorded = Recorded {
            sequence: 7,
            time: "2026-03-09T10:00:00.000Z".to_owned(),
            name: "plugin:error".to_owned(),
            plugin: Some("victim".parse().unwrap()),
            body: json!({ "error": { "code": "PLUGIN_DIED", "message": "of patient 17" } }),
        };
        assert_eq!(
            as_shown(&recorded, false),
            json!({
                "error": { "code": "PLUGIN_DIED" },
                "pluginId": "victim",
                "time": "2026-03-09T10:00:00.000Z",
            })
        );
        assert_eq!(as_shown(&recorded, true)["error"]["message"], "of patient 17");
        let body =
            json!({ "code": "PERMISSION_DENIED", "path": "/srv/patient 17", "message": "of it" });
        let denied = Recorded { name: "plugin:warning".to_owned(), body, ..recorded };
        assert_eq!(
            as_shown(&denied, false),
            json!({
                "code": "PERMISSION_DENIED",
                "pluginId": "victim",
                "time": "2026-03-09T10:00:00.000Z",
            })
        );
        assert_eq!(as_shown(&denied, true)["path"], "/srv/patient 17");
        // It quotes what the plugin says of its health.
        let body = json!({ "code": "HEALTH_CHECK_FAILED", "message": "of patient 17" });
        let unwell = Recorded { body, ..denied };
        assert_eq!(as_shown(&unwell, false).get("message"), None);
        assert_eq!(as_shown(&unwell, false)["code"], "HEALTH_CHECK_FAILED");
    }

    #[test]
    fn the_line_that_would_allow_a_topic_is_one_of_the_manifest() {
        let line = would_allow("clinic.opened").unwrap();
        assert_eq!(line, "[events] publishes = [\"clinic.opened\"]");
        let text = line.replace("[events] ", "");
        let events: crate::manifest::Events = toml::from_str(&text).unwrap();
        assert!(events.publishes[0].matches("clinic.opened"));
        for nobodys in ["plugin:enabled", "a b", "a\"b", "a*", ""] {
            assert_eq!(would_allow(nobodys), None, "{nobodys:?}");
        }
    }
}
