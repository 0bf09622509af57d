//! Events of our own as entries of systemd's journal.
//!
//! Not by the crate tracing-journald: it waits where the journal is full, which the launcher must
//! never do, and its messages lack the fields, without which `journalctl` alone says too little.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::journal::{Entry, Journal, Priority};

/// Each event is an entry, its fields as `BULKHEAD_…`. One that the journal does not take goes to
/// standard error.
pub(super) struct Journalled {
    journal: Journal,
}

impl Journalled {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Journalled {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Fields { message, fields } = {
            let mut fields = Fields::default();
            event.record(&mut fields);
            fields
        };
        let mut text = message;
        for (name, value) in &fields {
            if !text.is_empty() {
                text.push(' ');
            }
            // Writing to a String does not fail.
            let _ = write!(text, "{name}={value}");
        }
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Info,
            Level::DEBUG | Level::TRACE => Priority::Debug,
        };
        let mut entry = Entry::new(&text, priority, "bulkhead");
        for (name, value) in &fields {
            entry = entry.with(&format!("BULKHEAD_{}", name.to_uppercase()), value);
        }
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry = entry.with("CODE_FILE", file).with("CODE_LINE", &line.to_string());
        }
        if self.journal.send(&entry).is_err() {
            // With its level, as journald reads it there (sd-daemon(3)).
            eprintln!("<{}>{text}", priority as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::journal::tests::{journal, next};

    #[test]
    fn an_event_is_an_entry_with_its_fields() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, socket) = journal(directory.path());
        let subscriber = tracing_subscriber::registry().with(Journalled::new(journal));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(plugin = %"clinic", attempts = 3, error = ?"a\nb", "not started");
            tracing::info!(event = "plugin:enabled", body = "{}");
        });
        let entry = next(&socket);
        assert_eq!(entry["MESSAGE"], "not started plugin=clinic attempts=3 error=\"a\\nb\"");
        assert_eq!(entry["PRIORITY"], "4");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "bulkhead");
        assert_eq!(entry["BULKHEAD_PLUGIN"], "clinic");
        assert_eq!(entry["BULKHEAD_ATTEMPTS"], "3");
        assert!(entry["CODE_FILE"].ends_with("journalled.rs"), "{entry:?}");
        let entry = next(&socket);
        assert_eq!(entry["MESSAGE"], "event=plugin:enabled body={}");
        assert_eq!((entry["PRIORITY"].as_str(), entry["BULKHEAD_BODY"].as_str()), ("6", "{}"));
    }
}
