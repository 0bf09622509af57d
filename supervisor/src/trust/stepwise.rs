//! Work that is written as one sequence and done a piece at a time.
//!
//! A verifier that borrows its key and its signature cannot be kept in a struct beside them, but it
//! can live in a future. Nobody wakes this one: it is ready whenever it is asked.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A sequence of pieces with a result at its end.
pub(crate) struct Stepwise<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Stepwise<T> {
    pub(crate) fn new(sequence: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(sequence))
    }

    /// Does one piece: up to the next [`pause`]. The result at the end, after which there is nothing
    /// left to ask for.
    pub(crate) fn step(&mut self) -> Option<T> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Does all of it.
    pub(crate) fn finish(mut self) -> T {
        loop {
            if let Some(result) = self.step() {
                return result;
            }
        }
    }
}

/// Ends a piece.
pub(super) async fn pause() {
    let mut paused = false;
    poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_ends_a_piece() {
        let sequence = || {
            Stepwise::new(async {
                let word = "kept".to_owned();
                let borrowed = word.as_str();
                pause().await;
                pause().await;
                borrowed.len()
            })
        };
        let mut pieces = sequence();
        assert_eq!([pieces.step(), pieces.step(), pieces.step()], [None, None, Some(4)]);
        assert_eq!(sequence().finish(), 4);
    }
}
