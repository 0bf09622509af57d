//! The timeline of a stop.

use std::io::{self, Write};

use serde::Deserialize;

use super::{Screen, Tone};
use crate::cli::problem::printable;

/// The reply of `disable`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stop {
    id: String,
    timeline: Vec<Moment>,
    budget_ms: u64,
    total_ms: u64,
    forced: bool,
    state_saved: bool,
    explanation: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    stage: String,
    at_ms: f64,
}

pub(in crate::cli) fn stop<W: Write>(
    screen: &mut Screen<W>,
    reply: &serde_json::Value,
) -> io::Result<()> {
    let stop = Stop::deserialize(reply).unwrap_or_default();
    let id = screen.paint(Tone::Strong, &printable(&stop.id));
    if stop.timeline.is_empty() {
        return screen.line(&format!("{id} is disabled; nothing of it ran"));
    }
    let how = if stop.forced {
        screen.paint(Tone::Doubtful, "stopped by force")
    } else {
        screen.paint(Tone::Good, "stopped")
    };
    screen.line(&format!(
        "{id} {how} after {} ms of its budget of {} ms",
        stop.total_ms, stop.budget_ms
    ))?;
    for Moment { stage, at_ms } in &stop.timeline {
        screen.line(&format!("  {at_ms:>8.1} ms  {}", in_words(stage)))?;
    }
    if !stop.state_saved {
        let word = screen.paint(Tone::Doubtful, "its state was not saved by this stop");
        screen.line(&format!("  {word}"))?;
    }
    match &stop.explanation {
        Some(text) if stop.forced => screen.line(&format!("  {}", printable(text))),
        _ => Ok(()),
    }
}

fn in_words(stage: &str) -> String {
    match stage {
        "drain" => "asked to finish its work".to_owned(),
        "saved" => "its state is saved".to_owned(),
        "goodbye" => "it said goodbye".to_owned(),
        "sigterm" => "SIGTERM".to_owned(),
        "sigkill" => "SIGKILL to all of it".to_owned(),
        "exited" => "its main process ended".to_owned(),
        "empty" => "no process of it is left".to_owned(),
        "removed" => "its cgroup is removed".to_owned(),
        other => printable(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(reply: serde_json::Value) -> String {
        let mut screen = Screen::of_test(true);
        stop(&mut screen, &reply).unwrap();
        screen.text()
    }

    #[test]
    fn the_stages_are_told_in_order() {
        let text = shown(json!({
            "id": "a", "budgetMs": 5000, "totalMs": 5012, "forced": true, "stateSaved": false,
            "timeline": [{"stage": "drain", "atMs": 0.1}, {"stage": "sigkill", "atMs": 5000.0}],
            "explanation": "it was killed",
        }));
        assert!(text.starts_with("a stopped by force after 5012 ms of its budget of 5000 ms\n"));
        let (drain, kill) = (text.find("asked to finish"), text.find("SIGKILL to all"));
        assert!(drain.unwrap() < kill.unwrap(), "{text}");
        assert!(text.contains("not saved") && text.contains("it was killed"), "{text}");
    }

    #[test]
    fn nothing_to_stop_is_said() {
        assert_eq!(shown(json!({"id": "a", "timeline": []})), "a is disabled; nothing of it ran\n");
    }
}
