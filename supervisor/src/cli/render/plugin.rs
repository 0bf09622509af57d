//! `ls` and `inspect`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bulkhead_sandbox::Enforcement;
use serde::Deserialize;
use serde_json::Value;

use super::measure::{bytes, span};
use super::table::{Cell, table};
use super::{Screen, Tone, layers};
use crate::cli::problem::printable;
use crate::words::times;

/// A plugin as the service shows it, as far as it is shown here. The service may be newer: what is
/// not known is ignored, what is absent is its default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cli) struct Plugin {
    pub(in crate::cli) id: String,
    pub(in crate::cli) version: String,
    name: String,
    description: String,
    author: String,
    pub(in crate::cli) state: String,
    /// What the operator wants.
    desired: String,
    digest: String,
    /// What a rollback returns to.
    previous: Option<Previous>,
    permissions: Vec<String>,
    granted: Option<Vec<String>>,
    dependencies: BTreeMap<String, String>,
    provides: Vec<String>,
    config: Value,
    pub(in crate::cli) limits: Limits,
    pub(in crate::cli) process: Option<Process>,
    pub(in crate::cli) enforcement: Option<Enforcement>,
    pub(in crate::cli) usage: Option<Usage>,
    limit_events: Option<LimitEvents>,
    failed_checks: u32,
    call_circuit: Option<CallCircuit>,
    last_usage: Option<LastUsage>,
    pub(in crate::cli) storage: Option<Storage>,
    pub(in crate::cli) last_exit: Option<LastExit>,
    last_error: Option<LastError>,
    unfinished: Option<Unfinished>,
    exposure: Option<Exposure>,
    denials: Vec<Denial>,
    denials_unobservable: Option<String>,
    pub(in crate::cli) dependents: Vec<String>,
}

/// The circuit breaker before it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CallCircuit {
    state: String,
    retry_after_ms: Option<u64>,
}

/// How exposed the machine is to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exposure {
    score: f64,
    measured: bool,
    reasons: Vec<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    weight: f64,
    reason: String,
    remedy: String,
}

/// What the kernel refused to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Denial {
    layer: String,
    access: String,
    path: Option<String>,
    port: Option<u16>,
    count: u64,
    last: String,
    remedy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Limits {
    pub(in crate::cli) memory: Option<u64>,
    pub(in crate::cli) cpu: Option<String>,
    pub(in crate::cli) pids: Option<u64>,
    pub(in crate::cli) storage: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cli) struct Process {
    pub(in crate::cli) generation: u64,
    pub(in crate::cli) pid: i64,
    uid: Option<u64>,
    cgroup: Option<String>,
    started_at: String,
    pub(in crate::cli) uptime_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cli) struct Usage {
    pub(in crate::cli) memory_bytes: Option<u64>,
    memory_peak_bytes: Option<u64>,
    pub(in crate::cli) cpu_usec: Option<u64>,
    pub(in crate::cli) pids: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LimitEvents {
    throttled_usec: Option<u64>,
    pids_refused: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LastUsage {
    time: String,
    memory_peak_bytes: Option<u64>,
    cpu_usec: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cli) struct Storage {
    enforcement: String,
    pub(in crate::cli) limit_bytes: u64,
    pub(in crate::cli) state_bytes: u64,
    pub(in crate::cli) data_bytes: u64,
    pub(in crate::cli) data_files: u64,
    hard_limit_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::cli) struct LastExit {
    time: String,
    pub(in crate::cli) explanation: String,
    exit: Exit,
    last_log_lines: Vec<String>,
    last_log_lines_withheld: String,
}

/// In the words of the sandbox.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exit {
    usage: AtMost,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AtMost {
    memory_peak: Option<u64>,
    cpu_usec: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Previous {
    version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LastError {
    code: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Unfinished {
    operation: String,
    undoing: bool,
    attempts: u32,
    error: LastError,
}

/// What a state means.
fn tone(state: &str) -> Tone {
    match state {
        "enabled" => Tone::Good,
        "disabled" => Tone::Faint,
        "tripped" | "broken" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

/// A state as it is shown, and what it means: of one that is down against the operator's will, that it is.
pub(in crate::cli) fn standing(state: &str, is_wanted: bool) -> (String, Tone) {
    if is_wanted && state == "disabled" {
        (format!("{state}, wanted"), Tone::Bad)
    } else {
        (state.to_owned(), tone(state))
    }
}

/// A row for each plugin.
pub(in crate::cli) fn list<W: Write>(screen: &mut Screen<W>, plugins: &[Plugin]) -> io::Result<()> {
    if plugins.is_empty() {
        // A program that reads the rows needs no sentence.
        return if screen.terminal() {
            screen.line("no plugin is installed; `bulkhead install DIR` installs one")
        } else {
            Ok(())
        };
    }
    let none = || "-".to_owned();
    let rows: Vec<Vec<Cell>> = plugins
        .iter()
        .map(|plugin| {
            let usage = plugin.usage.as_ref();
            let process = plugin.process.as_ref();
            vec![
                (plugin.id.clone(), Tone::Strong),
                (plugin.version.clone(), Tone::Plain),
                standing(&plugin.state, plugin.is_wanted()),
                (process.map_or_else(none, |it| it.pid.to_string()), Tone::Plain),
                (process.map_or_else(none, |it| span(it.uptime_ms)), Tone::Plain),
                (usage.and_then(|it| it.memory_bytes).map_or_else(none, bytes), Tone::Plain),
                (
                    usage.and_then(|it| it.cpu_usec).map_or_else(none, |it| span(it / 1000)),
                    Tone::Plain,
                ),
                (
                    plugin.exposure.as_ref().map_or_else(none, |it| format!("{:.1}", it.score)),
                    Tone::Plain,
                ),
                (plugin.name.clone(), Tone::Faint),
            ]
        })
        .collect();
    let head = ["ID", "VERSION", "STATE", "PID", "UPTIME", "MEMORY", "CPU", "EXPOSURE", "NAME"];
    table(screen, &head, &rows)
}

impl Plugin {
    /// Whether the operator wants it to be enabled.
    pub(in crate::cli) fn is_wanted(&self) -> bool {
        self.desired == "enabled"
    }

    /// All that is known of it.
    pub(in crate::cli) fn show<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let id = screen.paint(Tone::Strong, &printable(&self.id));
        let (state, tone) = standing(&self.state, self.is_wanted());
        let state = screen.paint(tone, &printable(&state));
        screen.line(&format!("{id} {}  {state}", printable(&self.version)))?;
        let mut about = printable(&self.name);
        if !self.author.is_empty() {
            about = format!("{about}, by {}", printable(&self.author));
        }
        field(screen, "name", &about)?;
        field(screen, "about", &printable(&self.description))?;
        field(screen, "permissions", &printable(&self.permissions()))?;
        let needs: Vec<String> =
            self.dependencies.iter().map(|(id, version)| format!("{id} {version}")).collect();
        field(screen, "depends on", &printable(&needs.join(", ")))?;
        field(screen, "needed by", &printable(&self.dependents.join(", ")))?;
        field(screen, "provides", &printable(&self.provides.join(", ")))?;
        if self.config.as_object().is_some_and(|config| !config.is_empty()) {
            field(screen, "config", &printable(&self.config.to_string()))?;
        }
        field(screen, "digest", &printable(&self.digest))?;
        if let Some(previous) = &self.previous {
            field(screen, "previous", &printable(&previous.version))?;
        }
        self.show_process(screen)?;
        self.show_usage(screen)?;
        self.show_storage(screen)?;
        if let Some(enforcement) = &self.enforcement {
            let verdict = if enforcement.is_complete() {
                screen.paint(Tone::Good, "all of the policy is in force")
            } else {
                screen.paint(Tone::Doubtful, "not all of the policy is in force")
            };
            screen.line(&format!("compartment, as measured: {verdict}"))?;
            layers::enforcement(screen, enforcement)?;
        }
        self.show_exposure(screen)?;
        self.show_denials(screen)?;
        self.show_last_exit(screen)?;
        if let Some(LastError { code, message }) = &self.last_error {
            let code = screen.paint(Tone::Bad, &printable(code));
            screen.line("last error")?;
            screen.line(&format!("  {code}: {}", printable(message)))?;
        }
        self.show_unfinished(screen)
    }

    fn show_last_exit<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(last) = &self.last_exit else { return Ok(()) };
        screen.line(&format!("last exit, {}", printable(&last.time)))?;
        screen.line(&format!("  {}", printable(&last.explanation)))?;
        let AtMost { memory_peak, cpu_usec } = last.exit.usage;
        let memory = memory_peak.map(|peak| format!("at most {}", bytes(peak)));
        field(screen, "memory", &memory.unwrap_or_default())?;
        field(screen, "cpu", &cpu_usec.map(|usec| span(usec / 1000)).unwrap_or_default())?;
        let mut name = "wrote last";
        for line in &last.last_log_lines {
            field(screen, name, &printable(line))?;
            name = "";
        }
        field(screen, name, &printable(&last.last_log_lines_withheld))?;
        let wrote = !last.last_log_lines.is_empty() || !last.last_log_lines_withheld.is_empty();
        if wrote && self.process.is_none() {
            let hint = format!("`bulkhead logs {}` shows all that it wrote before that", self.id);
            screen.line(&format!("  {}", screen.paint(Tone::Faint, &printable(&hint))))?;
        }
        Ok(())
    }

    fn show_exposure<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(Exposure { score, measured, reasons }) = &self.exposure else { return Ok(()) };
        let how = if *measured { "as measured" } else { "as expected on this machine" };
        screen.line(&format!("exposure {score:.1} of 10, {how}"))?;
        for Part { weight, reason, remedy } in reasons {
            screen.line(&format!("  {weight:.1}  {}", printable(reason)))?;
            screen.line(&screen.paint(Tone::Faint, &format!("       {}", printable(remedy))))?;
        }
        Ok(())
    }

    fn show_denials<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        if !self.denials.is_empty() || self.denials_unobservable.is_some() {
            screen.line("denied")?;
        }
        for denial in &self.denials {
            let Denial { layer, access, path, port, count, last, remedy } = denial;
            let on = match (path, port) {
                (Some(path), _) => format!(" on {path:?}"),
                (_, Some(port)) => format!(" on port {port}"),
                _ => String::new(),
            };
            let text = format!("{layer}: {access}{on}, {}, last {last}", times(*count));
            screen.line(&format!("  {}", printable(&text)))?;
            let remedy = remedy.as_deref().unwrap_or("no setting allows it");
            screen.line(&screen.paint(Tone::Faint, &format!("    {}", printable(remedy))))?;
        }
        match &self.denials_unobservable {
            Some(why) => screen.line(&screen.paint(Tone::Faint, &format!("  {}", printable(why)))),
            None => Ok(()),
        }
    }

    fn show_unfinished<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        let Unfinished { operation, undoing, attempts, error } = unfinished;
        let what = if *undoing { "undone" } else { "finished" };
        let text = format!("{} is being {what}, and could not be yet", printable(operation));
        screen.line(&screen.paint(Tone::Bad, &text))?;
        screen.line(&format!(
            "  tried {}: {}",
            times((*attempts).into()),
            printable(&error.message)
        ))
    }

    /// What it may do, and what it asks for and may not.
    fn permissions(&self) -> String {
        let lacking = |one: &&String| self.granted.as_ref().is_some_and(|all| !all.contains(one));
        let without: Vec<&String> = self.permissions.iter().filter(lacking).collect();
        let granted: Vec<&str> = self
            .permissions
            .iter()
            .filter(|one| !without.contains(one))
            .map(String::as_str)
            .collect();
        let withheld = without.iter().map(|one| format!("{one} (withheld)"));
        granted.iter().map(|one| (*one).to_owned()).chain(withheld).collect::<Vec<_>>().join(", ")
    }

    fn show_process<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let uid = process.uid.map_or(String::new(), |uid| format!(", uid {uid}"));
        screen.line("process")?;
        let up = span(process.uptime_ms);
        let since = printable(&process.started_at);
        screen.line(&format!("  pid {}{uid}, up {up}, since {since}", process.pid))?;
        if let Some(cgroup) = &process.cgroup {
            screen.line(&format!("  {}", printable(cgroup)))?;
        }
        if self.failed_checks > 0 {
            let text = format!("  {} health checks in a row failed", self.failed_checks);
            screen.line(&screen.paint(Tone::Doubtful, &text))?;
        }
        match &self.call_circuit {
            Some(circuit) if circuit.state != "closed" => {
                let tried = circuit
                    .retry_after_ms
                    .map_or_else(String::new, |ms| format!("; one is tried in {}", span(ms)));
                let state = printable(&circuit.state);
                let text = format!("  calls of other plugins are refused (circuit {state}){tried}");
                screen.line(&screen.paint(Tone::Bad, &text))
            }
            _ => Ok(()),
        }
    }

    fn show_usage<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let unknown = || "not measured here".to_owned();
        let Some(usage) = &self.usage else {
            let Some(last) = self.last_usage.as_ref().filter(|_| self.process.is_none()) else {
                return Ok(());
            };
            screen.line(&format!("last usage, {}", printable(&last.time)))?;
            let at_most = |peak| format!("at most {}", bytes(peak));
            field(screen, "memory", &last.memory_peak_bytes.map_or_else(unknown, at_most))?;
            let cpu = last.cpu_usec.map_or_else(unknown, |usec| span(usec / 1000));
            return field(screen, "cpu", &cpu);
        };
        let mut memory = usage.memory_bytes.map_or_else(unknown, bytes);
        if let Some(limit) = self.limits.memory {
            memory = format!("{memory} of {}", bytes(limit));
        }
        if let Some(peak) = usage.memory_peak_bytes {
            memory = format!("{memory}, at most {}", bytes(peak));
        }
        let mut cpu = usage.cpu_usec.map_or_else(unknown, |usec| span(usec / 1000));
        if let Some(share) = &self.limits.cpu {
            cpu = format!("{cpu}, at most {} of a cpu", printable(share));
        }
        let events = self.limit_events.as_ref();
        if let Some(held) = events.and_then(|it| it.throttled_usec).filter(|usec| *usec > 0) {
            cpu = format!("{cpu}, held back for {}", span(held / 1000));
        }
        let mut pids = usage.pids.map_or_else(unknown, |pids| pids.to_string());
        if let Some(limit) = self.limits.pids {
            pids = format!("{pids} of {limit}");
        }
        if let Some(refused) = events.and_then(|it| it.pids_refused).filter(|count| *count > 0) {
            pids = format!("{pids}, {} refused one more", times(refused));
        }
        let io = usage
            .io_read_bytes
            .zip(usage.io_written_bytes)
            .map(|(read, written)| format!("{} read, {} written", bytes(read), bytes(written)));
        screen.line("usage")?;
        field(screen, "memory", &memory)?;
        field(screen, "cpu", &cpu)?;
        field(screen, "processes", &pids)?;
        field(screen, "i/o", &io.unwrap_or_default())
    }

    fn show_storage<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        let Some(storage) = &self.storage else { return Ok(()) };
        screen.line(&format!(
            "storage: {} of {}, {}",
            bytes(storage.state_bytes + storage.data_bytes),
            bytes(storage.limit_bytes),
            printable(&storage.enforcement)
        ))?;
        field(screen, "state", &bytes(storage.state_bytes))?;
        let one = if storage.data_files == 1 { "file" } else { "files" };
        let files = format!("{} in {} {one}", bytes(storage.data_bytes), storage.data_files);
        field(screen, "/data", &files)?;
        match storage.hard_limit_bytes {
            // Else it is the limit above.
            Some(hard) if hard > storage.limit_bytes => {
                field(screen, "hard limit", &format!("{} in /data", bytes(hard)))
            }
            _ => Ok(()),
        }
    }
}

/// A line with a name, unless there is nothing to say.
fn field<W: Write>(screen: &mut Screen<W>, name: &str, value: &str) -> io::Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    let name = screen.paint(Tone::Faint, &format!("{name:<12}"));
    screen.line(&format!("  {name} {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin() -> Plugin {
        serde_json::from_value(json!({
            "id": "scheduler", "version": "1.0.0", "name": "Scheduler", "author": "T",
            "state": "enabled", "permissions": ["read:appointments", "write:appointments"],
            "granted": ["read:appointments"],
            "dependencies": {"appointments": "^1"}, "config": {"timezone": "UTC"},
            "limits": {"memory": 67_108_864, "cpu": "20%", "pids": 32},
            "process": {"pid": 42, "startedAt": "2026-01-01T00:00:00Z", "uptimeMs": 61_000, "cgroup": null},
            "usage": {"memoryBytes": 1_048_576, "memoryPeakBytes": null, "cpuUsec": 1_500_000, "pids": 3,
                "ioReadBytes": 1024, "ioWrittenBytes": 0},
            "limitEvents": {"throttledUsec": 2_000_000, "pidsRefused": 4, "oom": null},
            "enforcement": {"layers": []},
            "lastExit": {"time": "then", "explanation": "it ran out of memory",
                "exit": {"status": {"exited": 1}, "usage": {"memory_peak": 33_554_432, "cpu_usec": null}},
                "lastLogLines": ["taking more", "and\u{1b}[2J more"]},
            "lastError": {"code": "PLUGIN_DIED", "message": "the plugin died\u{1b}[2J", "details": {}},
            "exposure": {"score": 1.4, "measured": true, "reasons": [
                {"name": "network", "weight": 1.0, "reason": "it is in the network", "remedy": "leave it"}]},
            "denials": [{"layer": "landlock", "access": "fs.read_file", "path": "/etc/shadow",
                         "count": 3, "last": "then", "remedy": "[sandbox] read = [\"/etc/shadow\"]"}],
            "denialsUnobservable": "not observable here: why",
            "aKeyOfALaterVersion": 1,
        }))
        .unwrap()
    }

    #[test]
    fn a_row_per_plugin() {
        let mut screen = Screen::of_test(false);
        list(&mut screen, &[plugin()]).unwrap();
        let row = "scheduler\t1.0.0\tenabled\t42\t1 min 1 s\t1 MiB\t1.5 s\t1.4\tScheduler\n";
        assert_eq!(screen.text(), row);
    }

    #[test]
    fn no_plugin_is_a_sentence_only_for_a_person() {
        let mut screen = Screen::of_test(false);
        list(&mut screen, &[]).unwrap();
        assert_eq!(screen.text(), "");
        let mut screen = Screen::of_test(true);
        list(&mut screen, &[]).unwrap();
        assert!(screen.text().contains("bulkhead install"));
    }

    #[test]
    fn of_one_that_ended_it_is_said_where_its_last_words_are() {
        let shown = |plugin: Plugin| {
            let mut screen = Screen::of_test(true);
            plugin.show(&mut screen).unwrap();
            screen.text()
        };
        let hint = "bulkhead logs scheduler";
        assert!(shown(Plugin { process: None, ..plugin() }).contains(hint));
        assert!(!shown(plugin()).contains(hint));
    }

    #[test]
    fn all_that_is_known_is_shown() {
        let mut screen = Screen::of_test(true);
        plugin().show(&mut screen).unwrap();
        let text = screen.text();
        for part in [
            "scheduler 1.0.0  enabled",
            "read:appointments, write:appointments (withheld)",
            "appointments ^1",
            "pid 42, up 1 min 1 s",
            "1 MiB of 64 MiB",
            "1.5 s, at most 20% of a cpu, held back for 2.0 s",
            "3 of 32, 4 times refused one more",
            "1 KiB read, 0 B written",
            "it ran out of memory",
            "at most 32 MiB",
            "wrote last   taking more",
            "             and\u{fffd}[2J more",
            "landlock: fs.read_file on \"/etc/shadow\", 3 times, last then",
            "[sandbox] read = [\"/etc/shadow\"]",
            "not observable here: why",
            "exposure 1.4 of 10, as measured",
            "1.0  it is in the network",
            "PLUGIN_DIED: the plugin died\u{fffd}[2J",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn the_log_is_pointed_to_where_there_is_something_in_it() {
        for (lines, pointed) in [(json!(["the end"]), true), (json!([]), false)] {
            let of = json!({ "id": "a", "state": "disabled", "lastExit": {
                "time": "then", "explanation": "exit code 1", "lastLogLines": lines } });
            let plugin: Plugin = serde_json::from_value(of).unwrap();
            let mut screen = Screen::of_test(true);
            plugin.show_last_exit(&mut screen).unwrap();
            let text = screen.text();
            assert_eq!(text.contains("`bulkhead logs a` shows"), pointed, "{text}");
        }
    }
}
