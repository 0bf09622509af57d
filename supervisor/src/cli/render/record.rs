//! Events, log lines, and entries of a plugin's state.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::table::{Cell, table};
use super::{Screen, Tone, measure};
use crate::cli::problem::{beside, printable};

/// `sequence time name plugin rest`, the rest as JSON.
pub(in crate::cli) fn event<W: Write>(screen: &mut Screen<W>, data: &Value) -> io::Result<()> {
    let mut rest: Map<String, Value> = data.as_object().cloned().unwrap_or_default();
    let mut take = |key: &str| match rest.remove(key) {
        Some(Value::String(text)) => printable(&text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let (sequence, time) = (take("sequence"), take("time"));
    let (name, plugin) = (take("event"), take("pluginId"));
    let tone = match name.as_str() {
        "plugin:error" | "plugin:tripped" => Tone::Bad,
        "plugin:warning" | "plugin:restarting" | "plugin:rolledback" => Tone::Doubtful,
        "plugin:enabled" | "plugin:installed" | "plugin:recovered" => Tone::Good,
        _ => Tone::Plain,
    };
    let rest =
        if rest.is_empty() { String::new() } else { printable(&Value::Object(rest).to_string()) };
    let (sequence, time) = (screen.paint(Tone::Faint, &sequence), screen.paint(Tone::Faint, &time));
    let name = screen.paint(tone, &name);
    let line = format!("{sequence} {time} {name} {plugin} {rest}");
    screen.line(line.trim_end())
}

/// An event for whoever watches a run: an error is told in words, with its details beneath it.
pub(in crate::cli) fn death<W: Write>(screen: &mut Screen<W>, data: &Value) -> io::Result<()> {
    let error = &data["error"];
    let (Some(message), Some(details)) = (error["message"].as_str(), error["details"].as_object())
    else {
        return event(screen, data);
    };
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let time = screen.paint(Tone::Faint, &text(&data["time"]));
    let name = screen.paint(Tone::Bad, &text(&data["event"]));
    let (plugin, code) = (text(&data["pluginId"]), text(&error["code"]));
    screen.line(&format!("{time} {name} {plugin} {code}: {}", printable(message)))?;
    for line in beside(message, details) {
        screen.line(&format!("  {line}"))?;
    }
    Ok(())
}

/// `sequence time outcome action plugin principal details`, the details as JSON.
pub(in crate::cli) fn audit<W: Write>(screen: &mut Screen<W>, row: &Value) -> io::Result<()> {
    let text = |value: &Value| match value {
        Value::String(text) => printable(text),
        Value::Null => "-".to_owned(),
        other => printable(&other.to_string()),
    };
    let sequence = screen.paint(Tone::Faint, &text(&row["sequence"]));
    let plugin = text(&row["pluginId"]);
    if row["removed"] == true {
        let gone = screen.paint(Tone::Faint, "removed when it was uninstalled");
        return screen.line(&format!("{sequence} {plugin} {gone}"));
    }
    let outcome = text(&row["outcome"]);
    let tone = match outcome.as_str() {
        "ok" => Tone::Good,
        "begun" => Tone::Faint,
        "cancelled" | "interrupted" => Tone::Doubtful,
        _ => Tone::Bad,
    };
    let who = &row["principal"];
    let mut principal = match &who["name"] {
        Value::Null => format!("uid {}", who["uid"]),
        name => text(name),
    };
    if !who["onBehalfOf"].is_null() {
        principal = format!("{principal} for {}", text(&who["onBehalfOf"]));
    }
    let details = if row["details"].is_null() { String::new() } else { text(&row["details"]) };
    let time = screen.paint(Tone::Faint, &text(&row["time"]));
    let outcome = screen.paint(tone, &outcome);
    let action = text(&row["action"]);
    let line = format!("{sequence} {time} {outcome} {action} {plugin} ({principal}) {details}");
    screen.line(line.trim_end())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    time: String,
    stream: String,
    level: String,
    message: String,
    fields: Vec<(String, String)>,
    missed: Option<u64>,
}

/// `time level message key=value`. `prefix` tells plugins apart where several are shown.
pub(in crate::cli) fn log<W: Write>(
    screen: &mut Screen<W>,
    prefix: &str,
    data: &Value,
) -> io::Result<()> {
    let record = Record::deserialize(data).unwrap_or_default();
    if record.missed.is_some() {
        let text = format!("{prefix}… {}", record.message);
        return screen.line(&screen.paint(Tone::Doubtful, &text));
    }
    // What it prints to standard output has no level but one that stands before the line.
    let level = match (record.stream.as_str(), record.level.as_str()) {
        ("stdout", "info") => "stdout",
        (_, level) => level,
    };
    let tone = match level {
        "error" => Tone::Bad,
        "warn" => Tone::Doubtful,
        "trace" | "debug" => Tone::Faint,
        _ => Tone::Plain,
    };
    let time = screen.paint(Tone::Faint, &printable(&record.time));
    let level = screen.paint(tone, &format!("{:<6}", printable(level)));
    let mut line = format!("{prefix}{time} {level} {}", printable(&record.message));
    for (key, value) in &record.fields {
        line = format!("{line} {}={:?}", printable(key), printable(value));
    }
    screen.line(line.trim_end())
}

/// A row for each entry that a plugin keeps.
pub(in crate::cli) fn state<W: Write>(screen: &mut Screen<W>, reply: &Value) -> io::Result<()> {
    let terminal = screen.terminal();
    let row = |entry: &Value| -> Vec<Cell> {
        let key = entry["key"].as_str().unwrap_or_default().to_owned();
        let length = entry["bytes"].as_u64().unwrap_or_default();
        let length = if terminal { measure::bytes(length) } else { length.to_string() };
        let value =
            if entry["value"].is_null() { "-".to_owned() } else { entry["value"].to_string() };
        let value = if terminal { shorten(&value) } else { value };
        vec![
            (key, Tone::Strong),
            (entry["version"].to_string(), Tone::Plain),
            (length, Tone::Plain),
            (value, Tone::Faint),
        ]
    };
    let entries = reply["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<Cell>> = entries.iter().map(row).collect();
    table(screen, &["KEY", "VERSION", "SIZE", "VALUE"], &rows)
}

/// What fits beside the other columns; `--json` has the whole.
fn shorten(text: &str) -> String {
    const WIDTH: usize = 60;
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut screen = Screen::of_test(true);
        let data = json!({"sequence": 7, "time": "t", "event": "plugin:enabled", "pluginId": "a", "startedInMs": 1.5});
        event(&mut screen, &data).unwrap();
        assert_eq!(screen.text(), "7 t plugin:enabled a {\"startedInMs\":1.5}\n");
    }

    #[test]
    fn a_death_is_told_in_words_and_what_has_no_error_as_an_event() {
        let mut screen = Screen::of_test(true);
        let data = json!({"sequence": 7, "time": "t", "event": "plugin:error", "pluginId": "a",
            "error": {"code": "PLUGIN_DIED", "message": "the plugin died: exit code 1", "details": {
                "exit": {"cause": {"code": 1}}, "explanation": "exit code 1",
                "lastLogLines": ["the end\u{1b}"]}}});
        death(&mut screen, &data).unwrap();
        death(&mut screen, &json!({"sequence": 8, "time": "t", "event": "plugin:restarting"}))
            .unwrap();
        assert_eq!(
            screen.text(),
            "t plugin:error a PLUGIN_DIED: the plugin died: exit code 1\n  wrote last:\n    \
             the end\u{fffd}\n8 t plugin:restarting -\n"
        );
    }

    #[test]
    fn a_row_of_the_audit_is_one_line() {
        let mut screen = Screen::of_test(true);
        let row = json!({"sequence": 7, "time": "t", "action": "enable", "outcome": "ok",
            "pluginId": "a", "principal": {"uid": 0, "name": "root", "onBehalfOf": "dr.s\u{1b}[m"},
            "details": {"configured": true}, "hash": "h"});
        audit(&mut screen, &row).unwrap();
        let anybody = json!({"sequence": 8, "time": "t", "action": "denied",
            "outcome": "PERMISSION_DENIED", "principal": {"uid": 7}});
        audit(&mut screen, &anybody).unwrap();
        audit(&mut screen, &json!({"sequence": 9, "pluginId": "a", "removed": true})).unwrap();
        let text = screen.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("7 t ok enable a (root for dr.s"), "{text}");
        assert!(lines[0].ends_with("{\"configured\":true}") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(lines[1], "8 t PERMISSION_DENIED denied - (uid 7)");
        assert_eq!(lines[2], "9 a removed when it was uninstalled");
    }

    #[test]
    fn a_log_line_cannot_repaint_the_terminal() {
        let mut screen = Screen::of_test(true);
        let data = json!({"time": "t", "stream": "stderr", "level": "warn", "message": "a\u{1b}[2Jb", "fields": [["k", "v w"]]});
        log(&mut screen, "a: ", &data).unwrap();
        assert_eq!(screen.text(), "a: t warn   a\u{fffd}[2Jb k=\"v w\"\n");
    }

    #[test]
    fn long_values_are_cut_on_a_terminal_only() {
        let value = "ü".repeat(100);
        let reply = json!({"entries": [{"key": "k", "version": 3, "bytes": 202, "value": value}]});
        for (terminal, whole) in [(true, false), (false, true)] {
            let mut screen = Screen::of_test(terminal);
            state(&mut screen, &reply).unwrap();
            assert_eq!(screen.text().contains(&value), whole);
        }
    }

    #[test]
    fn what_was_printed_shows_its_stream() {
        let mut screen = Screen::of_test(true);
        log(
            &mut screen,
            "",
            &json!({"time": "t", "stream": "stdout", "level": "info", "message": "m"}),
        )
        .unwrap();
        log(
            &mut screen,
            "",
            &json!({"time": "t", "stream": "stdout", "level": "error", "message": "n"}),
        )
        .unwrap();
        log(&mut screen, "", &json!({"missed": 3, "message": "3 are left out"})).unwrap();
        let text = screen.text();
        assert!(
            text.starts_with("t stdout m\nt error  n\n") && text.contains("… 3 are left out"),
            "{text}"
        );
    }
}
