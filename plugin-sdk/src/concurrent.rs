//! Several awaits at a time, in one task and with a bound.

use std::pin::Pin;
use std::task::Poll;

/// Awaits `start` for each item, at most `lanes` at a time, and returns the results in the items' order.
///
/// After the first error nothing more is started, and what is in flight is dropped. Every wake-up looks at each of
/// the lanes; they are few. Staying in the caller's task keeps its context, which a spawned task would lose.
pub(crate) async fn each<I, F, O, T, E>(items: I, lanes: usize, mut start: F) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> O,
    O: Future<Output = Result<T, E>>,
{
    let mut items = items.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<O>>)> = Vec::with_capacity(lanes);
    let mut done: Vec<(usize, T)> = Vec::new();
    std::future::poll_fn(|context| {
        loop {
            while running.len() < lanes {
                let Some((nth, item)) = items.next() else { break };
                running.push((nth, Box::pin(start(item))));
            }
            if running.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut at = 0;
            let before = done.len();
            while at < running.len() {
                match running[at].1.as_mut().poll(context) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(value)) => done.push((running.swap_remove(at).0, value)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            if done.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await?;
    done.sort_unstable_by_key(|(nth, _)| *nth);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_order_and_the_bound() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let (now, most) = (&now, &most);
        let started = tokio::time::Instant::now();
        let doubled = each(0..10_u64, 3, |item| async move {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::time::sleep(Duration::from_secs(10 - item)).await;
            now.set(now.get() - 1);
            Ok::<_, ()>(item * 2)
        })
        .await;
        assert_eq!(doubled.unwrap(), (0..10).map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
        assert!(started.elapsed() < Duration::from_secs(55), "they did run at the same time");
    }

    #[tokio::test]
    async fn stops_at_the_first_error() {
        let started = Cell::new(0);
        let started = &started;
        let failed = each(0..10, 1, |item| async move {
            started.set(started.get() + 1);
            if item == 2 { Err("two") } else { Ok(()) }
        })
        .await;
        assert_eq!((failed, started.get()), (Err("two"), 3));
    }
}
