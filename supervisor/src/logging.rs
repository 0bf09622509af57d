//! The service's own log: on standard error, or in systemd's journal with its fields.

use std::io::IsTerminal as _;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::journal::{self, Journal};

mod journalled;
mod streamed;

use journalled::Journalled;
use streamed::Streamed;

/// What is logged: a level or a filter, for example `debug` or `bulkhead=debug,info`.
pub(crate) const FILTER_VARIABLE: &str = "BULKHEAD_LOG";
/// `json` for a line of JSON per record, `text` for one of text. Without it text, or the journal where
/// standard error goes there.
pub(crate) const FORMAT_VARIABLE: &str = "BULKHEAD_LOG_FORMAT";

/// Sets up the log of this process, once. A filter that cannot be read is said and replaced by
/// `info`.
pub(crate) fn init() {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let (filter, fault) = match EnvFilter::builder().parse(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let format = std::env::var(FORMAT_VARIABLE).ok();
    let json = format.as_deref() == Some("json");
    let journald = journal::has_our_output();
    let journal = journald.then(Journal::open).and_then(Result::ok);
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter.clone())
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(Mutex::new(Streamed::new(json)));
    // Whoever called first has set it up: tests in one process.
    let _ = match (format, journal) {
        (None, Some(journal)) => {
            tracing_subscriber::registry().with(filter).with(Journalled::new(journal)).try_init()
        }
        _ if json => base.json().flatten_event(true).finish().try_init(),
        // journald stamps each line itself.
        _ if journald => base.without_time().finish().try_init(),
        _ => base.finish().try_init(),
    };
    if let Some(error) = fault {
        tracing::warn!(%error, "{FILTER_VARIABLE}={text:?} is no filter; logging at level info");
    }
}
