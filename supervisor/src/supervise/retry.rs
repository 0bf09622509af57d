//! What could not be done is tried again by itself.

use std::time::Duration;

/// The first pause; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tries until it is done, after a first try that was not.
pub(super) async fn with_growing_pauses<F: Future<Output = bool>>(mut is_done: impl FnMut() -> F) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        if is_done().await {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_minute_and_end_with_the_work() {
        let began = Instant::now();
        let mut tried = Vec::new();
        with_growing_pauses(|| {
            tried.push(began.elapsed().as_secs());
            std::future::ready(tried.len() == 9)
        })
        .await;
        assert_eq!(tried, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
        assert_eq!(began.elapsed().as_secs(), 243, "and nothing after it is done");
    }
}
