//! What `top` knows, and what it makes of a message.

use std::collections::BTreeMap;

use ratatui::crossterm::event::KeyEvent;

use super::super::render::Tone;
use super::counters::{Counters, Pace};
use super::history::{History, Stretch};
use super::keys;
use super::order::Order;
use super::page::{Page, Subject, Text};
use super::sample::{Moment, Row, Sample, Storage};

/// Something that has happened.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Key(KeyEvent),
    Resized(u16, u16),
    /// The terminal is gone.
    Closed,
    /// The service was asked and has answered.
    Sampled(Sample),
    /// The service was asked and has not.
    Lost {
        at: Moment,
        problem: String,
    },
    /// What a plugin keeps on disk was measured.
    Stored {
        id: String,
        storage: Storage,
    },
    /// What a plugin used before it was watched here.
    Remembered {
        id: String,
        history: Vec<Stretch>,
    },
    Inspected {
        id: String,
        lines: Result<Vec<Text>, String>,
    },
    /// The log is read from so many lines before its end.
    LogBegins {
        id: String,
    },
    LogLine {
        id: String,
        line: Text,
    },
    LogBroken {
        id: String,
        problem: String,
    },
    /// A request to change something was answered.
    Done(Result<String, String>),
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    /// Ask for all that is watched, now.
    Refresh,
    /// Ask for what a plugin keeps on disk.
    Measure(String),
    /// Ask for what a plugin used until now.
    Remember(String),
    Inspect(String),
    /// Read a plugin's log, and no other.
    Follow(String),
    Unfollow,
    Enable(String),
    Disable(String),
}

/// A plugin that is watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) row: Row,
    /// Of one CPU, in percent, over the last interval.
    pub(super) cpu: Option<f64>,
    pub(super) storage: Option<Storage>,
    pub(super) counters: Counters,
    pub(super) pace: Pace,
    pub(super) history: History,
}

/// What is typed goes there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    #[default]
    Keys,
    Filter,
    /// The answer whether to disable that plugin.
    Disable(String),
}

/// What is said about the last thing that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// The service does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) since: Moment,
    pub(super) problem: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) now: Moment,
    pub(super) plugins: BTreeMap<String, Watched>,
    pub(super) lost: Option<Lost>,
    pub(super) order: Order,
    pub(super) falling: bool,
    /// Only plugins whose id or state has it are shown.
    pub(super) filter: String,
    /// The id of the plugin that keys are about.
    pub(super) selected: Option<String>,
    pub(super) input: Input,
    pub(super) page: Option<Page>,
    pub(super) notice: Option<Notice>,
    pub(super) width: u16,
    pub(super) height: u16,
}

impl Model {
    pub(super) fn new(width: u16, height: u16) -> Self {
        Self { width, height, ..Self::default() }
    }

    /// The plugins that are shown, in their order.
    pub(super) fn visible(&self) -> Vec<&Watched> {
        let matches = |watched: &&Watched| {
            let row = &watched.row;
            row.id.contains(&self.filter) || row.standing().0.contains(&self.filter)
        };
        let mut visible: Vec<&Watched> = self.plugins.values().filter(matches).collect();
        visible.sort_by(|one, other| self.order.compare(self.falling, one, other));
        visible
    }

    /// Where the selected plugin is among those that are shown.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.visible().iter().position(|watched| watched.row.id == *selected)
    }

    pub(super) fn select(&mut self, position: usize) {
        let visible = self.visible();
        let chosen = visible.get(position.min(visible.len().saturating_sub(1)));
        self.selected = chosen.map(|watched| watched.row.id.clone());
    }

    pub(super) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone });
    }

    /// Rows of a page between its head and the line of keys.
    pub(super) fn page_height(&self) -> usize {
        usize::from(self.height.saturating_sub(2))
    }

    /// Columns of a page, but for its margins.
    pub(super) fn page_width(&self) -> usize {
        usize::from(self.width.saturating_sub(2))
    }

    fn page_of(&mut self, subject: &Subject) -> Option<&mut Page> {
        self.page.as_mut().filter(|page| page.subject == *subject)
    }
}

/// Takes a message in; what is to be done about it.
pub(super) fn update(model: &mut Model, message: Message) -> Vec<Command> {
    match message {
        Message::Key(key) => return keys::pressed(model, key),
        Message::Resized(width, height) => (model.width, model.height) = (width, height),
        Message::Closed => return vec![Command::Quit],
        Message::Sampled(sample) => return sampled(model, sample),
        Message::Lost { at, problem } => {
            model.now = at;
            let since = model.lost.take().map_or(at, |lost| lost.since);
            model.lost = Some(Lost { since, problem });
        }
        Message::Stored { id, storage } => {
            if let Some(watched) = model.plugins.get_mut(&id) {
                watched.storage = Some(storage);
            }
        }
        Message::Remembered { id, history } => {
            if let Some(watched) = model.plugins.get_mut(&id) {
                watched.history.put_before(&history);
            }
        }
        Message::Inspected { id, lines } => {
            if let Some(page) = model.page_of(&Subject::Inspect(id)) {
                match lines {
                    Ok(lines) => page.set(lines),
                    Err(problem) => page.problem = Some(problem),
                }
            }
        }
        Message::LogBegins { id } => {
            if let Some(page) = model.page_of(&Subject::Log(id)) {
                page.set([]);
            }
        }
        Message::LogLine { id, line } => {
            let width = model.page_width();
            if let Some(page) = model.page_of(&Subject::Log(id)) {
                page.push(line, width);
            }
        }
        Message::LogBroken { id, problem } => {
            if let Some(page) = model.page_of(&Subject::Log(id)) {
                page.problem = Some(problem);
            }
        }
        Message::Done(outcome) => {
            match outcome {
                Ok(text) => model.say(Tone::Good, text),
                Err(text) => model.say(Tone::Bad, text),
            }
            return vec![Command::Refresh];
        }
    }
    Vec::new()
}

fn sampled(model: &mut Model, sample: Sample) -> Vec<Command> {
    let Sample { at, rows, counters } = sample;
    let position = model.position();
    let mut earlier = std::mem::take(&mut model.plugins);
    let mut commands = Vec::new();
    for row in rows {
        let counters = counters.get(&row.id).copied().unwrap_or_default();
        let mut watched = earlier.remove(&row.id).unwrap_or_else(|| {
            commands.push(Command::Remember(row.id.clone()));
            Watched::default()
        });
        let generation = |row: &Row| row.process.map(|process| process.generation);
        let changed =
            watched.row.state != row.state || generation(&watched.row) != generation(&row);
        if changed {
            commands.push(Command::Measure(row.id.clone()));
        }
        watched.cpu = row.cpu_since(&watched.row);
        // While the service did not answer, nobody has looked.
        let from = if model.lost.is_some() { at } else { model.now.min(at) };
        watched.history.push(Stretch { from, to: at, memory: row.memory, cpu: watched.cpu });
        watched.pace.push(at, counters);
        watched.counters = counters;
        watched.row = row;
        model.plugins.insert(watched.row.id.clone(), watched);
    }
    (model.now, model.lost) = (at, None);
    if model.position().is_none() {
        // Its neighbour, where it is gone.
        model.select(position.unwrap_or_default());
    }
    if let Some(Page { subject: Subject::Inspect(id), .. }) = &model.page {
        commands.push(Command::Inspect(id.clone()));
    }
    commands
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
