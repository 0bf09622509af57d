//! The list of the plugins, and more of the one that is selected.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::blocks;
use super::columns::{Column, GAP, fit, memory, percent, pressure};
use super::theme::Theme;
use super::{cut, put};
use crate::cli::render::{Tone, bytes, span};
use crate::cli::top::history::{KEPT, Stretch};
use crate::cli::top::model::{Model, Watched};

/// Rows of the part below the list, with its head.
const DETAIL: u16 = 8;
/// Rows of the list that there must be besides.
const LIST: u16 = 6;
const GRAPH_ROWS: usize = 3;

pub(super) fn draw(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let visible = model.visible();
    if visible.is_empty() {
        nothing(model, theme, area, buffer);
        return;
    }
    let detailed = area.height >= DETAIL + LIST;
    let below = if detailed { DETAIL } else { 0 };
    let list = Rect { height: area.height - below, ..area };
    rows(model, &visible, theme, list, buffer);
    let selected = model.selected.as_ref().and_then(|id| model.plugins.get(id));
    if let Some(selected) = selected.filter(|_| detailed) {
        let area = Rect { y: area.y + list.height, height: below, ..area };
        detail(model, selected, theme, area, buffer);
    }
}

fn nothing(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let text = if model.plugins.is_empty() {
        "no plugin is installed; `bulkhead install FILE` installs one".to_owned()
    } else {
        format!("no plugin has {:?} in its id or its state; Esc shows all", model.filter)
    };
    put(buffer, area, 1, 1, &Line::from(theme.span(Tone::Faint, text)));
}

fn rows(model: &Model, visible: &[&Watched], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let columns = fit(area.width.saturating_sub(2), visible);
    head(model, &columns, theme, area, buffer);
    let height = usize::from(area.height.saturating_sub(1));
    let selected = model.position();
    // The selected one stays in the middle, as far as there are others above and below it.
    let most = visible.len().saturating_sub(height);
    let first = selected.unwrap_or_default().saturating_sub(height / 2).min(most);
    for (index, watched) in visible.iter().enumerate().skip(first).take(height) {
        let y = area.y + 1 + (index - first) as u16;
        let mut x = area.x + 1;
        for (column, width) in &columns {
            let cell = column.cell(watched, model.now, usize::from(*width), theme);
            aligned(buffer, (x, y), *column, *width, &cell);
            x += width + GAP;
        }
        let row = Rect { y, height: 1, ..area };
        if selected == Some(index) {
            buffer.set_style(row, Style::reset());
            buffer.set_style(row, Theme::chosen());
        } else if model.lost.is_some() {
            buffer.set_style(row, theme.style(Tone::Faint));
        }
    }
}

fn head(model: &Model, columns: &[(Column, u16)], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let mut x = area.x + 1;
    for (column, width) in columns {
        let title = if column.order() == Some(model.order) {
            let mark = if model.falling { "▼" } else { "▲" };
            let room = usize::from(*width + GAP) > column.title().len();
            let mark = if room { mark } else { "" };
            theme.span(Tone::Strong, format!("{}{mark}", column.title()))
        } else {
            theme.span(Tone::Faint, column.title())
        };
        let title = Line::from(title);
        // The mark may stand in the gap.
        let over = (title.width() as u16).saturating_sub(*width);
        let at = (x.saturating_sub(if column.leans_right() { over } else { 0 }), area.y);
        aligned(buffer, at, *column, width + over, &title);
        x += width + GAP;
    }
}

fn aligned(buffer: &mut Buffer, at: (u16, u16), column: Column, width: u16, line: &Line<'_>) {
    let (x, y) = at;
    if !buffer.area.contains(at.into()) {
        return;
    }
    let line = cut(line, usize::from(width));
    let indent = if column.leans_right() { width.saturating_sub(line.width() as u16) } else { 0 };
    buffer.set_line(x + indent, y, &line, width - indent);
}

/// Its graphs over the last quarter of an hour, its compartment and its last end.
fn detail(model: &Model, watched: &Watched, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let row = &watched.row;
    let (state, tone) = row.standing();
    let mut title = vec![
        theme.span(Tone::Faint, "── "),
        theme.span(Tone::Strong, row.id.clone()),
        Span::raw(format!(" {}  ", row.version)),
        theme.span(tone, state),
    ];
    if let Some(process) = row.process {
        title.push(Span::raw(format!("  pid {}  up {}", process.pid, span(process.uptime_ms))));
    }
    let counters = watched.counters;
    if counters.deaths + counters.restarts > 0 {
        let text = format!("  {} deaths, {} restarts", counters.deaths, counters.restarts);
        title.push(theme.span(Tone::Doubtful, text));
    }
    title.push(Span::raw(" "));
    let used: usize = title.iter().map(Span::width).sum();
    let rest = usize::from(area.width).saturating_sub(used + 2);
    title.push(theme.span(Tone::Faint, "─".repeat(rest)));
    put(buffer, area, 1, 0, &Line::from(title));

    let half = (area.width.saturating_sub(4)) / 2;
    let share = row
        .memory
        .zip(row.memory_limit)
        .map_or(0.0, |(used, limit)| used as f64 / limit.max(1) as f64);
    let memory_text = match (row.memory, row.memory_limit) {
        (Some(used), Some(limit)) => format!("{} of {}", bytes(used), bytes(limit)),
        (Some(used), None) => bytes(used),
        (None, _) if row.process.is_some() => "not measured here".to_owned(),
        (None, _) => "-".to_owned(),
    };
    let limit = row.cpu_limit.as_ref().map(|limit| format!(" of {limit}")).unwrap_or_default();
    let cpu_text = watched.cpu.map_or_else(|| "-".to_owned(), |cpu| percent(cpu) + &limit);
    let left = Rect { x: area.x + 1, y: area.y + 1, width: half, height: 1 + GRAPH_ROWS as u16 };
    let right = Rect { x: left.x + half + 2, ..left };
    let title = |name: &str, text: String, tone: Tone| {
        Line::from(vec![theme.span(Tone::Faint, format!("{name}  ")), theme.span(tone, text)])
    };
    let memory_title = title("memory", memory_text, pressure(share));
    graph(model, watched, theme, left, buffer, (&memory_title, 0.0), memory);
    let cpu_title = title("cpu", cpu_text, Tone::Plain);
    graph(model, watched, theme, right, buffer, (&cpu_title, 4.0), |stretch| stretch.cpu);
    put(buffer, area, 1, 6, &compartment(watched, theme));
    if let Some(exit) =
        row.last_exit.as_ref().filter(|_| row.process.is_none() || counters.deaths > 0)
    {
        let exit = exit.replace('\n', " ");
        let line = vec![theme.span(Tone::Faint, "last exit  "), Span::raw(exit)];
        put(buffer, area, 1, 7, &Line::from(line));
    }
}

fn compartment(watched: &Watched, theme: Theme) -> Line<'static> {
    let name = theme.span(Tone::Faint, "compartment  ");
    let Some(layers) = &watched.row.layers else {
        return Line::from(vec![name, theme.span(Tone::Faint, "nothing of it runs")]);
    };
    let (all, enforced) = (layers.asked(), layers.enforced);
    let verdict = if layers.missing.is_empty() {
        theme.span(Tone::Good, format!("all {all} layers are in force"))
    } else {
        let missing = layers.missing.join(", ");
        theme.span(Tone::Doubtful, format!("{enforced} of {all} layers; missing: {missing}"))
    };
    Line::from(vec![name, verdict])
}

/// A graph of the last quarter of an hour below its title. `least` is the least that its top is.
fn graph(
    model: &Model,
    watched: &Watched,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
    (title, least): (&Line<'_>, f64),
    value: impl Fn(&Stretch) -> Option<f64>,
) {
    put(buffer, area, 0, 0, title);
    let parts = watched.history.parts(model.now, KEPT, usize::from(area.width), value);
    let graph = blocks::graph(&parts, blocks::scale(&parts, least), GRAPH_ROWS);
    for (row, text) in graph.into_iter().enumerate() {
        put(buffer, area, 0, row as u16 + 1, &Line::from(Span::styled(text, theme.graph())));
    }
}
