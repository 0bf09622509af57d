//! The trait that a plugin implements.

use serde::de::DeserializeOwned;

use crate::about::About;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::host::Host;
use crate::reason::Reason;
use crate::router::Router;

/// When a new configuration is in force; see [`Plugin::configure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// From now on.
    Now,
    /// Once the plugin was disabled and enabled again.
    AtRestart,
}

/// A plugin: its lifecycle, and the methods it answers.
///
/// It lives on one thread, so it may keep what it knows in a `RefCell` or `Cell`; handlers run concurrently but
/// never in parallel. Do not hold a borrow across an `.await`.
///
/// The order is: [`init`](Plugin::init) once; then handlers and [`health`](Plugin::health), as calls come; then,
/// when asked to stop, no new calls, the calls in flight are finished, [`save`](Plugin::save),
/// [`shutdown`](Plugin::shutdown), and the process ends. A restart of the supervisor is not seen here: the process
/// lives on, and so does the value that `init` made.
#[allow(async_fn_in_trait)] // Plugins run on a single thread: their futures need not be Send.
pub trait Plugin: Sized + 'static {
    /// Who it is: `const ABOUT: About = about!();`
    const ABOUT: About;

    /// Its configuration. Use `#[serde(deny_unknown_fields)]`, so that a slip in a name is told, and `()` for none.
    type Config: DeserializeOwned;

    /// The methods that it answers.
    fn routes() -> Router<Self>;

    /// Makes the plugin: check the configuration, load saved state, start background tasks.
    ///
    /// # Errors
    /// Any error fails the start, and its code and text are what the operator sees. Name the field that is wrong.
    async fn init(config: Self::Config, host: Host) -> Result<Self>;

    /// Takes another configuration while it runs. The one before stays in force unless this answers
    /// [`Configured::Now`].
    ///
    /// # Errors
    /// An error refuses the configuration: it is not kept, and its code and text are what the operator sees.
    async fn configure(&self, config: Self::Config) -> Result<Configured> {
        drop(config);
        Ok(Configured::AtRestart)
    }

    /// Writes what is not yet in the host's state. Called once at the end, unless the operator disabled the plugin
    /// without saving.
    ///
    /// # Errors
    /// An error is reported, and the plugin exits with code 1 after `shutdown`.
    async fn save(&self) -> Result<()> {
        Ok(())
    }

    /// Ends background work and closes what is open. What is not done at `by` is killed.
    ///
    /// # Errors
    /// An error is reported, and the plugin exits with code 1.
    async fn shutdown(&self, why: Reason, by: Deadline) -> Result<()> {
        let _ = (why, by);
        Ok(())
    }

    /// Whether it can do its work. Asked at the start and then every health interval of the manifest.
    ///
    /// # Errors
    /// An error, or no answer in time, counts as unhealthy.
    async fn health(&self) -> Result<()> {
        Ok(())
    }
}
