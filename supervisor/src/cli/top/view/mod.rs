//! What is on the screen, from the model and nothing else.

mod blocks;
mod columns;
mod list;
mod theme;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::super::render::{Tone, short_bytes, short_span};
use super::model::{Input, Model};
use super::page::{Page, Subject, fold};
pub(super) use theme::Theme;

/// The keys of the list, the most useful first.
const KEYS: [(&str, &str); 9] = [
    ("q", "quit"),
    ("?", "help"),
    ("Enter", "inspect"),
    ("l", "log"),
    ("d", "disable"),
    ("e", "enable"),
    ("s", "sort"),
    ("r", "reverse"),
    ("/", "filter"),
];
const FILTER: &str = "filter: ";
const PAGE_KEYS: [(&str, &str); 3] = [("q", "back"), ("↑ ↓", "scroll"), ("g G", "begin, end")];

/// Draws all of it.
pub(super) fn draw(model: &Model, theme: Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.height < 3 || area.width < 10 {
        put(buffer, area, 0, 0, &Line::raw("too small"));
        return;
    }
    let said = said(model, theme, usize::from(area.width.saturating_sub(2)));
    let said: Vec<Line> = said.into_iter().take(usize::from(area.height / 3)).collect();
    let foot = Rect { y: area.bottom() - said.len() as u16, height: said.len() as u16, ..area };
    let body = Rect { y: area.y + 1, height: area.height - 1 - foot.height, ..area };
    if let Some(page) = &model.page {
        draw_page(page, theme, area, body, buffer);
    } else {
        head(model, theme, area, buffer);
        let body = Rect { y: body.y + 1, height: body.height - 1, ..body };
        list::draw(model, theme, body, buffer);
    }
    for (row, line) in said.iter().enumerate() {
        put(buffer, foot, 1, row as u16, line);
    }
    if model.input == Input::Filter {
        let x = 1 + FILTER.len() + model.filter.chars().count();
        frame.set_cursor_position((foot.x + (x as u16).min(area.width - 1), foot.y));
    }
}

/// What there is in all; or that nobody answers.
fn head(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let rows = || model.plugins.values().map(|watched| &watched.row);
    let enabled = rows().filter(|row| row.state == "enabled").count();
    let count = model.plugins.len();
    let noun = if count == 1 { "plugin" } else { "plugins" };
    let mut line = vec![
        theme.span(Tone::Strong, "bulkhead"),
        Span::raw(format!("  {count} {noun}, {enabled} enabled")),
    ];
    if !model.filter.is_empty() {
        let shown = model.visible().len();
        let text = format!("  {shown} with {:?}", model.filter);
        line.push(theme.span(Tone::Doubtful, text));
    }
    let memory: Vec<u64> = rows().filter_map(|row| row.memory).collect();
    if !memory.is_empty() {
        line.push(theme.span(Tone::Faint, "  memory "));
        line.push(Span::raw(short_bytes(memory.iter().sum())));
    }
    let cpu: Vec<f64> = model.plugins.values().filter_map(|watched| watched.cpu).collect();
    if !cpu.is_empty() {
        line.push(theme.span(Tone::Faint, "  cpu "));
        line.push(Span::raw(columns::percent(cpu.iter().sum())));
    }
    put(buffer, area, 1, 0, &Line::from(line));
    if let Some(lost) = &model.lost {
        let since = (model.now - lost.since).max(0).unsigned_abs();
        let text = format!(" the service has not answered for {} ", short_span(since));
        let line = Line::from(theme.span(Tone::Bad, text));
        let x = area.width.saturating_sub(line.width() as u16 + 1);
        put(buffer, area, x, 0, &line);
    }
}

/// The last lines: a question, what is typed, what was done, what is wrong, or the keys.
fn said(model: &Model, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let folded = |tone: Tone, text: &str| {
        let text = vec![(text.replace('\n', " "), tone)];
        fold(&text, width).iter().map(|row| theme.line(row)).collect()
    };
    match (&model.input, &model.notice, &model.lost) {
        (Input::Disable(id), ..) => {
            folded(Tone::Strong, &format!("disable {id}? its process is stopped  [y/n]"))
        }
        (Input::Filter, ..) => vec![Line::from(vec![
            theme.span(Tone::Faint, FILTER),
            theme.span(Tone::Strong, model.filter.clone()),
        ])],
        (_, Some(notice), _) => folded(notice.tone, &notice.text),
        (_, _, Some(lost)) => folded(Tone::Bad, &lost.problem),
        _ if model.page.is_some() => vec![keys(&PAGE_KEYS, theme, width)],
        _ => vec![keys(&KEYS, theme, width)],
    }
}

/// As many keys as there is room for.
fn keys(keys: &[(&str, &str)], theme: Theme, width: usize) -> Line<'static> {
    let mut line = Line::default();
    for (key, meaning) in keys {
        let gap = if line.spans.is_empty() { "" } else { "   " };
        let (key, meaning) = (format!("{gap}{key}"), format!(" {meaning}"));
        if line.width() + key.chars().count() + meaning.chars().count() > width {
            break;
        }
        line.push_span(theme.span(Tone::Strong, key));
        line.push_span(theme.span(Tone::Faint, meaning));
    }
    line
}

fn draw_page(page: &Page, theme: Theme, area: Rect, body: Rect, buffer: &mut Buffer) {
    let (what, id) = match &page.subject {
        Subject::Help => ("help", ""),
        Subject::Inspect(id) => ("inspect", id.as_str()),
        Subject::Log(id) => ("log", id.as_str()),
    };
    let width = usize::from(body.width.saturating_sub(2));
    let (rows, above, below) = page.shown(width, usize::from(body.height));
    let mut title = vec![
        theme.span(Tone::Strong, what),
        Span::raw(if id.is_empty() { String::new() } else { format!(" {id}") }),
    ];
    if above + below > 0 {
        title.push(theme.span(Tone::Faint, format!("  {above} rows above, {below} below")));
    }
    if let Some(problem) = &page.problem {
        title.push(theme.span(Tone::Bad, format!("  {}", problem.replace('\n', " "))));
    }
    put(buffer, area, 1, 0, &Line::from(title));
    for (row, text) in rows.iter().enumerate() {
        put(buffer, body, 1, row as u16, &theme.line(text));
    }
}

/// Writes a line within an area, cut where that ends.
fn put(buffer: &mut Buffer, area: Rect, x: u16, y: u16, line: &Line<'_>) {
    if y < area.height && x < area.width {
        let width = area.width - x;
        let line = cut(line, usize::from(width));
        buffer.set_line(area.x + x, area.y + y, &line, width);
    }
}

/// The line, or as much of it as there is room for, with a sign that there was more.
fn cut<'a>(line: &Line<'a>, width: usize) -> Line<'a> {
    if line.width() <= width {
        return line.clone();
    }
    let mut room = width.saturating_sub(1);
    let mut shorter = Line::default();
    for span in &line.spans {
        let text: String = span.content.chars().take(room).collect();
        room -= text.chars().count();
        shorter.push_span(Span::styled(text, span.style));
        if room == 0 {
            break;
        }
    }
    shorter.push_span(Span::raw("…"));
    shorter
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
