//! The router's handlers of events, each with a queue and a task of its own.
//!
//! One task per topic keeps its events in order and a slow handler from holding the others up. The task counts as work
//! under way, so a stop, which first closes the queues, waits until they are empty; what is then still not handled is
//! given up, as calls are.

use std::rc::Rc;

use tokio::task::AbortHandle;

use super::Shared;
use crate::context::Context;
use crate::error::code;
use crate::host::{Event, Host, Subscription};
use crate::panic::{caught, caught_now};
use crate::plugin::Plugin;
use crate::router::Router;

/// What there is to hear, and who does.
#[derive(Default)]
pub(super) struct Listening {
    /// Until the plugin is there.
    queues: Vec<(&'static str, Subscription)>,
    tasks: Vec<AbortHandle>,
}

impl Listening {
    pub(super) fn new<P: 'static>(router: &Router<P>, host: &Host) -> Self {
        let queue = |topic| (topic, host.subscribers().add_routed(topic));
        Self { queues: router.topics().map(queue).collect(), tasks: Vec::new() }
    }

    /// Gives up what is not handled yet.
    pub(super) fn end(&mut self) {
        self.queues.clear();
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

/// The plugin is there: it hears what is queued, and what comes.
pub(super) fn begin<P: Plugin>(shared: &Rc<Shared<P>>, plugin: &Rc<P>) {
    let mut listening = shared.listening.borrow_mut();
    for (topic, queue) in std::mem::take(&mut listening.queues) {
        let ticket = shared.pending.begin();
        let work = hear(shared.clone(), plugin.clone(), topic, queue);
        let task = tokio::task::spawn_local(async move {
            let _ticket = ticket;
            work.await;
        });
        listening.tasks.push(task.abort_handle());
    }
}

/// Handles the events of a topic, one after the other, until no more can come.
async fn hear<P: Plugin>(
    shared: Rc<Shared<P>>,
    plugin: Rc<P>,
    topic: &'static str,
    mut queue: Subscription,
) {
    let mut told = 0;
    while let Some(event) = queue.next().await {
        one(&shared, &plugin, topic, event).await;
        let dropped = queue.dropped();
        // At the first loss, and then when it has caught up: not for each event of a flood.
        if dropped > told && (told == 0 || queue.is_empty()) {
            told = dropped;
            let log = shared.host.log().with("topic", topic).with("dropped", dropped);
            log.warn("events were lost: their handler does not keep up");
        }
    }
}

async fn one<P: Plugin>(shared: &Shared<P>, plugin: &Rc<P>, topic: &str, event: Event) {
    let Event { topic: name, payload, trace } = event;
    let context = Context { method: name.clone(), deadline: None, trace, on_behalf_of: None };
    let heard = caught_now(|| shared.router.hear(topic, plugin.clone(), payload, context.clone()));
    let outcome = match heard {
        Ok(Some(work)) => context.scope(caught(work)).await,
        // Its handler is that of the queue which it comes from.
        Ok(None) => return,
        Err(panic) => Err(panic),
    };
    if let Err(error) = outcome {
        let log = shared.host.log().with("topic", name).with("code", error.code());
        match error.code() {
            code::PANIC => log.error(error.message()),
            // Its text would quote the data, which is not for the log.
            code::REQUEST_INVALID => {
                let path = error.details().and_then(|details| details["path"].as_str());
                log.with("path", path.unwrap_or_default())
                    .warn("an event does not fit the type of its handler");
            }
            _ => log.warn(format_args!("an event was not handled: {}", error.message())),
        }
    }
}
