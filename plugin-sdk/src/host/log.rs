//! The plugin's log, with levels and fields.

use std::fmt::Display;

use bulkhead_ipc_protocol::{Level, LogRecord};

use super::Host;

/// Writes log records. Fields that are added to it go with every record it writes.
///
/// ```no_run
/// # fn example(host: &bulkhead_plugin_sdk::Host) {
/// host.log().with("patient", 17).with("slot", "10:00").info("booked");
/// # }
/// ```
///
/// Writing never waits. What the host does not take in time is dropped and counted there. While there is no
/// session, records go to standard error, which is kept with the log.
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
        match self.host.link().peer() {
            Some(peer) => peer.log(record),
            None => eprintln!("{}", line(&record)),
        }
    }
}

fn line(record: &LogRecord) -> String {
    use std::fmt::Write as _;

    let level = format!("{:?}", record.level).to_lowercase();
    let mut line = format!("{level} {}: {}", record.target, record.message);
    for (name, value) in &record.fields {
        write!(line, " {name}={value:?}").expect("writing to a string cannot fail");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_even_if_its_fields_are_not() {
        let record = LogRecord {
            level: Level::Warn,
            target: "clinic".into(),
            message: "two of the same".into(),
            fields: vec![("note".into(), "a\nb".into())],
        };
        assert_eq!(line(&record), "warn clinic: two of the same note=\"a\\nb\"");
    }
}
