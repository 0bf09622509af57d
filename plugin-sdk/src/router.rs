//! From method names to handlers.

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

type Reply = Pin<Box<dyn Future<Output = Result<Payload>>>>;
type Erased<P> = Box<dyn Fn(Rc<P>, Arrived) -> Reply>;

/// A call that is to be answered.
pub(crate) struct Arrived {
    pub(crate) payload: Payload,
    pub(crate) context: Context,
    pub(crate) streams: Streams,
}

/// The methods of a plugin.
///
/// ```
/// # use bulkhead_plugin_sdk::{Context, Method, Result, Router};
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

impl<P: 'static> Router<P> {
    /// No methods yet.
    pub fn new() -> Self {
        Self { routes: BTreeMap::new() }
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

    fn add<M: Method>(mut self, handler: Erased<P>) -> Self {
        let earlier = self.routes.insert(M::NAME, handler);
        assert!(earlier.is_none(), "the method `{}` has two handlers", M::NAME);
        self
    }

    /// The names of its methods, sorted.
    pub fn methods(&self) -> impl Iterator<Item = &'static str> {
        self.routes.keys().copied()
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
        out.debug_set().entries(self.routes.keys()).finish()
    }
}
