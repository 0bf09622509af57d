//! The columns of the list: what each shows, and which there is room for.

use ratatui::text::{Line, Span};

use super::blocks;
use super::theme::Theme;
use crate::cli::render::{Tone, short_bytes, short_span};
use crate::cli::top::history::Stretch;
use crate::cli::top::model::Watched;
use crate::cli::top::order::Order;
use crate::cli::top::sample::Moment;

/// Between two columns.
pub(super) const GAP: u16 = 2;
/// What the graphs of the list go back to.
const TREND: Moment = 5 * 60_000;
/// The widest that an id is shown.
const MAX_ID: usize = 26;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    Version,
    State,
    Pid,
    Uptime,
    Memory,
    MemoryBar,
    MemoryTrend,
    Cpu,
    CpuTrend,
    Pids,
    Storage,
    Deaths,
    Calls,
    Errors,
    Layers,
}

use Column::{
    Calls, Cpu, CpuTrend, Deaths, Errors, Id, Layers, Memory, MemoryBar, MemoryTrend, Pid, Pids,
    State, Storage, Uptime, Version,
};

/// From the left.
const PLACES: [Column; 16] = [
    Id,
    Version,
    State,
    Pid,
    Uptime,
    Memory,
    MemoryBar,
    MemoryTrend,
    Cpu,
    CpuTrend,
    Pids,
    Storage,
    Deaths,
    Calls,
    Errors,
    Layers,
];

/// Which has its room before which.
const RANKS: [Column; 16] = [
    Id,
    State,
    Memory,
    Cpu,
    Layers,
    Uptime,
    CpuTrend,
    MemoryTrend,
    Pids,
    Storage,
    MemoryBar,
    Calls,
    Deaths,
    Errors,
    Version,
    Pid,
];

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Id => "PLUGIN",
            Version => "VERSION",
            State => "STATE",
            Pid => "PID",
            Uptime => "UP",
            Memory => "MEMORY",
            MemoryBar | MemoryTrend | CpuTrend => "",
            Cpu => "CPU",
            Pids => "PIDS",
            Storage => "STORAGE",
            Deaths => "DEATHS",
            Calls => "CALLS/S",
            Errors => "ERR",
            Layers => "LAYERS",
        }
    }

    /// Sorting by which it shows.
    pub(super) fn order(self) -> Option<Order> {
        Some(match self {
            Id => Order::Id,
            State => Order::State,
            Uptime => Order::Uptime,
            Memory => Order::Memory,
            Cpu => Order::Cpu,
            Pids => Order::Pids,
            Storage => Order::Storage,
            Deaths => Order::Deaths,
            Calls => Order::Calls,
            Errors => Order::Errors,
            Layers => Order::Layers,
            Version | Pid | MemoryBar | MemoryTrend | CpuTrend => return None,
        })
    }

    pub(super) fn leans_right(self) -> bool {
        matches!(self, Pid | Uptime | Memory | Cpu | Pids | Storage | Deaths | Calls | Errors)
    }

    /// Cells that it takes at least.
    fn width(self, plugins: &[&Watched]) -> usize {
        let widest = |least: usize, most: usize, length: fn(&Watched) -> usize| {
            let longest = plugins.iter().map(|watched| length(watched)).max().unwrap_or_default();
            longest.clamp(least, most)
        };
        match self {
            Id => widest(8, MAX_ID, |watched| watched.row.id.chars().count()),
            Version => widest(7, 12, |watched| watched.row.version.chars().count()),
            // `disabled, wanted` is the longest there is.
            State => widest(8, 16, |watched| watched.row.standing().0.chars().count()),
            Uptime | Cpu | Deaths | Layers => 6,
            // Of the limit: `12.3M/64M`. Where nothing is measured it is one sign.
            Memory => widest(6, 10, |watched| if watched.row.memory.is_some() { 10 } else { 1 }),
            Pids => widest(4, 6, |watched| if watched.row.pids.is_some() { 6 } else { 1 }),
            MemoryBar => 8,
            MemoryTrend | CpuTrend => 10,
            Storage => 11,
            Pid | Calls => 7,
            Errors => 4,
        }
    }

    pub(super) fn cell(
        self,
        watched: &Watched,
        now: Moment,
        width: usize,
        theme: Theme,
    ) -> Line<'static> {
        let row = &watched.row;
        let or_none = |text: Option<String>| match text {
            Some(text) => Line::raw(text),
            None => Line::from(theme.span(Tone::Faint, "-")),
        };
        match self {
            Id => Line::from(theme.span(Tone::Strong, row.id.clone())),
            Version => Line::raw(row.version.clone()),
            State => {
                let (state, tone) = row.standing();
                Line::from(theme.span(tone, state))
            }
            Pid => or_none(row.process.map(|process| process.pid.to_string())),
            Uptime => or_none(row.process.map(|process| short_span(process.uptime_ms))),
            Memory => of(row.memory.map(short_bytes), row.memory_limit.map(short_bytes), theme),
            MemoryBar => bar(row.memory, row.memory_limit, width, theme),
            MemoryTrend => trend(watched, now, width, 0.0, memory, theme),
            Cpu => or_none(watched.cpu.map(percent)),
            CpuTrend => trend(watched, now, width, 4.0, |stretch| stretch.cpu, theme),
            Pids => of(
                row.pids.map(|pids| pids.to_string()),
                row.pids_limit.map(|limit| limit.to_string()),
                theme,
            ),
            Storage => {
                let limit = match watched.storage {
                    Some(storage) => storage.limit(row.storage_limit),
                    None => row.storage_limit,
                };
                let used = watched.storage.map(|storage| short_bytes(storage.used));
                of(used, limit.map(short_bytes), theme)
            }
            Deaths => {
                let deaths = watched.counters.deaths;
                let tone = if deaths == 0 { Tone::Faint } else { Tone::Doubtful };
                Line::from(theme.span(tone, deaths.to_string()))
            }
            Calls => or_none(watched.pace.calls_per_second().map(pace)),
            Errors => {
                let Some(share) = watched.pace.error_share() else { return or_none(None) };
                let tone = if share > 0.0 { Tone::Bad } else { Tone::Plain };
                Line::from(theme.span(tone, format!("{:.0}%", (share * 100.0).ceil())))
            }
            Layers => layers(watched, width, theme),
        }
    }
}

/// The columns that there is room for, each with its width, from the left.
pub(super) fn fit(width: u16, plugins: &[&Watched]) -> Vec<(Column, u16)> {
    let mut room = usize::from(width);
    let mut chosen: Vec<(Column, usize)> = Vec::new();
    let measured = plugins.iter().any(|watched| watched.row.memory.is_some());
    for column in RANKS {
        if matches!(column, MemoryBar | MemoryTrend) && !measured {
            continue;
        }
        let gap = if chosen.is_empty() { 0 } else { usize::from(GAP) };
        let width = column.width(plugins);
        if width + gap <= room {
            room -= width + gap;
            chosen.push((column, width));
        } else if chosen.is_empty() {
            // Something is shown on any terminal.
            chosen.push((column, room));
            room = 0;
        }
    }
    // What is left goes to the layers that are missing, then to the graphs.
    let longest = plugins.iter().filter_map(|watched| watched.row.layers.as_ref());
    let longest = longest.map(|layers| named(layers).chars().count()).max().unwrap_or_default();
    for (column, width) in &mut chosen {
        if *column == Layers && longest > *width && longest - *width <= room {
            room -= longest - *width;
            *width = longest;
        }
    }
    let graphs = [MemoryTrend, CpuTrend];
    let count = chosen.iter().filter(|(column, _)| graphs.contains(column)).count();
    for (column, width) in &mut chosen {
        if graphs.contains(column) {
            *width += (room / count.max(1)).min(14);
        }
    }
    chosen.sort_by_key(|(column, _)| PLACES.iter().position(|place| place == column));
    chosen.into_iter().map(|(column, width)| (column, width as u16)).collect()
}

/// `3.1%`, `100%`.
pub(super) fn percent(share: f64) -> String {
    if share < 99.95 { format!("{share:.1}%") } else { format!("{share:.0}%") }
}

fn pace(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

pub(super) fn memory(stretch: &Stretch) -> Option<f64> {
    stretch.memory.map(|bytes| bytes as f64)
}

/// How full something is, as a tone.
pub(super) fn pressure(share: f64) -> Tone {
    match share {
        share if share > 0.9 => Tone::Bad,
        share if share > 0.75 => Tone::Doubtful,
        _ => Tone::Plain,
    }
}

/// `12.3M/64M`.
fn of(used: Option<String>, limit: Option<String>, theme: Theme) -> Line<'static> {
    let Some(used) = used else { return Line::from(theme.span(Tone::Faint, "-")) };
    let limit = limit.map(|limit| theme.span(Tone::Faint, format!("/{limit}")));
    std::iter::once(Span::raw(used)).chain(limit).collect()
}

fn bar(used: Option<u64>, limit: Option<u64>, width: usize, theme: Theme) -> Line<'static> {
    let Some((used, limit)) = used.zip(limit.filter(|limit| *limit > 0)) else {
        return Line::default();
    };
    let share = used as f64 / limit as f64;
    let filled = blocks::filled(share, width);
    let style = match pressure(share) {
        Tone::Plain => theme.graph(),
        tone => theme.style(tone),
    };
    Line::from(vec![
        Span::styled("━".repeat(filled), style),
        theme.span(Tone::Faint, "─".repeat(width - filled)),
    ])
}

fn trend(
    watched: &Watched,
    now: Moment,
    width: usize,
    least: f64,
    value: impl Fn(&Stretch) -> Option<f64>,
    theme: Theme,
) -> Line<'static> {
    let parts = watched.history.parts(now, TREND, width, value);
    let graph = blocks::graph(&parts, blocks::scale(&parts, least), 1).concat();
    Line::from(Span::styled(graph, theme.graph()))
}

/// `12/14 memory pids`.
fn named(layers: &crate::cli::top::sample::Layers) -> String {
    let count = format!("{}/{}", layers.enforced, layers.asked());
    std::iter::once(count.as_str())
        .chain(layers.missing.iter().copied())
        .collect::<Vec<_>>()
        .join(" ")
}

fn layers(watched: &Watched, width: usize, theme: Theme) -> Line<'static> {
    let Some(layers) = &watched.row.layers else {
        return Line::from(theme.span(Tone::Faint, "-"));
    };
    let tone = if layers.missing.is_empty() { Tone::Good } else { Tone::Doubtful };
    let mut text = named(layers);
    if text.chars().count() > width {
        text = format!("{}/{}", layers.enforced, layers.asked());
    }
    Line::from(theme.span(tone, text))
}
