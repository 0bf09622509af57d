//! What the keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::render::Tone;
use super::model::{Command, Input, Model};
use super::page::{Page, Scroll, Subject, Text};
use super::sample::Row;

/// What a filter may have at most, in characters: ids are not longer.
const MAX_FILTER: usize = 64;

/// Key and meaning, as the help shows them.
const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "select a plugin; also Page Up, Page Down, Home, End"),
    ("Enter", "what `bulkhead inspect` says of it"),
    ("l", "its log, as it grows"),
    ("d", "disable it: within its budget nothing of it runs; asks first"),
    ("e", "enable it"),
    ("s  S", "sort by the next column, by the one before"),
    ("r", "sort the other way round"),
    ("/", "show only plugins whose id or state has a text; Esc shows all"),
    ("?  h", "this"),
    ("q  Esc", "back, and from the list: quit. Ctrl-C quits from anywhere"),
];

/// What the columns mean.
const LEGEND: &[(&str, &str)] = &[
    (
        "MEMORY",
        "of all its processes, of its limit; the bar is the share, the graph the last 5 min",
    ),
    ("CPU", "of one CPU, over the last interval; the graph is of the last 5 min"),
    ("PIDS", "its processes and threads"),
    ("STORAGE", "what it keeps in /data and in its state, of what it may"),
    ("DEATHS", "ends that nobody asked for, since the supervisor's start"),
    ("CALLS/S", "calls that it got, over the last 15 s; ERR is the share that failed"),
    ("LAYERS", "of its compartment, measured to be in force, of those asked for"),
    ("-", "cannot be measured here, or nothing of it runs"),
];

/// A key was pressed.
pub(super) fn pressed(model: &mut Model, key: KeyEvent) -> Vec<Command> {
    if key.kind == KeyEventKind::Release {
        return Vec::new();
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => vec![Command::Quit],
            _ => Vec::new(),
        };
    }
    model.notice = None;
    match std::mem::take(&mut model.input) {
        Input::Filter => filter(model, key.code),
        Input::Disable(id) => answer(model, id, key.code),
        Input::Keys if model.page.is_some() => turn(model, key.code),
        Input::Keys => choose(model, key.code),
    }
}

/// In the list.
fn choose(model: &mut Model, key: KeyCode) -> Vec<Command> {
    match key {
        KeyCode::Char('q') => return vec![Command::Quit],
        KeyCode::Esc if model.filter.is_empty() => return vec![Command::Quit],
        KeyCode::Esc => refilter(model, String::new()),
        KeyCode::Char('s' | 'S') => {
            model.order = model.order.next(key == KeyCode::Char('S'));
            model.falling = model.order.falls();
        }
        KeyCode::Char('r') => model.falling = !model.falling,
        KeyCode::Char('/') => model.input = Input::Filter,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
            model.page = Some(Page::new(Subject::Help, help()));
        }
        _ if select(model, key) => {}
        _ => return about_selected(model, key),
    }
    Vec::new()
}

/// Moves the selection, if the key is for that.
fn select(model: &mut Model, key: KeyCode) -> bool {
    let page = isize::from(model.height.saturating_sub(12).max(1).cast_signed());
    let by = match key {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown => page,
        KeyCode::Home | KeyCode::Char('g') => -isize::MAX,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => return false,
    };
    let position = model.position().unwrap_or_default();
    model.select(position.saturating_add_signed(by));
    true
}

fn about_selected(model: &mut Model, key: KeyCode) -> Vec<Command> {
    let Some(id) = model.selected.clone() else { return Vec::new() };
    match key {
        KeyCode::Enter | KeyCode::Char('i') => {
            model.page = Some(Page::new(Subject::Inspect(id.clone()), []));
            vec![Command::Inspect(id)]
        }
        KeyCode::Char('l') => {
            model.page = Some(Page::new(Subject::Log(id.clone()), []));
            vec![Command::Follow(id)]
        }
        KeyCode::Char('d') => {
            let is_done = |row: &Row| row.state == "disabled" && !row.is_wanted;
            if model.plugins.get(&id).is_some_and(|watched| is_done(&watched.row)) {
                model.say(Tone::Plain, format!("{id} is disabled already"));
            } else {
                model.input = Input::Disable(id);
            }
            Vec::new()
        }
        KeyCode::Char('e') => {
            model.say(Tone::Plain, format!("enabling {id} …"));
            vec![Command::Enable(id)]
        }
        _ => Vec::new(),
    }
}

/// Whether to disable a plugin. Whatever is not a yes is a no.
fn answer(model: &mut Model, id: String, key: KeyCode) -> Vec<Command> {
    if matches!(key, KeyCode::Char('y' | 'Y')) {
        model.say(Tone::Plain, format!("disabling {id} …"));
        return vec![Command::Disable(id)];
    }
    model.say(Tone::Plain, format!("{id} was left as it is"));
    Vec::new()
}

/// The text of the filter is typed.
fn filter(model: &mut Model, key: KeyCode) -> Vec<Command> {
    match key {
        KeyCode::Enter => return Vec::new(),
        KeyCode::Esc => {
            refilter(model, String::new());
            return Vec::new();
        }
        KeyCode::Backspace => {
            let mut text = model.filter.clone();
            text.pop();
            refilter(model, text);
        }
        KeyCode::Char(character) if model.filter.chars().count() < MAX_FILTER => {
            refilter(model, format!("{}{character}", model.filter));
        }
        KeyCode::Up | KeyCode::Down => {
            select(model, key);
        }
        _ => {}
    }
    model.input = Input::Filter;
    Vec::new()
}

fn refilter(model: &mut Model, text: String) {
    model.filter = text;
    if model.position().is_none() {
        model.select(0);
    }
}

/// On a page.
fn turn(model: &mut Model, key: KeyCode) -> Vec<Command> {
    let (width, height) = (model.page_width(), model.page_height());
    let by = match key {
        KeyCode::Char('q') | KeyCode::Esc => {
            let page = model.page.take();
            let log = page.is_some_and(|page| matches!(page.subject, Subject::Log(_)));
            return if log { vec![Command::Unfollow] } else { Vec::new() };
        }
        KeyCode::Up | KeyCode::Char('k') => Scroll::By(-1),
        KeyCode::Down | KeyCode::Char('j') | KeyCode::Enter => Scroll::By(1),
        KeyCode::PageUp | KeyCode::Char('b') => Scroll::Pages(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Scroll::Pages(1),
        KeyCode::Home | KeyCode::Char('g') => Scroll::Begin,
        KeyCode::End | KeyCode::Char('G') => Scroll::End,
        _ => return Vec::new(),
    };
    if let Some(page) = &mut model.page {
        page.scroll(by, width, height);
    }
    Vec::new()
}

fn help() -> Vec<Text> {
    let rows = |table: &'static [(&str, &str)]| {
        table.iter().map(|(word, meaning)| {
            vec![(format!("{word:<12}"), Tone::Strong), ((*meaning).to_owned(), Tone::Plain)]
        })
    };
    rows(HELP).chain([Text::new()]).chain(rows(LEGEND)).collect()
}
