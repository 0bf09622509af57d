//! What is asked and shown on a terminal: `top`, and the question of `uninstall`.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use bulkhead_tests::package::Package;
use bulkhead_tests::process::bulkhead;
use bulkhead_tests::service::Service;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Leaves the alternate screen; shows the cursor (xterm's control sequences).
const LEAVES: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// Whether a row of the screen begins with this plugin and has that word.
fn row(screen: &str, id: &str, word: &str) -> bool {
    screen.lines().any(|line| line.starts_with(&format!(" {id} ")) && line.contains(word))
}

#[test]
fn plugins_are_watched_and_disabled_from_a_terminal() {
    let service = Service::start();
    service.enable(&Package::witness("first", ""));
    service.enable(&Package::witness("second", ""));
    let top = ["top", "--interval", "200ms"];
    let mut terminal = service.command(top).env("NO_COLOR", "1").on_terminal(80, 24);
    let both = |screen: &str| {
        row(screen, "first", "enabled") && row(screen, "second", "enabled") && screen.contains('%')
    };
    let screen = terminal.wait_for(both);
    assert!(screen.contains("2 plugins, 2 enabled") && screen.contains("q quit"), "{screen}");

    terminal.press("j");
    terminal.wait_for(|screen| screen.contains("── second 1.0.0"));
    terminal.press("\r");
    terminal.wait_for(|screen| screen.contains("inspect second") && screen.contains("digest"));
    terminal.press("q");
    terminal.wait_for(both);
    terminal.press("d");
    terminal.wait_for(|screen| screen.contains("disable second?"));
    terminal.press("n");
    terminal.wait_for(|screen| screen.contains("second was left as it is"));
    assert_eq!(service.json(["inspect", "second"])["state"], "enabled");
    terminal.press("dy");
    terminal.wait_for(|screen| row(screen, "second", "disabled") && both_but_one(screen));
    assert_eq!(service.json(["inspect", "second"])["state"], "disabled");
    terminal.press("e");
    terminal.wait_for(both);

    terminal.press("q");
    let left = terminal.wait();
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(left.modes_are_back, "{left:?}");
    for sequence in LEAVES {
        assert!(left.written.contains(sequence), "{left:?}");
    }
    // As crossterm sets a colour; and as it does where it must not, which ends all attributes.
    for sequence in ["\u{1b}[38;", "\u{1b}[;m"] {
        assert!(!left.written.contains(sequence), "there is colour in {left:?}");
    }
}

fn both_but_one(screen: &str) -> bool {
    screen.contains("2 plugins, 1 enabled") && screen.contains("second stopped after")
}

#[test]
fn a_resize_is_followed_and_a_signal_gives_the_terminal_back() {
    let service = Service::start();
    let mut terminal = service.command(["top"]).on_terminal(80, 24);
    let in_row = |row: usize| {
        move |screen: &str| screen.lines().nth(row).is_some_and(|line| line.starts_with(" q quit"))
    };
    terminal.wait_for(in_row(23));
    // No key is pressed until it ends: crossterm can leave one that comes with a resize to the next.
    terminal.resize(60, 16);
    terminal.wait_for(in_row(15));
    terminal.signal(Signal::SIGTERM);
    let left = terminal.wait();
    assert!(left.code == Some(0) && left.modes_are_back, "{left:?}");
    for sequence in LEAVES {
        assert!(left.written.contains(sequence), "{left:?}");
    }
}

#[test]
fn a_service_that_goes_away_is_said_and_found_again() {
    let mut service = Service::start();
    service.enable(&Package::hostile("writes", "count 100", ""));
    let mut terminal = service.command(["top", "--interval", "200ms"]).on_terminal(100, 24);
    terminal.wait_for(|screen| row(screen, "writes", "enabled"));
    service.stop().expect(0);
    let screen = terminal.wait_for(|screen| screen.contains("has not answered for"));
    assert!(row(&screen, "writes", ""), "what was known stays in sight:\n{screen}");
    service.run_again();
    terminal.wait_for(|screen| {
        row(screen, "writes", "enabled") && !screen.contains("has not answered for")
    });
    terminal.press("l");
    terminal.wait_for(|screen| screen.starts_with(" log writes") && screen.contains("stdout"));
    // Ctrl-C, as a key.
    terminal.press("\u{3}");
    let left = terminal.wait();
    assert!(left.code == Some(0) && left.modes_are_back, "{left:?}");
}

#[test]
fn without_a_terminal_it_is_json_or_nothing() {
    let service = Service::start();
    service.enable(&Package::witness("first", ""));
    service.install(&Package::witness("second", ""));
    let error = service.command(["top"]).run().expect(2).stderr;
    assert!(error.contains("bulkhead ls") && error.contains("bulkhead usage"), "{error}");
    let error = service.command(["top", "--follow"]).run().expect(2).stderr;
    assert!(error.contains("--json"), "{error}");
    let nobody = bulkhead(["top", "--json", "--socket", "/nonexistent/admin.sock"]);
    assert!(nobody.run().expect(1).stderr.contains("UNREACHABLE"));

    let snapshot = service.json(["top", "--interval", "200ms"]);
    let plugins = snapshot["plugins"].as_array().unwrap();
    let [first, second] = plugins.as_slice() else { panic!("not two plugins: {snapshot}") };
    assert_eq!((&first["id"], &first["state"]), (&"first".into(), &"enabled".into()));
    assert_eq!(first["pid"], service.json(["inspect", "first"])["process"]["pid"]);
    assert!(first["cpuPercent"].as_f64().is_some_and(|cpu| cpu >= 0.0), "{first}");
    assert!(first["storageBytes"].is_u64() && first["storageLimitBytes"].is_u64(), "{first}");
    let layers = &first["layers"];
    let missing = layers["missing"].as_array().unwrap().len() as u64;
    assert_eq!(layers["enforced"].as_u64().unwrap() + missing, layers["asked"].as_u64().unwrap());
    assert_eq!((&second["pid"], &second["layers"]), (&Value::Null, &Value::Null));

    let mut follow = service.command(["top", "--json", "--follow", "--interval", "100ms"]).start();
    for _ in 0..2 {
        let line = follow.stdout.line(|_| true);
        let snapshot: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(snapshot["plugins"][0]["id"], "first");
    }
}

#[test]
fn uninstalling_asks_on_a_terminal_what_goes() {
    let service = Service::start();
    service.enable(&Package::witness("first", ""));
    let there = || {
        let list = service.json(["ls"]);
        list["plugins"].as_array().unwrap().iter().any(|plugin| plugin["id"] == "first")
    };
    for (answer, code, stays) in [("n\n", 1, true), ("\n", 1, true), ("y\n", 0, false)] {
        let mut terminal = service.command(["uninstall", "first"]).on_terminal(100, 24);
        let screen = terminal.wait_for(|screen| screen.contains("[y/N]"));
        for part in ["its data", "its state", "its log", "--preserve-data"] {
            assert!(screen.contains(part), "no {part:?} in\n{screen}");
        }
        terminal.press(answer);
        let left = terminal.wait();
        assert_eq!((left.code, there()), (Some(code), stays), "{}", left.screen);
    }
    // What would be refused is not asked about.
    service.install(&Package::witness("first", ""));
    service.enable(&Package::witness("second", "[dependencies]\nfirst = \"^1\""));
    let refused = service.command(["uninstall", "first"]).on_terminal(100, 24).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.screen);
    assert!(refused.screen.contains("DEPENDENTS_ENABLED"), "{}", refused.screen);
    assert!(!refused.screen.contains("[y/N]"), "{}", refused.screen);
    let mut forced = service.command(["uninstall", "first", "--force"]).on_terminal(100, 24);
    forced.wait_for(|screen| screen.contains("[y/N]"));
    forced.press("y\n");
    assert_eq!((forced.wait().code, there()), (Some(0), false));
    let mut absent = service.command(["uninstall", "first"]).on_terminal(100, 24);
    absent.wait_for(|screen| screen.contains("NOT_FOUND"));
    assert_eq!(absent.wait().code, Some(3));
}

#[test]
fn uninstalling_asks_nothing_where_that_was_answered() {
    let service = Service::start();
    for flags in [["--yes"].as_slice(), &["--preserve-data"], &["--json"]] {
        service.install(&Package::witness("first", ""));
        let terminal = service.command(["uninstall", "first"]).args(flags).on_terminal(100, 24);
        let left = terminal.wait();
        assert_eq!(left.code, Some(0), "{flags:?}: {}", left.screen);
        assert!(!left.screen.contains("[y/N]"), "{flags:?}: {}", left.screen);
    }
}
