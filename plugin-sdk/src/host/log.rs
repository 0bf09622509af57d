//! The plugin's log, with levels and fields.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;

use bulkhead_ipc_protocol::{Level, LogRecord, log_line};

use super::Host;

/// Where records go: standard error in a plugin, a list in a test.
#[derive(Clone)]
pub(crate) struct LogSink(Arc<dyn Fn(LogRecord) + Send + Sync>);

impl LogSink {
    pub(crate) fn new(take: impl Fn(LogRecord) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Standard error, one line a record. The host keeps the pipe, whoever reads it: no record is
    /// lost when the supervisor restarts.
    pub(crate) fn standard_error() -> Self {
        Self::new(|record| {
            // If nobody can ever read it there is nobody to tell.
            let _ = std::io::stderr().lock().write_all(&log_line::encode(&record));
        })
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}

/// Writes log records. Fields that are added to it go with every record it writes.
///
/// ```no_run
/// # fn example(host: &bulkhead_plugin_sdk::Host) {
/// host.log().with("patient", 17).with("slot", "10:00").info("booked");
/// # }
/// ```
///
/// A record is one line on standard error, which the host keeps with the log. It is there whether a session is
/// or not, and what was written last before a crash is kept too.
#[derive(Clone, Debug)]
#[must_use = "finish with a level, as in `.info(\"…\")`"]
pub struct Log {
    host: Host,
    target: Option<String>,
    fields: Vec<(String, String)>,
}

impl Log {
    pub(super) fn new(host: Host) -> Self {
        Self { host, target: None, fields: Vec::new() }
    }

    /// With a field. Do not log what is secret, nor more of a person than is needed.
    pub fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    /// Says where in the plugin the records come from; its id if this is not said.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// For following every step.
    pub fn trace(&self, message: impl Display) {
        self.write(Level::Trace, message);
    }

    /// For finding a fault.
    pub fn debug(&self, message: impl Display) {
        self.write(Level::Debug, message);
    }

    /// What an operator may want to know.
    pub fn info(&self, message: impl Display) {
        self.write(Level::Info, message);
    }

    /// What an operator should look at.
    pub fn warn(&self, message: impl Display) {
        self.write(Level::Warn, message);
    }

    /// What went wrong.
    pub fn error(&self, message: impl Display) {
        self.write(Level::Error, message);
    }

    /// A record of any level.
    pub fn write(&self, level: Level, message: impl Display) {
        let target = self.target.clone().unwrap_or_else(|| self.host.plugin_id().to_owned());
        let fields = self.fields.clone();
        let record = LogRecord { level, target, message: message.to_string(), fields };
        (self.host.log_sink().0)(record);
    }
}
