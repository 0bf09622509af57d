//! Telling others what happened, and hearing from them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_ipc_protocol::{CallFailure, EndReason, Payload, TraceContext};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::Host;
use crate::body;
use crate::context::Context;
use crate::error::{Error, Result, code};
use crate::topic::{Topic, hears};

/// Events that wait in one subscription; further ones are dropped and counted.
const QUEUED: usize = 256;

/// Events. Which topics a plugin hears and may publish is in its manifest, `[events]`.
#[derive(Clone, Debug)]
pub struct Events {
    host: Host,
}

/// News on a topic.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is about, as `appointments.changed` or `plugin:disabled`.
    pub topic: String,
    /// Its data.
    pub payload: Payload,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
}

impl Event {
    /// Its data as a value.
    ///
    /// # Errors
    /// [`code::REQUEST_INVALID`] with the path when it does not fit.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        body::decode(code::REQUEST_INVALID, &self.payload)
    }
}

/// A queue of the events on some topics. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The next event; `None` when the plugin stops.
    pub async fn next(&mut self) -> Option<Event> {
        self.queue.recv().await
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many events were lost since the subscription began, because 256 were waiting already.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Events {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Tells whoever listens. Goes out in order, once, to those that listen now.
    ///
    /// # Errors
    /// `SESSION_LOST` while there is no session; `RESOURCE_EXHAUSTED` when the host does not keep up.
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, data: &T) -> Result<()> {
        let payload = Payload::json_bytes(serde_json::to_vec(data)?);
        let no_session = || Error::from(CallFailure::Ended(EndReason::Closed));
        let peer = self.host.link().peer().ok_or_else(no_session)?;
        let trace = Context::current().and_then(|context| context.trace);
        peer.publish_traced(topic, payload, trace).map_err(Error::from)
    }

    /// As [`Events::publish`], on a topic that is a type.
    ///
    /// # Errors
    /// As [`Events::publish`].
    pub fn publish_on<T: Topic>(&self, data: &T::Data) -> Result<()> {
        self.publish(T::NAME, data)
    }

    /// How many events the handler of the topic `T` ([`Router::on_event`](crate::Router::on_event)) has lost, because
    /// 256 were waiting for it already.
    pub fn dropped<T: Topic>(&self) -> u64 {
        self.host.subscribers().dropped(T::NAME)
    }

    /// Listens to a topic, or with a `*` at the end to all topics that begin so.
    pub fn subscribe(&self, topic: &str) -> Subscription {
        self.host.subscribers().add(topic)
    }
}

/// Who listens to what inside this plugin.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(Mutex<Vec<Subscriber>>);

#[derive(Debug)]
struct Subscriber {
    topic: String,
    /// None: it is closed, and is here for its count.
    queue: Option<mpsc::Sender<Event>>,
    dropped: Arc<AtomicU64>,
    /// For a handler of the router, which is there as long as the plugin is.
    routed: bool,
}

impl Subscriber {
    /// Passes the event on if it is for it. False: nobody takes from the queue any more.
    fn deliver(&self, event: &Event) -> bool {
        let Some(queue) = &self.queue else { return true };
        if !hears(&self.topic, &event.topic) {
            return !queue.is_closed();
        }
        match queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }
}

impl Subscribers {
    fn add(&self, topic: &str) -> Subscription {
        self.subscribe(topic, false)
    }

    /// For the router's handler of a topic.
    pub(crate) fn add_routed(&self, topic: &str) -> Subscription {
        self.subscribe(topic, true)
    }

    fn subscribe(&self, topic: &str, routed: bool) -> Subscription {
        let (sender, queue) = mpsc::channel(QUEUED);
        let dropped = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber {
            topic: topic.to_owned(),
            queue: Some(sender),
            dropped: dropped.clone(),
            routed,
        };
        self.lock().push(subscriber);
        Subscription { queue, dropped }
    }

    /// Passes an event on to all that hear its topic.
    pub(crate) fn deliver(&self, event: &Event) {
        self.lock().retain(|subscriber| subscriber.deliver(event) || subscriber.routed);
    }

    fn dropped(&self, topic: &str) -> u64 {
        let subscribers = self.lock();
        let mut routed = subscribers.iter().filter(|one| one.routed && one.topic == topic);
        routed.next().map_or(0, |one| one.dropped.load(Ordering::Relaxed))
    }

    /// Ends the router's subscriptions, once what is queued has been taken.
    pub(crate) fn close_routed(&self) {
        for subscriber in self.lock().iter_mut().filter(|one| one.routed) {
            subscriber.queue = None;
        }
    }

    /// Ends every subscription, once what is queued has been taken.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        // The list is whole between any two operations, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
