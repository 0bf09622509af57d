//! The families of the plugins, each series with the label `plugin`.

use std::collections::BTreeMap;

use super::Known;
use super::counts::{Counts, LOSSES, REASONS, REFUSALS};
use super::exposition::{Exposition, Kind, Number};
use super::histogram::{BOUNDS, Histogram};
use super::sample::{ProcessSample, Sample};
use crate::exposure::Score;
use crate::manifest::Limits;
use crate::supervise::logs::LogCounts;
use crate::supervise::plugin::{PluginHandle, STATES};
use crate::supervise::usage::Stalls;

/// A plugin with all that is known of it.
struct Seen<'a> {
    id: &'a str,
    version: String,
    state: &'static str,
    enabled: bool,
    limits: &'a Limits,
    exposure: Score,
    /// Of the process that runs.
    process: Option<ProcessSample>,
    sample: Option<&'a Sample>,
    counts: Option<&'a Counts>,
    /// Of other plugins' calls.
    circuit: &'static str,
    logs: LogCounts,
}

impl<'a> Seen<'a> {
    fn new(known: &'a Known, handle: &'a PluginHandle, exposure: Score) -> Self {
        let (id, view) = (&handle.manifest.id, handle.view());
        let sample = known.samples.get(id);
        let generation = view.process.map(|process| process.generation);
        Self {
            id: id.as_str(),
            version: handle.manifest.version.to_string(),
            state: view.state,
            enabled: view.enabled,
            limits: &handle.manifest.limits,
            exposure,
            process: sample
                .and_then(|sample| sample.process)
                .filter(|process| Some(process.generation) == generation),
            sample,
            counts: known.counts.get(id),
            circuit: handle.circuit().name(),
            logs: handle.book.counts(),
        }
    }
}

pub(super) fn write(
    out: &mut Exposition,
    known: &Known,
    plugins: &[PluginHandle],
    exposure: impl Fn(&PluginHandle) -> Score,
) {
    let seen: Vec<Seen<'_>> =
        plugins.iter().map(|handle| Seen::new(known, handle, exposure(handle))).collect();
    families(out, &seen);
}

fn families(out: &mut Exposition, seen: &[Seen<'_>]) {
    lives(out, seen);
    usage(out, seen);
    io(out, seen);
    limit_events(out, seen);
    storage(out, seen);
    calls(out, seen);
    circuits(out, seen);
    happenings(out, seen);
}

/// A family with one series of each plugin that has the value.
fn each<T: Into<Number>>(
    out: &mut Exposition,
    (name, kind, help): (&str, Kind, &str),
    seen: &[Seen<'_>],
    value: impl Fn(&Seen<'_>) -> Option<T>,
) {
    let mut family = out.family(name, kind, help);
    for plugin in seen {
        if let Some(value) = value(plugin) {
            family.series(&[("plugin", plugin.id)], value);
        }
    }
}

/// A family with several series of each plugin, told apart by a second label.
fn sorted<'s>(
    out: &mut Exposition,
    (name, kind, help): (&str, Kind, &str),
    label: &str,
    seen: &'s [Seen<'s>],
    values: impl Fn(&'s Seen<'s>) -> Vec<(&'s str, u64)>,
) {
    let mut family = out.family(name, kind, help);
    for plugin in seen {
        for (kind, value) in values(plugin) {
            family.series(&[("plugin", plugin.id), (label, kind)], value);
        }
    }
}

fn lives(out: &mut Exposition, seen: &[Seen<'_>]) {
    let mut versions =
        out.family("bulkhead_version_info", Kind::Gauge, "The installed version; always 1.");
    for plugin in seen {
        versions.series(&[("plugin", plugin.id), ("version", &plugin.version)], 1_u64);
    }
    let states = ("bulkhead_state", Kind::Gauge, "1 for the state in which the plugin is, else 0.");
    sorted(out, states, "state", seen, |plugin| {
        STATES.iter().map(|state| (*state, u64::from(*state == plugin.state))).collect()
    });
    let wanted = ("bulkhead_wanted", Kind::Gauge, "1 if the operator wants it enabled, else 0.");
    each(out, wanted, seen, |plugin| Some(u64::from(plugin.enabled)));
    let exposure =
        "How exposed the machine is to it: 0 to 10, measured where it runs, else expected.";
    each(out, ("bulkhead_exposure", Kind::Gauge, exposure), seen, |plugin| {
        Some(f64::from(plugin.exposure))
    });
}

fn usage(out: &mut Exposition, seen: &[Seen<'_>]) {
    let seconds = |usec: u64| usec as f64 / 1e6;
    let gauge = |name, help| (name, Kind::Gauge, help);
    let counter = |name, help| (name, Kind::Counter, help);
    let used = "Memory of all its processes, page cache and tmpfs included.";
    each(out, gauge("bulkhead_memory_bytes", used), seen, |it| it.process?.usage.memory_bytes);
    let peak = "The most memory that it had since its start.";
    each(out, gauge("bulkhead_memory_peak_bytes", peak), seen, |it| {
        it.process?.usage.memory_peak_bytes
    });
    let working = "Its memory without the page cache that was not used lately.";
    each(out, gauge("bulkhead_memory_working_set_bytes", working), seen, |it| {
        it.process?.usage.memory_working_set_bytes
    });
    let limit = "The memory that it may use.";
    each(out, gauge("bulkhead_memory_limit_bytes", limit), seen, |it| {
        Some(it.limits.memory.bytes())
    });
    let kills = "Processes that the kernel killed for memory.";
    each(out, counter("bulkhead_oom_kills_total", kills), seen, |it| {
        let ended = it.counts.map(|counts| counts.oom_kills).filter(|kills| *kills > 0);
        let running = it.process.and_then(|process| process.limit_events.oom_kills);
        (ended.is_some() || running.is_some())
            .then(|| ended.unwrap_or_default() + running.unwrap_or_default())
    });
    let cpu = "CPU time since its start.";
    each(out, counter("bulkhead_cpu_seconds_total", cpu), seen, |it| {
        it.process?.usage.cpu_usec.map(seconds)
    });
    let share = "The CPUs that it may use, as 0.5 for half of one.";
    each(out, gauge("bulkhead_cpu_limit_cores", share), seen, |it| {
        Some(it.limits.cpu.quota_us() as f64 / crate::manifest::CpuShare::PERIOD_US as f64)
    });
    let throttled = "Periods of 100 ms in which its CPU time ran out.";
    each(out, counter("bulkhead_cpu_throttled_periods_total", throttled), seen, |it| {
        it.process?.limit_events.throttled_periods
    });
    let held = "How long it was held back because its CPU time had run out.";
    each(out, counter("bulkhead_cpu_throttled_seconds_total", held), seen, |it| {
        it.process?.limit_events.throttled_usec.map(seconds)
    });
    let pids = "Processes and threads.";
    each(out, gauge("bulkhead_pids", pids), seen, |it| it.process?.usage.pids);
    let peak = "The most processes and threads that it had since its start.";
    each(out, gauge("bulkhead_pids_peak", peak), seen, |it| it.process?.usage.pids_peak);
    let limit = "The processes and threads that it may have.";
    each(out, gauge("bulkhead_pids_limit", limit), seen, |it| Some(u64::from(it.limits.pids)));
    let received = "Bytes received through its own network namespace.";
    each(out, counter("bulkhead_network_receive_bytes_total", received), seen, |it| {
        it.process?.network.map(|(received, _)| received)
    });
    let sent = "Bytes sent through its own network namespace.";
    each(out, counter("bulkhead_network_transmit_bytes_total", sent), seen, |it| {
        it.process?.network.map(|(_, sent)| sent)
    });
}

fn io(out: &mut Exposition, seen: &[Seen<'_>]) {
    let counter = |name, help| (name, Kind::Counter, help);
    let read = "Bytes read from all devices.";
    each(out, counter("bulkhead_io_read_bytes_total", read), seen, |it| {
        it.process?.usage.io_read_bytes
    });
    let written = "Bytes written to all devices.";
    each(out, counter("bulkhead_io_written_bytes_total", written), seen, |it| {
        it.process?.usage.io_written_bytes
    });
    let operations =
        ("bulkhead_io_operations_total", Kind::Counter, "Reads and writes of devices.");
    sorted(out, operations, "kind", seen, |it| {
        let usage = it.process.map(|process| process.usage).unwrap_or_default();
        let kinds = [("read", usage.io_read_operations), ("write", usage.io_write_operations)];
        kinds.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect()
    });
}

/// What its limits did to it, and what it waited for.
fn limit_events(out: &mut Exposition, seen: &[Seen<'_>]) {
    let events = (
        "bulkhead_memory_events_total",
        Kind::Counter,
        "How often its memory was over memory.high, about to go over its limit (max), and could not be \
         made less (oom).",
    );
    sorted(out, events, "event", seen, |it| {
        let events = it.process.map(|process| process.limit_events).unwrap_or_default();
        let kinds = [("high", events.memory_high), ("max", events.memory_max), ("oom", events.oom)];
        kinds.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect()
    });
    let refused = (
        "bulkhead_pids_refused_total",
        Kind::Counter,
        "Processes and threads that it was refused.",
    );
    each(out, refused, seen, |it| it.process?.limit_events.pids_refused);
    let stalled = "For how long some of its processes waited for the resource.";
    let mut family = out.family("bulkhead_pressure_seconds_total", Kind::Counter, stalled);
    for plugin in seen {
        let Some(process) = plugin.process else { continue };
        let Stalls { cpu, memory, io } = process.stalls;
        for (resource, stall) in [("cpu", cpu), ("memory", memory), ("io", io)] {
            let Some(stall) = stall else { continue };
            let labels = [("plugin", plugin.id), ("resource", resource)];
            family.series(&labels, stall.total_usec as f64 / 1e6);
        }
    }
}

fn storage(out: &mut Exposition, seen: &[Seen<'_>]) {
    let bytes =
        ("bulkhead_storage_bytes", Kind::Gauge, "What it keeps: in /data, and in its state.");
    sorted(out, bytes, "kind", seen, |it| match it.sample.and_then(|sample| sample.kept) {
        Some(kept) => vec![("data", kept.data_bytes), ("state", kept.state_bytes)],
        None => Vec::new(),
    });
    let files = ("bulkhead_storage_files", Kind::Gauge, "Files and directories in /data.");
    each(out, files, seen, |it| Some(it.sample?.kept?.data_files));
    let limit = ("bulkhead_storage_limit_bytes", Kind::Gauge, "What it may keep in all.");
    each(out, limit, seen, |it| Some(it.limits.storage.bytes()));
}

fn calls(out: &mut Exposition, seen: &[Seen<'_>]) {
    let help = "Calls of its methods, by how they came out; those that plugin.toml does not name are \
                `other`.";
    let mut family = out.family("bulkhead_calls_total", Kind::Counter, help);
    for plugin in seen {
        for (method, calls) in plugin.counts.iter().flat_map(|counts| &counts.calls) {
            for (outcome, count) in calls.outcomes() {
                let labels = [("plugin", plugin.id), ("method", method), ("outcome", outcome)];
                family.series(&labels, count);
            }
        }
    }
    let help = "How long the calls took that reached it.";
    let mut family = out.family("bulkhead_call_duration_seconds", Kind::Histogram, help);
    for plugin in seen {
        for (method, calls) in plugin.counts.iter().flat_map(|counts| &counts.calls) {
            if !calls.duration.is_empty() {
                let labels = [("plugin", plugin.id), ("method", method)];
                let Histogram { counts, sum } = &calls.duration;
                family.histogram(&labels, &BOUNDS, counts, *sum);
            }
        }
    }
}

fn circuits(out: &mut Exposition, seen: &[Seen<'_>]) {
    let help = "Other plugins' calls to it: 0 they are made, 1 one tries whether it answers again, 2 they \
                are refused at once.";
    each(out, ("bulkhead_call_circuit", Kind::Gauge, help), seen, |it| {
        Some(match it.circuit {
            "closed" => 0_u64,
            "half-open" => 1,
            _ => 2,
        })
    });
}

fn happenings(out: &mut Exposition, seen: &[Seen<'_>]) {
    let counter = |name, help| (name, Kind::Counter, help);
    let restarts = "How often it was started again after it died.";
    each(out, counter("bulkhead_restarts_total", restarts), seen, |it| {
        Some(it.counts.map_or(0, |counts| counts.restarts))
    });
    let deaths = "Ends of its process that nobody asked for, by reason.";
    sorted(out, counter("bulkhead_deaths_total", deaths), "reason", seen, |it| {
        whole(&REASONS, it.counts.map(|counts| &counts.deaths))
    });
    let refusals = "What it was refused for want of a permission, or of a line of its manifest.";
    sorted(out, counter("bulkhead_refusals_total", refusals), "kind", seen, |it| {
        whole(&REFUSALS, it.counts.map(|counts| &counts.refusals))
    });
    let losses = "Events that did not arrive: missed, as it did not keep up; refused; withheld.";
    sorted(out, counter("bulkhead_events_lost_total", losses), "reason", seen, |it| {
        whole(&LOSSES, it.counts.map(|counts| &counts.losses))
    });
    let lines = "Lines of its log, by level.";
    sorted(out, counter("bulkhead_log_lines_total", lines), "level", seen, |it| {
        it.logs.lines.to_vec()
    });
    let dropped = "Lines of its output that are not in its log, by reason.";
    sorted(out, counter("bulkhead_log_lost_lines_total", dropped), "reason", seen, |it| {
        vec![("rate_limit", it.logs.dropped.lines)]
    });
    let missed = "Lines of its log that systemd's journal did not take.";
    each(out, counter("bulkhead_log_journal_missed_lines_total", missed), seen, |it| {
        Some(it.logs.unjournalled)
    });
    let lost = "Bytes of its output that could not be kept.";
    each(out, counter("bulkhead_log_lost_bytes_total", lost), seen, |it| Some(it.logs.lost_bytes));
}

/// All of `names`, those that did not happen with 0: what appears with its first value has no rate.
fn whole<'a>(
    names: &[&'a str],
    counts: Option<&BTreeMap<&'static str, u64>>,
) -> Vec<(&'a str, u64)> {
    let count = |name: &str| counts.and_then(|counts| counts.get(name)).copied();
    names.iter().map(|name| (*name, count(name).unwrap_or_default())).collect()
}

#[cfg(test)]
#[path = "families_tests.rs"]
mod tests;
