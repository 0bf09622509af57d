use serde_json::json;

use super::*;
use crate::supervise::store::Previous;

fn row(tree: &str, previous: Option<&str>) -> PluginRow {
    PluginRow {
        id: "a".parse().unwrap(),
        version: "1.2.3".parse().unwrap(),
        digest: Digest::of(tree.as_bytes()),
        config: json!({ "n": 1 }),
        enabled: true,
        installed_at: "2026-01-01T00:00:00Z".to_owned(),
        last_exit: None,
        granted: None,
        last_usage: None,
        previous: previous.map(|tree| Previous {
            version: "1.2.2".parse().unwrap(),
            digest: Digest::of(tree.as_bytes()),
            installed_at: "2025-01-01T00:00:00Z".to_owned(),
            granted: None,
        }),
    }
}

#[test]
fn the_diagram_has_the_steps_and_where_a_death_is_finished_instead_of_undone() {
    let diagram = include_str!("../operation.rs");
    for kind in Kind::ALL {
        let line = diagram
            .lines()
            .find_map(|line| line.strip_prefix("//! ")?.strip_prefix(kind.name()))
            .unwrap();
        let mut drawn = String::new();
        let mut finishing = false;
        for (index, step) in kind.steps().iter().enumerate() {
            let turns = !finishing && kind.is_finished(*step);
            drawn += match (index, turns) {
                (0, false) => "",
                (0, true) => "╫▶ ",
                (_, false) => " → ",
                (_, true) => " ─╫▶ ",
            };
            drawn += step.name();
            finishing |= turns;
            assert_eq!(kind.is_finished(*step), finishing, "{kind:?}: once on, always on");
        }
        assert_eq!(line.trim(), drawn);
    }
}

#[test]
fn what_cannot_be_undone_is_finished_after_a_death() {
    for kind in Kind::ALL {
        let mut past = false;
        for step in kind.steps() {
            assert!(!past || kind.is_past_return(*step), "{kind:?} {step:?}: no way back in");
            past = kind.is_past_return(*step);
            assert!(!past || kind.is_finished(*step), "{kind:?} {step:?}");
        }
    }
}

#[test]
fn an_operation_reads_back_as_it_was_journalled() {
    for kind in Kind::ALL {
        let plan = Plan {
            from: Some(row("from", Some("older"))),
            to: Some(row("to", None)),
            force: true,
            ..Plan::of(kind)
        };
        for step in kind.steps() {
            let open = OpenOperation {
                number: 7,
                plugin: "a".parse().unwrap(),
                principal: json!({}),
                step: step.name().to_owned(),
                plan: serde_json::to_value(&plan).unwrap(),
                undoing: true,
            };
            let read = Operation::read(open).unwrap();
            assert_eq!((&read.plan, read.step, read.number), (&plan, *step, 7));
            assert!(!read.is_finished(), "what has failed is undone");
        }
    }
}

#[test]
fn a_plan_names_every_tree_once() {
    let plan = Plan {
        from: Some(row("new", Some("old"))),
        to: Some(row("old", Some("new"))),
        ..Plan::of(Kind::Rollback)
    };
    let mut trees = vec![Digest::of(b"new"), Digest::of(b"old")];
    trees.sort_unstable();
    assert_eq!(plan.trees(), trees);
}

#[test]
fn every_step_can_be_paused_at() {
    let points = points();
    for kind in Kind::ALL {
        for step in kind.steps() {
            for moment in ["before", "after"] {
                let point = format!("{}/{}/{moment}", kind.name(), step.name());
                assert_eq!(points.iter().filter(|known| **known == point).count(), 1, "{point}");
            }
        }
    }
}
