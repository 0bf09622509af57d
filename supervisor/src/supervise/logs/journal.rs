//! A plugin's records as entries of systemd's journal.

use super::{Level, Record};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::journal::{Entry, Journal, Priority};

/// The journal, for the records of one plugin.
pub(crate) struct Journalled {
    journal: Arc<Journal>,
    plugin: String,
}

impl Journalled {
    pub(crate) fn new(journal: Arc<Journal>, plugin: &str) -> Self {
        Self { journal, plugin: plugin.to_owned() }
    }

    /// Whether the journal took it. A field that the plugin named is part of the message: the journal
    /// keeps each name for ever, and there would be no end of them.
    pub(super) fn send(&self, record: &Record, version: &str) -> bool {
        let mut message = record.message.clone();
        for (name, value) in &record.fields {
            // A String takes all that is written to it.
            let _ = write!(message, " {name}={value:?}");
        }
        let priority = match record.level {
            Level::Error => Priority::Error,
            Level::Warn => Priority::Warning,
            Level::Info => Priority::Info,
            Level::Debug | Level::Trace => Priority::Debug,
        };
        let mut entry = Entry::new(&message, priority, &format!("bulkhead/{}", self.plugin))
            .with("BULKHEAD_PLUGIN", &self.plugin)
            .with("BULKHEAD_VERSION", version)
            .with("BULKHEAD_STREAM", record.stream.name())
            .with("BULKHEAD_GENERATION", &record.generation.to_string())
            .with("BULKHEAD_SEQUENCE", &record.sequence.to_string());
        if let Some(target) = &record.target {
            entry = entry.with("BULKHEAD_TARGET", target);
        }
        self.journal.send(&entry).is_ok()
    }
}
