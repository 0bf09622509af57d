//! The service's own log, on standard error, where journald or a container's runtime reads it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::Uptime;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged: a level or a filter, for example `debug` or `bulkhead=debug,info`.
pub(crate) const FILTER_VARIABLE: &str = "BULKHEAD_LOG";
/// `json` for a line of JSON per record; text otherwise.
pub(crate) const FORMAT_VARIABLE: &str = "BULKHEAD_LOG_FORMAT";

/// Sets up the log of this process, once. A filter that cannot be read is said and replaced by
/// `info`.
pub(crate) fn init() {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let (filter, fault) = match EnvFilter::builder().parse(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let json = std::env::var(FORMAT_VARIABLE).is_ok_and(|format| format == "json");
    // Whoever called first has set it up: tests in one process.
    let _ = if json {
        base.json().flatten_event(true).finish().try_init()
    } else if std::env::var_os("JOURNAL_STREAM").is_some() {
        // journald stamps each line itself.
        base.without_time().finish().try_init()
    } else {
        base.with_timer(Uptime::default()).finish().try_init()
    };
    if let Some(error) = fault {
        tracing::warn!(%error, "{FILTER_VARIABLE}={text:?} is no filter; logging at level info");
    }
}
