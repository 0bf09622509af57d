use std::collections::BTreeMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::cli::top::sample::Process;

fn row(id: &str, state: &str, generation: u64, uptime_ms: u64) -> Row {
    let process = (generation > 0).then_some(Process {
        generation,
        pid: 100 + generation as i64,
        uptime_ms,
        // A tenth of one CPU.
        cpu_usec: Some(uptime_ms * 100),
    });
    Row { id: id.to_owned(), state: state.to_owned(), process, ..Row::default() }
}

fn sample(at: Moment, rows: Vec<Row>) -> Message {
    Message::Sampled(Sample { at, rows, counters: BTreeMap::new() })
}

fn press(model: &mut Model, key: KeyCode) -> Vec<Command> {
    update(model, Message::Key(KeyEvent::from(key)))
}

fn typed(model: &mut Model, text: &str) {
    for character in text.chars() {
        assert_eq!(press(model, KeyCode::Char(character)), []);
    }
}

/// `a` and `c` run, `b` is disabled; `a` is selected.
fn three() -> Model {
    let mut model = Model::new(80, 24);
    let rows = vec![
        row("a", "enabled", 1, 1_000),
        row("b", "disabled", 0, 0),
        row("c", "enabled", 2, 500),
    ];
    update(&mut model, sample(10, rows));
    model
}

fn ids(model: &Model) -> Vec<&str> {
    model.visible().iter().map(|watched| watched.row.id.as_str()).collect()
}

#[test]
fn what_is_new_is_asked_about_once() {
    let mut model = Model::new(80, 24);
    let rows = |state, generation| vec![row("a", state, generation, 1_000)];
    let commands = update(&mut model, sample(0, rows("enabled", 1)));
    assert_eq!(commands, [Command::Remember("a".into()), Command::Measure("a".into())]);
    assert_eq!(model.selected.as_deref(), Some("a"));
    assert_eq!(update(&mut model, sample(2_000, rows("enabled", 1))), []);
    let measured = [Command::Measure("a".into())];
    assert_eq!(update(&mut model, sample(4_000, rows("enabled", 2))), measured, "it was restarted");
    assert_eq!(update(&mut model, sample(6_000, rows("disabled", 0))), measured);
}

#[test]
fn cpu_and_history_are_of_the_time_between_two_samples() {
    let mut model = three();
    assert_eq!(model.plugins["a"].cpu, None);
    update(&mut model, sample(2_010, vec![row("a", "enabled", 1, 3_000)]));
    assert_eq!(model.plugins["a"].cpu, Some(10.0));
    let parts = model.plugins["a"].history.parts(2_010, 4_000, 2, |stretch| stretch.cpu);
    assert_eq!(parts, [Some(10.0), Some(10.0)]);
    assert_eq!(ids(&model), ["a"], "what is uninstalled is gone");
}

#[test]
fn a_service_that_goes_away_is_said_and_comes_back() {
    let mut model = three();
    let lost = |at| Message::Lost { at, problem: "nobody answers".to_owned() };
    update(&mut model, lost(1_000));
    update(&mut model, lost(9_000));
    let since = model.lost.as_ref().map(|lost| lost.since);
    assert_eq!((since, model.now), (Some(1_000), 9_000));
    assert_eq!(ids(&model), ["a", "b", "c"], "what was known stays in sight");
    update(&mut model, sample(10_000, vec![row("a", "enabled", 1, 11_000)]));
    assert_eq!(model.lost, None);
    // Nobody has looked meanwhile.
    let parts = model.plugins["a"].history.parts(10_000, 10_000, 10, |stretch| stretch.cpu);
    assert_eq!(parts[1..9], [None; 8]);
}

#[test]
fn the_selection_stays_with_its_plugin() {
    let mut model = three();
    assert_eq!(press(&mut model, KeyCode::Down), []);
    assert_eq!(model.selected.as_deref(), Some("b"));
    press(&mut model, KeyCode::Char('r'));
    assert_eq!(ids(&model), ["c", "b", "a"]);
    assert_eq!(model.selected.as_deref(), Some("b"));
    press(&mut model, KeyCode::Char('j'));
    press(&mut model, KeyCode::Char('j'));
    assert_eq!(model.selected.as_deref(), Some("a"), "and no further");
    press(&mut model, KeyCode::Home);
    assert_eq!(model.selected.as_deref(), Some("c"));
    update(&mut model, sample(20, vec![row("a", "enabled", 1, 1_000), row("b", "disabled", 0, 0)]));
    assert_eq!(model.selected.as_deref(), Some("b"), "its neighbour, where it is gone");
}

#[test]
fn sorting_goes_through_the_columns_and_back() {
    let mut model = three();
    press(&mut model, KeyCode::Char('s'));
    assert_eq!((model.order, model.falling), (Order::State, false));
    assert_eq!(ids(&model), ["b", "a", "c"]);
    press(&mut model, KeyCode::Char('s'));
    assert_eq!((model.order, model.falling), (Order::Uptime, true));
    assert_eq!(ids(&model), ["a", "c", "b"]);
    press(&mut model, KeyCode::Char('r'));
    assert_eq!(ids(&model), ["c", "a", "b"], "what is not known is last either way");
    press(&mut model, KeyCode::Char('S'));
    press(&mut model, KeyCode::Char('S'));
    assert_eq!(model.order, Order::Id);
    press(&mut model, KeyCode::Char('S'));
    assert_eq!(model.order, Order::Layers);
}

#[test]
fn a_filter_is_typed_and_taken_back() {
    let mut model = three();
    typed(&mut model, "/q");
    assert!(ids(&model).is_empty() && model.selected.is_none(), "a letter, and no key");
    press(&mut model, KeyCode::Backspace);
    typed(&mut model, "disab");
    press(&mut model, KeyCode::Enter);
    assert_eq!((ids(&model), model.selected.as_deref()), (vec!["b"], Some("b")));
    assert_eq!(press(&mut model, KeyCode::Esc), [], "the first shows all");
    assert_eq!(ids(&model).len(), 3);
    assert_eq!(press(&mut model, KeyCode::Esc), [Command::Quit]);
}

#[test]
fn disabling_asks_first() {
    let mut model = three();
    typed(&mut model, "d");
    assert_eq!(model.input, Input::Disable("a".into()));
    assert_eq!(press(&mut model, KeyCode::Enter), [], "no yes");
    assert_eq!(model.input, Input::Keys);
    typed(&mut model, "d");
    // Who has pressed the key meant the plugin that was selected then.
    update(&mut model, sample(20, vec![row("b", "disabled", 0, 0), row("c", "enabled", 2, 500)]));
    assert_eq!(press(&mut model, KeyCode::Char('y')), [Command::Disable("a".into())]);
    let failed = "CONFLICT: b needs it".to_owned();
    assert_eq!(update(&mut model, Message::Done(Err(failed.clone()))), [Command::Refresh]);
    assert_eq!(model.notice, Some(Notice { text: failed, tone: Tone::Bad }));
    typed(&mut model, "r");
    assert_eq!(model.notice, None);
}

#[test]
fn what_is_disabled_is_enabled_and_not_disabled() {
    let mut model = three();
    press(&mut model, KeyCode::Down);
    typed(&mut model, "d");
    assert_eq!(model.input, Input::Keys);
    assert!(model.notice.as_ref().is_some_and(|notice| notice.text.contains("b is disabled")));
    assert_eq!(press(&mut model, KeyCode::Char('e')), [Command::Enable("b".into())]);
}

#[test]
fn a_page_is_of_one_plugin_and_kept_fresh() {
    let mut model = three();
    assert_eq!(press(&mut model, KeyCode::Enter), [Command::Inspect("a".into())]);
    let lines = |text: &str| Ok(vec![vec![(text.to_owned(), Tone::Plain)]]);
    update(&mut model, Message::Inspected { id: "b".into(), lines: lines("of another") });
    update(&mut model, Message::Inspected { id: "a".into(), lines: lines("it runs") });
    let shown = model.page.as_ref().map(|page| page.shown(80, 10).0);
    assert_eq!(shown, Some(lines("it runs").unwrap()));
    let rows = vec![row("a", "enabled", 1, 1_000)];
    assert_eq!(update(&mut model, sample(20, rows)), [Command::Inspect("a".into())]);
    assert_eq!(press(&mut model, KeyCode::Char('q')), []);
    assert!(model.page.is_none());
    assert_eq!(press(&mut model, KeyCode::Char('l')), [Command::Follow("a".into())]);
    assert_eq!(press(&mut model, KeyCode::Esc), [Command::Unfollow]);
    assert_eq!(press(&mut model, KeyCode::Char('q')), [Command::Quit]);
}

#[test]
fn a_log_begins_anew_when_it_is_read_again() {
    let mut model = three();
    press(&mut model, KeyCode::Char('l'));
    let line = |text: &str| Message::LogLine {
        id: "a".into(),
        line: vec![(text.to_owned(), Tone::Plain)],
    };
    update(&mut model, Message::LogBegins { id: "a".into() });
    update(&mut model, line("one"));
    update(&mut model, Message::LogBroken { id: "a".into(), problem: "away".into() });
    assert_eq!(model.page.as_ref().and_then(|page| page.problem.as_deref()), Some("away"));
    update(&mut model, Message::LogBegins { id: "a".into() });
    update(&mut model, line("one"));
    update(&mut model, line("two"));
    let page = model.page.as_ref().unwrap();
    assert_eq!((page.shown(80, 10).0.len(), &page.problem), (2, &None));
}

#[test]
fn control_c_quits_from_anywhere() {
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for keys in ["", "/c", "d", "?", "l"] {
        let mut model = three();
        for character in keys.chars() {
            press(&mut model, KeyCode::Char(character));
        }
        assert_eq!(update(&mut model, Message::Key(control_c)), [Command::Quit], "{keys:?}");
    }
    assert_eq!(update(&mut three(), Message::Closed), [Command::Quit]);
}

#[test]
fn without_a_plugin_no_key_asks_for_anything() {
    let mut model = Model::new(80, 24);
    update(&mut model, sample(0, Vec::new()));
    for key in ['d', 'e', 'l', 'j', 'k', 'G', 's', 'r', 'i'] {
        assert_eq!(press(&mut model, KeyCode::Char(key)), [], "{key}");
    }
}
