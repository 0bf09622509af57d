//! What a plugin used as a table.

use std::io::{self, Write};

use serde_json::Value;

use super::measure::bytes;
use super::table::{Cell, table};
use super::{Screen, Tone};

/// A row for each point, oldest first.
pub(in crate::cli) fn usage<W: Write>(screen: &mut Screen<W>, points: &[Value]) -> io::Result<()> {
    if points.is_empty() && screen.terminal() {
        return screen.line(
            "nothing is kept of that time: it did not run, or its first minute is not over; \
             `--since 1d` looks further back",
        );
    }
    let rows: Vec<Vec<Cell>> = points
        .iter()
        .map(|point| {
            let size = |key: &str| cell(point[key].as_u64().map(bytes));
            let percent =
                |key: &str| cell(point[key].as_f64().map(|percent| format!("{percent:.1} %")));
            vec![
                (point["time"].as_str().unwrap_or("-").to_owned(), Tone::Plain),
                cell(point["seconds"].as_u64().map(|seconds| format!("{seconds} s"))),
                size("memoryBytes"),
                size("memoryPeakBytes"),
                percent("cpuPercent"),
                percent("cpuThrottledPercent"),
                cell(point["pids"].as_u64().map(|pids| pids.to_string())),
                size("ioReadBytes"),
                size("ioWrittenBytes"),
                size("storageBytes"),
                size("networkReceivedBytes"),
                size("networkSentBytes"),
            ]
        })
        .collect();
    let head = [
        "TIME",
        "COVERED",
        "MEMORY",
        "PEAK",
        "CPU",
        "HELD BACK",
        "PIDS",
        "READ",
        "WRITTEN",
        "STORAGE",
        "RECEIVED",
        "SENT",
    ];
    table(screen, &head, &rows)
}

/// What was not observed is a dash.
fn cell(text: Option<String>) -> Cell {
    text.map_or_else(|| ("-".to_owned(), Tone::Faint), |text| (text, Tone::Plain))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_observed_is_a_dash() {
        let mut screen = Screen::of_test(false);
        let point = json!({
            "time": "2026-01-01T00:00:00Z", "seconds": 60, "memoryBytes": 1_572_864,
            "memoryPeakBytes": null, "cpuPercent": 12.34, "cpuThrottledPercent": 0.0, "pids": 3,
            "ioReadBytes": 0, "ioWrittenBytes": null, "storageBytes": 1024,
            "networkReceivedBytes": null, "networkSentBytes": null,
        });
        usage(&mut screen, &[point]).unwrap();
        let fields = [
            "2026-01-01T00:00:00Z",
            "60 s",
            "1.5 MiB",
            "-",
            "12.3 %",
            "0.0 %",
            "3",
            "0 B",
            "-",
            "1 KiB",
            "-",
            "-",
        ];
        assert_eq!(screen.text(), format!("{}\n", fields.join("\t")));
        let mut screen = Screen::of_test(true);
        usage(&mut screen, &[]).unwrap();
        assert!(screen.text().contains("--since 1d"));
    }
}
