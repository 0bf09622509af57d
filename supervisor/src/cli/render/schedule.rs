//! Schedules and their runs as tables.

use std::io::{self, Write};

use serde_json::Value;

use super::table::{Cell, table};
use super::{Screen, Tone};

/// A row for each schedule of a plugin.
pub(in crate::cli) fn schedules<W: Write>(screen: &mut Screen<W>, all: &[Value]) -> io::Result<()> {
    if all.is_empty() && screen.terminal() {
        return screen.line("its manifest has no schedules");
    }
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|one| {
            // What runs is newer than what has ended; what was left out is not a run.
            let last = one["runs"].as_array().and_then(|runs| runs.first());
            vec![
                (text(&one["name"]), Tone::Strong),
                (text(&one["cron"]), Tone::Plain),
                (text(&one["timezone"]), Tone::Plain),
                (text(&one["method"]), Tone::Plain),
                (text(&one["nextStart"]), Tone::Plain),
                last.map_or_else(nothing, |run| (when(run), Tone::Plain)),
                last.map_or_else(nothing, outcome),
            ]
        })
        .collect();
    table(screen, &["NAME", "CRON", "TIME ZONE", "METHOD", "NEXT", "LAST", "OUTCOME"], &rows)
}

/// A row for each run of a schedule, newest first.
pub(in crate::cli) fn runs<W: Write>(screen: &mut Screen<W>, one: &Value) -> io::Result<()> {
    let all = one["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() && screen.terminal() {
        return screen.line("it has not run yet");
    }
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|run| {
            let due =
                if run["due"].is_null() { "on request".to_owned() } else { text(&run["due"]) };
            let took = run["durationMs"]
                .as_u64()
                .map_or_else(nothing, |ms| (format!("{ms} ms"), Tone::Plain));
            vec![
                (due, Tone::Plain),
                (text(&run["started"]), Tone::Plain),
                took,
                outcome(run),
                (run["count"].as_u64().unwrap_or(1).to_string(), Tone::Plain),
            ]
        })
        .collect();
    table(screen, &["DUE", "STARTED", "TOOK", "OUTCOME", "COUNT"], &rows)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn nothing() -> Cell {
    ("-".to_owned(), Tone::Faint)
}

/// When it ran, or was to run.
fn when(run: &Value) -> String {
    if run["started"].is_null() { text(&run["due"]) } else { text(&run["started"]) }
}

fn outcome(run: &Value) -> Cell {
    let tone = match run["outcome"].as_str() {
        Some("ok") => Tone::Good,
        Some("failed" | "interrupted") => Tone::Bad,
        Some(_) => Tone::Doubtful,
        None => return ("running".to_owned(), Tone::Plain),
    };
    match run["code"].as_str() {
        Some(code) => (format!("{} {code}", text(&run["outcome"])), tone),
        None => (text(&run["outcome"]), tone),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one() -> Value {
        json!({
            "name": "nightly", "cron": "30 2 * * *", "timezone": "UTC", "method": "sweep",
            "nextDue": "d", "nextStart": "n", "running": 1,
            "runs": [
                {"due": null, "started": "s3", "outcome": null, "code": null, "durationMs": null, "count": 1},
                {"due": "d2", "started": "s2", "outcome": "failed", "code": "TIMEOUT", "durationMs": 5, "count": 1},
                {"due": "d1", "started": null, "outcome": "missed", "code": null, "durationMs": null, "count": 3},
            ],
        })
    }

    #[test]
    fn a_schedule_shows_what_comes_and_what_was() {
        let mut screen = Screen::of_test(false);
        let off = json!({"name": "off", "cron": "* * * * *", "timezone": "UTC", "method": "m",
            "nextStart": null, "runs": []});
        schedules(&mut screen, &[one(), off]).unwrap();
        let text =
            "nightly\t30 2 * * *\tUTC\tsweep\tn\ts3\trunning\noff\t* * * * *\tUTC\tm\t-\t-\t-\n";
        assert_eq!(screen.text(), text);
    }

    #[test]
    fn a_run_shows_what_it_came_to() {
        let mut screen = Screen::of_test(false);
        runs(&mut screen, &one()).unwrap();
        let text =
            "on request\ts3\t-\trunning\t1\nd2\ts2\t5 ms\tfailed TIMEOUT\t1\nd1\t-\t-\tmissed\t3\n";
        assert_eq!(screen.text(), text);
    }
}
