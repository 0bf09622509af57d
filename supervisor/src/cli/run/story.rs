//! What a run shows: for a person, or one JSON object a line.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::exec::say;
use crate::cli::problem::Problem;
use crate::cli::render::{self, Plugin, Screen, Tone};
use crate::id::PluginId;

pub(super) struct Story {
    screen: Screen,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { screen: Screen::stdout(json) }
    }

    /// A plugin runs, and its compartment is measured.
    pub(super) fn enabled(&mut self, reply: &Value) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "enabled", "reply": reply }));
        }
        let plugin: Plugin = serde::Deserialize::deserialize(&reply["plugin"]).unwrap_or_default();
        let id = self.screen.paint(Tone::Strong, &plugin.id);
        let took = reply["startedInMs"].as_f64().unwrap_or_default();
        self.screen.line(&format!("{id} is enabled; it was ready after {took:.1} ms"))?;
        if let Some(enforcement) = &plugin.enforcement {
            render::brief(&mut self.screen, enforcement)?;
        }
        self.screen.flush()
    }

    /// All of them do.
    pub(super) fn ready(&mut self, socket: &Path, ids: &[PluginId]) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "ready", "socket": socket, "plugins": ids }));
        }
        let names: Vec<&str> = ids.iter().map(PluginId::as_str).collect();
        self.screen.line(&format!(
            "ready: {}; call them from another terminal with `bulkhead --socket {} call ID METHOD`, stop with Ctrl-C",
            names.join(", "),
            socket.display()
        ))?;
        self.screen.flush()
    }

    /// A plugin wrote something.
    pub(super) fn record(
        &mut self,
        id: &PluginId,
        record: &Value,
        several: bool,
    ) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "log", "pluginId": id, "record": record }));
        }
        let prefix = if several {
            format!("{} ", self.screen.paint(Tone::Strong, id.as_str()))
        } else {
            String::new()
        };
        render::log(&mut self.screen, &prefix, record)?;
        self.screen.flush()
    }

    /// A plugin died, or what became of it then.
    pub(super) fn death(&mut self, event: &Value) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "event", "event": event }));
        }
        render::death(&mut self.screen, event)?;
        self.screen.flush()
    }

    pub(super) fn disabled(&mut self, reply: &Value) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "disabled", "reply": reply }));
        }
        render::stop(&mut self.screen, reply)?;
        self.screen.flush()
    }

    /// It will be ended with the service.
    pub(super) fn not_disabled(&mut self, id: &PluginId, problem: &Problem) -> io::Result<()> {
        if self.screen.json() {
            return self.line(json!({ "type": "error", "pluginId": id, "error": problem }));
        }
        say(&format!("{id}: {}: {}", problem.code, problem.message));
        Ok(())
    }

    /// A second signal: what still runs is ended with the service.
    pub(super) fn hurried() {
        say("stopping at once");
    }

    fn line(&mut self, value: Value) -> io::Result<()> {
        self.screen.line(&value.to_string())?;
        self.screen.flush()
    }
}
