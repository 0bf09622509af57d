//! From method names and topics to handlers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;

use bulkhead_ipc_protocol::Payload;
use serde_json::json;

use crate::body;
use crate::context::Context;
use crate::error::{Error, Result, code};
use crate::method::Method;
use crate::streams::Streams;
use crate::topic::{Topic, overlap};

type Reply = Pin<Box<dyn Future<Output = Result<Payload>>>>;
type Erased<P> = Box<dyn Fn(Rc<P>, Arrived) -> Reply>;
type Heard = Pin<Box<dyn Future<Output = Result<()>>>>;
type ErasedListener<P> = Rc<dyn Fn(Rc<P>, Payload, Context) -> Heard>;

/// A call that is to be answered.
pub(crate) struct Arrived {
    pub(crate) payload: Payload,
    pub(crate) context: Context,
    pub(crate) streams: Streams,
}

/// The methods of a plugin, and the events that it hears.
///
/// ```
/// # use bulkhead_plugin_sdk::{Method, Result, Router};
/// struct Double;
/// impl Method for Double {
///     const NAME: &'static str = "double";
///     type Request = u32;
///     type Reply = u32;
/// }
///
/// struct Calculator;
/// impl Calculator {
///     async fn double(&self, number: u32) -> Result<u32> {
///         Ok(number * 2)
///     }
/// }
///
/// let routes = Router::<Calculator>::new().on::<Double>(Calculator::double);
/// assert_eq!(routes.methods().collect::<Vec<_>>(), ["double"]);
/// ```
pub struct Router<P> {
    routes: BTreeMap<&'static str, Erased<P>>,
    listeners: BTreeMap<&'static str, ErasedListener<P>>,
}

/// An async function that answers the method `M`: `async fn(&P, M::Request) -> Result<M::Reply>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer the method `{M}`",
    label = "expected `async fn(&{P}, <{M} as Method>::Request) -> Result<<{M} as Method>::Reply>`",
    note = "to look at the deadline or the acting person as well, use `on_with` and add an argument of type `Context`"
)]
pub trait Handler<P, M: Method>: 'static {
    /// Answers one call.
    fn answer(&self, plugin: &P, request: M::Request) -> impl Future<Output = Result<M::Reply>>;
}

impl<P, M, F> Handler<P, M> for F
where
    M: Method,
    F: AsyncFn(&P, M::Request) -> Result<M::Reply> + 'static,
{
    fn answer(&self, plugin: &P, request: M::Request) -> impl Future<Output = Result<M::Reply>> {
        self(plugin, request)
    }
}

/// An async function that hears the topic `T`: `async fn(&P, T::Data) -> Result<()>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not hear the topic `{T}`",
    label = "expected `async fn(&{P}, <{T} as Topic>::Data) -> Result<()>`",
    note = "to look at the topic or the trace as well, use `on_event_with` and add an argument of type `Context`"
)]
pub trait Listener<P, T: Topic>: 'static {
    /// Hears one event.
    fn hear(&self, plugin: &P, data: T::Data) -> impl Future<Output = Result<()>>;
}

impl<P, T, F> Listener<P, T> for F
where
    T: Topic,
    F: AsyncFn(&P, T::Data) -> Result<()> + 'static,
{
    fn hear(&self, plugin: &P, data: T::Data) -> impl Future<Output = Result<()>> {
        self(plugin, data)
    }
}

impl<P: 'static> Router<P> {
    /// No methods yet.
    pub fn new() -> Self {
        Self { routes: BTreeMap::new(), listeners: BTreeMap::new() }
    }

    /// Answers the method `M` with `handler`.
    ///
    /// # Panics
    /// When the method has a handler already: that is a slip in the program, found at its first start or test.
    pub fn on<M: Method>(self, handler: impl Handler<P, M>) -> Self {
        let handler = Rc::new(handler);
        self.add::<M>(Box::new(move |plugin, call| {
            let handler = handler.clone();
            Box::pin(async move {
                let request = body::decode(code::REQUEST_INVALID, &call.payload)?;
                let reply = handler.answer(&plugin, request).await?;
                body::encode(call.payload.encoding, &reply)
            })
        }))
    }

    /// Answers the method `M` with a handler that also looks at the call's [`Context`].
    ///
    /// # Panics
    /// As [`Router::on`].
    pub fn on_with<M: Method>(
        self,
        handler: impl AsyncFn(&P, M::Request, Context) -> Result<M::Reply> + 'static,
    ) -> Self {
        let handler = Rc::new(handler);
        self.add::<M>(Box::new(move |plugin, call| {
            let handler = handler.clone();
            Box::pin(async move {
                let request = body::decode(code::REQUEST_INVALID, &call.payload)?;
                let reply = handler(&plugin, request, call.context).await?;
                body::encode(call.payload.encoding, &reply)
            })
        }))
    }

    /// Answers the method `M` with a handler that also takes or gives bulk data, which does not fit one message.
    ///
    /// # Panics
    /// As [`Router::on`].
    pub fn on_stream<M: Method>(
        self,
        handler: impl AsyncFn(&P, M::Request, Streams) -> Result<M::Reply> + 'static,
    ) -> Self {
        let handler = Rc::new(handler);
        self.add::<M>(Box::new(move |plugin, call| {
            let handler = handler.clone();
            Box::pin(async move {
                let request = body::decode(code::REQUEST_INVALID, &call.payload)?;
                let reply = handler(&plugin, request, call.streams).await?;
                body::encode(call.payload.encoding, &reply)
            })
        }))
    }

    /// Hears the topic `T` with `handler`, from the end of `init` on. `[events] subscribes` in plugin.toml must have
    /// it too: a start fails with [`code::NOT_SUBSCRIBED`] otherwise.
    ///
    /// Events of a topic are handled in order, one after the other; those of different topics, and calls, at the same
    /// time. Up to 256 wait; further ones are dropped, counted ([`Events::dropped`](crate::Events::dropped)) and logged. An
    /// error or a panic of the handler is logged, and the next event is handled. When the plugin stops, what waits is
    /// handled before `save`, within the budget of the calls in flight.
    ///
    /// ```
    /// # use bulkhead_plugin_sdk::{Result, Router, Topic};
    /// # use std::cell::Cell;
    /// struct Booked;
    /// impl Topic for Booked {
    ///     const NAME: &'static str = "clinic.booked";
    ///     type Data = u32;
    /// }
    ///
    /// struct Counter(Cell<u32>);
    /// impl Counter {
    ///     async fn booked(&self, count: u32) -> Result<()> {
    ///         self.0.set(self.0.get() + count);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let routes = Router::<Counter>::new().on_event::<Booked>(Counter::booked);
    /// assert_eq!(routes.topics().collect::<Vec<_>>(), ["clinic.booked"]);
    /// ```
    ///
    /// # Panics
    /// When the topic has a handler already.
    pub fn on_event<T: Topic>(self, handler: impl Listener<P, T>) -> Self {
        let handler = Rc::new(handler);
        self.add_listener::<T>(Rc::new(move |plugin, payload, _| {
            let handler = handler.clone();
            Box::pin(async move {
                let data = body::decode(code::REQUEST_INVALID, &payload)?;
                handler.hear(&plugin, data).await
            })
        }))
    }

    /// As [`Router::on_event`], with a handler that also looks at the event's [`Context`]: its topic, which is
    /// `method` there, and its trace.
    ///
    /// # Panics
    /// As [`Router::on_event`].
    pub fn on_event_with<T: Topic>(
        self,
        handler: impl AsyncFn(&P, T::Data, Context) -> Result<()> + 'static,
    ) -> Self {
        let handler = Rc::new(handler);
        self.add_listener::<T>(Rc::new(move |plugin, payload, context| {
            let handler = handler.clone();
            Box::pin(async move {
                let data = body::decode(code::REQUEST_INVALID, &payload)?;
                handler(&plugin, data, context).await
            })
        }))
    }

    fn add_listener<T: Topic>(mut self, handler: ErasedListener<P>) -> Self {
        let earlier = self.listeners.insert(T::NAME, handler);
        assert!(earlier.is_none(), "the topic `{}` has two handlers", T::NAME);
        self
    }

    fn add<M: Method>(mut self, handler: Erased<P>) -> Self {
        let earlier = self.routes.insert(M::NAME, handler);
        assert!(earlier.is_none(), "the method `{}` has two handlers", M::NAME);
        self
    }

    /// The names of its methods, sorted.
    pub fn methods(&self) -> impl Iterator<Item = &'static str> {
        self.routes.keys().copied()
    }

    /// The topics that it hears, sorted.
    pub fn topics(&self) -> impl Iterator<Item = &'static str> {
        self.listeners.keys().copied()
    }

    /// Whether each topic that it hears can arrive, given what the manifest subscribes to.
    ///
    /// # Errors
    /// [`code::NOT_SUBSCRIBED`] with the topics that cannot.
    pub(crate) fn check_subscribed(&self, subscribed: &[String]) -> Result<()> {
        let deaf: Vec<_> = self
            .topics()
            .filter(|topic| !subscribed.iter().any(|pattern| overlap(pattern, topic)))
            .collect();
        if deaf.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} would never arrive: there is a handler, but plugin.toml does not subscribe to it; add it to [events] \
             subscribes",
            deaf.join(", ")
        );
        let details = json!({ "topics": deaf, "subscribed": subscribed });
        Err(Error::new(code::NOT_SUBSCRIBED, message).with_details(&details))
    }

    /// The handling of an event on the topic, or of one that the pattern `topic` has let through.
    pub(crate) fn hear(
        &self,
        topic: &str,
        plugin: Rc<P>,
        payload: Payload,
        context: Context,
    ) -> Option<Heard> {
        self.listeners.get(topic).map(|listener| listener(plugin, payload, context))
    }

    /// The reply to a call. The full name is looked up first, then the part after the last `/`.
    pub(crate) fn answer(&self, plugin: Rc<P>, call: Arrived) -> Result<Reply> {
        let method = call.context.method.as_str();
        let plain = method.rsplit('/').next().unwrap_or(method);
        if let Some(handler) = self.routes.get(method).or_else(|| self.routes.get(plain)) {
            return Ok(handler(plugin, call));
        }
        let methods: Vec<_> = self.methods().collect();
        let message = format!("no method `{method}`; there are: {}", methods.join(", "));
        Err(Error::new(code::METHOD_UNKNOWN, message).with_details(&json!({ "methods": methods })))
    }
}

impl<P: 'static> Default for Router<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> std::fmt::Debug for Router<P> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.routes.keys()).entries(self.listeners.keys()).finish()
    }
}
