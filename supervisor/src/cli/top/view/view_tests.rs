use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::cli::top::counters::Counters;
use crate::cli::top::model::{Message, update};
use crate::cli::top::sample::{Layers, Process, Row, Sample, Storage};

/// A service with a plugin that is well, one that is not, and one that is disabled.
fn model(width: u16, height: u16) -> Model {
    let mut model = Model::new(width, height);
    let running = |id: &str, memory: u64, cpu_usec: u64, at: u64| Row {
        id: id.to_owned(),
        version: "1.2.0".to_owned(),
        state: "enabled".to_owned(),
        is_wanted: true,
        process: Some(Process {
            generation: 1,
            pid: 4242,
            uptime_ms: 192_000 + at,
            cpu_usec: Some(cpu_usec),
        }),
        memory: Some(memory),
        memory_limit: Some(64 << 20),
        cpu_limit: Some("20%".to_owned()),
        pids: Some(4),
        pids_limit: Some(32),
        storage_limit: Some(256 << 20),
        layers: Some(Layers { enforced: 14, missing: Vec::new() }),
        last_exit: None,
    };
    let mut cpu = [0, 0];
    for step in 0..400_u64 {
        let at = step * 2_000;
        let wave = 6.0 + 5.0 * (step as f64 / 30.0).sin();
        cpu[0] += (wave * 20_000.0) as u64;
        cpu[1] += if step % 40 < 4 { 300_000 } else { 1_000 };
        let memory = (12 << 20) + step * 16_384;
        let mut busy = running("scheduler", 60 << 20, cpu[1], at);
        busy.layers = Some(Layers { enforced: 12, missing: vec!["memory", "pids"] });
        let idle = Row {
            id: "reminders".to_owned(),
            version: "0.3.1".to_owned(),
            state: "disabled".to_owned(),
            last_exit: Some("it exited with code 1".to_owned()),
            storage_limit: Some(256 << 20),
            ..Row::default()
        };
        let counters = |deaths, calls, failed| Counters { restarts: deaths, deaths, calls, failed };
        let sample = Sample {
            at: at as i64,
            rows: vec![running("appointments", memory, cpu[0], at), idle, busy],
            counters: BTreeMap::from([
                ("appointments".to_owned(), counters(0, step * 25, 0)),
                ("scheduler".to_owned(), counters(2, step * 2, step / 2)),
            ]),
        };
        update(&mut model, Message::Sampled(sample));
    }
    let storage = Storage { used: 1_300_000, hard_limit: None };
    update(&mut model, Message::Stored { id: "appointments".to_owned(), storage });
    model
}

fn press(model: &mut Model, code: KeyCode) {
    update(model, Message::Key(KeyEvent::from(code)));
}

fn drawn(model: &Model, colour: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(model.width, model.height)).unwrap();
    let theme = Theme::new(colour);
    terminal.draw(|frame| draw(model, theme, frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let row = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect();
    buffer.content().chunks(width).map(row).collect()
}

fn shown(model: &Model) -> String {
    text(&drawn(model, true)).join("\n")
}

#[test]
fn on_a_wide_terminal_all_is_there() {
    let text = shown(&model(170, 40));
    for part in [
        "bulkhead  3 plugins, 2 enabled  memory 78.2M  cpu ",
        "PLUGIN▲",
        "VERSION",
        "STATE",
        "PID",
        "UP",
        "MEMORY",
        "CPU",
        "PIDS",
        "STORAGE",
        "DEATHS",
        "CALLS/S",
        "ERR",
        "LAYERS",
        "4242",
        "16m30s",
        "18.2M/64M",
        "━━──────",
        "4/32",
        "1.2M/256M",
        "12.5",
        "14/14",
        "12/14 memory pids",
        "all 14 layers are in force",
        "of 64 MiB",
        "q quit",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn columns_give_way_to_a_narrow_terminal() {
    for (width, there, gone) in [
        (140, vec!["STORAGE", "DEATHS", "CALLS/S", "LAYERS", "12/14"], vec![]),
        (80, vec!["STATE", "UP", "MEMORY", "CPU", "LAYERS", "12/14"], vec!["STORAGE", "VERSION"]),
        (40, vec!["PLUGIN", "STATE", "enabled", "60M/64M"], vec!["LAYERS", "UP "]),
        (24, vec!["PLUGIN", "appointments"], vec!["MEMORY", "LAYERS"]),
        (12, vec!["PLUGIN"], vec!["STATE"]),
    ] {
        let text = shown(&model(width, 24));
        for part in there {
            assert!(text.contains(part), "{width}: no {part:?} in\n{text}");
        }
        for part in gone {
            assert!(!text.contains(part), "{width}: {part:?} in\n{text}");
        }
    }
}

#[test]
fn the_selected_row_stands_out_without_colour_as_well() {
    for colour in [true, false] {
        let mut model = model(80, 24);
        press(&mut model, KeyCode::Down);
        let buffer = drawn(&model, colour);
        let reversed: Vec<usize> = (0..24)
            .filter(|y| buffer[(1, *y as u16)].modifier.contains(Modifier::REVERSED))
            .collect();
        assert_eq!(reversed, [4], "{}", text(&buffer).join("\n"));
        let coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(coloured, colour);
    }
}

#[test]
fn a_service_that_is_away_is_said() {
    let mut model = model(100, 24);
    let now = model.now;
    let problem = "no service answers on /run/x".to_owned();
    update(&mut model, Message::Lost { at: now, problem: problem.clone() });
    update(&mut model, Message::Lost { at: now + 12_345, problem });
    let text = shown(&model);
    for part in ["has not answered for 12s", "no service answers on /run/x", "appointments"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn questions_errors_and_what_is_typed_are_in_the_last_lines() {
    let mut model = model(60, 24);
    press(&mut model, KeyCode::Char('d'));
    let last = |model: &Model| text(&drawn(model, true)).pop().unwrap();
    assert!(last(&model).contains("disable appointments?") && last(&model).contains("[y/n]"));
    press(&mut model, KeyCode::Char('y'));
    assert!(last(&model).contains("disabling appointments"));
    let error = "DEPENDENTS_ENABLED: scheduler depends on appointments; disable that before it";
    update(&mut model, Message::Done(Err(error.to_owned())));
    // An error that is longer than the screen is wide goes on in the next line.
    let text = text(&drawn(&model, true));
    assert!(text[22].contains("DEPENDENTS_ENABLED") && text[23].contains("before it"), "{text:?}");
    press(&mut model, KeyCode::Char('/'));
    for character in "sched".chars() {
        press(&mut model, KeyCode::Char(character));
    }
    assert!(last(&model).starts_with(" filter: sched "));
    let shown = shown(&model);
    assert!(shown.contains("1 with \"sched\"") && !shown.contains("appointments"), "{shown}");
    press(&mut model, KeyCode::Char('x'));
    let shown = self::shown(&model);
    assert!(shown.contains("no plugin has \"schedx\""), "{shown}");
}

#[test]
fn pages_cover_the_list() {
    let mut model = model(80, 24);
    press(&mut model, KeyCode::Char('?'));
    let text = shown(&model);
    assert!(text.starts_with(" help") && text.contains("q back") && !text.contains("PLUGIN"));
    for (key, _) in KEYS.iter().filter(|(key, _)| *key != "q") {
        assert!(text.contains(&format!("\n {key}")) || text.contains(&format!(" {key} ")), "{key}");
    }
    press(&mut model, KeyCode::Esc);
    press(&mut model, KeyCode::Enter);
    let lines: Vec<_> = (0..50).map(|row| vec![(format!("row {row}"), Tone::Plain)]).collect();
    let id = "appointments".to_owned();
    update(&mut model, Message::Inspected { id, lines: Ok(lines) });
    press(&mut model, KeyCode::End);
    let text = shown(&model);
    assert!(text.contains("inspect appointments  28 rows above, 0 below"), "{text}");
    assert!(text.contains("row 49") && !text.contains("row 27"), "{text}");
}

#[test]
fn any_size_is_drawn() {
    let begun = model(80, 24);
    for width in [1, 2, 9, 10, 11, 30, 79, 300] {
        for height in [1, 2, 3, 4, 5, 13, 14, 15, 60] {
            for keys in ["", "?", "d", "/x", "i"] {
                let mut model = begun.clone();
                for character in keys.chars() {
                    press(&mut model, KeyCode::Char(character));
                }
                update(&mut model, Message::Resized(width, height));
                drawn(&model, true);
            }
        }
    }
}

#[test]
fn without_plugins_it_says_how_to_get_one() {
    let mut model = Model::new(80, 24);
    update(&mut model, Message::Sampled(Sample::default()));
    assert!(shown(&model).contains("`bulkhead install FILE`"));
}
