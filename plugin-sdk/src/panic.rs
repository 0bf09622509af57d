//! A panic in one handler is that call's error, not the plugin's end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use crate::error::{Error, Result, code};

/// Runs `work`; a panic becomes an error with the code [`code::PANIC`].
///
/// What the handler shares with others (cells, locks) it may leave as it was in the midst of a change: that is what a
/// plugin's author accepts by going on after a panic, and why the panic is also logged as an error.
pub(crate) async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // On the heap, so that a future that panicked is dropped where it stands.
    let mut work: Pin<Box<_>> = Box::pin(work);
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(Err(of_payload(payload.as_ref()))),
        }
    })
    .await
}

/// As [`caught`], for what is not async.
pub(crate) fn caught_now<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| of_payload(payload.as_ref()))
}

fn of_payload(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    Error::new(code::PANIC, format!("the plugin panicked: {text}"))
}
