//! A plugin that misbehaves on command.
//!
//! Theory of operation. It is a well-behaved plugin, written on the bare wire without the SDK or a session,
//! so that it can break any rule, and at one moment of its life it does what its *mode* says instead. The mode
//! is the first line of the file `mode` in the plugin's directory (`/plugin/mode`), or the first argument, or
//! `HOSTILE_MODE`: a name, and for some a number (`crash-after 3`). Run by hand without one, it lists them.
//!
//! It takes its session from descriptor 3 as every plugin does. With `HOSTILE_SESSION=stdin` standard input
//! is the session, so that a test needs no launcher.

mod bootstrap;
mod modes;
mod serve;
mod wire;

use std::process::ExitCode;

use modes::Mode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == modes::LINGER) {
        return modes::linger(&arguments);
    }
    let Some(line) = requested(&arguments) else {
        modes::list();
        return ExitCode::from(2);
    };
    let Some((mode, number)) = Mode::parse(&line) else {
        eprintln!("there is no mode `{line}`; run without one for the list");
        return ExitCode::from(2);
    };
    serve::run(mode, number)
}

/// The mode asked for, wherever it stands.
fn requested(arguments: &[String]) -> Option<String> {
    if !arguments.is_empty() {
        return Some(arguments.join(" "));
    }
    if let Ok(mode) = std::env::var("HOSTILE_MODE") {
        return Some(mode);
    }
    // Beside `bin/`, wherever the tree is mounted; `/proc` may be absent, so not from there.
    let program = std::env::args_os().next().map(std::path::PathBuf::from)?;
    let beside = program.parent().and_then(|bin| bin.parent()).map(|tree| tree.join("mode"));
    let file = beside
        .and_then(|path| std::fs::read_to_string(path).ok())
        .or_else(|| std::fs::read_to_string("/plugin/mode").ok())?;
    file.lines().next().map(|line| line.trim().to_owned())
}
