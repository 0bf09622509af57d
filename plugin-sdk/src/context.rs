//! What a call brings along besides its argument.

use bulkhead_ipc_protocol::TraceContext;

use crate::deadline::Deadline;

tokio::task_local! {
    /// The call that the running handler answers.
    static CURRENT: Context;
}

/// The call that a handler answers: until when, for whom, as part of what.
///
/// A call that a handler makes through [`Host::call`](crate::Host::call) inherits all of it, so authors need it
/// only to look at it. When the caller gives up, or the session ends, the handler's future is dropped: work that
/// must be finished all the same goes into [`Host::shielded`](crate::Host::shielded).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The name under which it was called: `book`, or `appointments/book`. For a handler of events: the topic.
    pub method: String,
    /// By when the caller wants the reply. `None`: it waits as long as the session lasts.
    pub deadline: Option<Deadline>,
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The person on whose behalf it is made, for the audit. The host vouches for it.
    pub on_behalf_of: Option<String>,
}

impl Context {
    /// The context of the handler that is running, if one is.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `work` with this as its context.
    pub(crate) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }
}
