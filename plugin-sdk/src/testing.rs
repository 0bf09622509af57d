//! Testing a plugin without a supervisor, without root, and without waiting.
//!
//! [`Harness`] runs the plugin on the real codec, session and serve loop over an in-memory stream; only the host is a
//! stand-in ([`Harness::answer`], [`Running::state`], …). [`paused`] gives it a clock that jumps ahead whenever
//! nothing is left to do, so that a timeout of a minute takes no time.
//!
//! Needs the feature `testing`, best as a dev-dependency:
//! `bulkhead-plugin-sdk = { version = "…", features = ["testing"] }`.

mod harness;
mod memory_host;
mod running;

pub use harness::Harness;
pub use memory_host::Published;
pub use running::{Running, Stopped};

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
