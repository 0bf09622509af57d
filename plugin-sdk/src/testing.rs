//! Testing a plugin without a supervisor, without root, and without waiting.
//!
//! [`Harness`] runs the plugin on the real codec, session and serve loop over an in-memory stream; only the host is a
//! stand-in ([`Harness::answer`], [`Running::state`], …). [`paused`] gives it a clock that jumps ahead whenever
//! nothing is left to do, so that a timeout of a minute takes no time.
//!
//! Needs the feature `testing`, best as a dev-dependency:
//! `bulkhead-plugin-sdk = { version = "…", features = ["testing"] }`.

mod harness;
mod manifest;
mod memory_host;
mod running;

use std::time::Duration;

pub use harness::Harness;
pub use memory_host::Published;
pub use running::{Running, Stopped};

/// How long [`until`] waits, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets `time` pass on the paused clock. It takes no real time.
///
/// # Panics
/// When the clock is not paused: a test must not wait for real.
pub async fn pass(time: Duration) {
    // Moving a clock that is not paused panics.
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::sleep(time).await;
}

/// Lets the other tasks work until something is so.
///
/// # Panics
/// When it is not so after a minute on the paused clock; when the clock is not paused.
pub async fn until(so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "not so within {} s", PATIENCE.as_secs());
        pass(Duration::from_millis(1)).await;
    }
}

/// Runs a test on one thread under a paused clock, which moves only when every task waits for it.
///
/// # Panics
/// When the test does, or when the system gives no event loop.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a test needs an event loop: is the limit of open files reached?");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}
