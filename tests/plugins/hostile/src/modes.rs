//! The ways to misbehave: data, one line each.

mod handshake;
mod process;
mod resources;
mod session;

use std::io;
use std::process::ExitCode;

use crate::serve::Plugin;

pub(crate) use process::{LINGER, linger};

/// A way to misbehave.
pub(crate) struct Mode {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it does, and what its number means where it takes one.
    about: &'static str,
    /// The number where none is given.
    number: u64,
    /// What it does.
    pub(crate) act: Act,
}

/// When a mode acts.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// Once, before there is a session.
    Start(fn(u64)),
    /// At moments of the session that it chooses.
    At(fn(&mut Plugin, Moment) -> io::Result<Next>),
}

/// A moment of a session's life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before our `Hello`.
    Hello,
    /// The host asked for `init`, by this call.
    Init { id: u64 },
    /// `init` was answered, for the first time.
    Ready,
    /// The host asked for our health.
    Health { id: u64 },
    /// Any other call.
    Call { id: u64 },
    /// The host asked us to finish.
    Drain,
}

/// Whether the well-behaved thing is still to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Yes.
    Well,
    /// No: something was done in its place.
    Instead,
}

const fn mode(name: &'static str, about: &'static str, number: u64, act: Act) -> Mode {
    Mode { name, about, number, act }
}

/// Acts at one moment, and is well-behaved at all others.
macro_rules! at {
    ($moment:pat => $act:expr) => {
        $crate::modes::Act::At(|plugin, moment| match moment {
            $moment => {
                let act: fn(&mut $crate::serve::Plugin) -> std::io::Result<$crate::modes::Next> =
                    $act;
                act(plugin)
            }
            _ => Ok($crate::modes::Next::Well),
        })
    };
}
use at;

impl Mode {
    /// The mode and number of a line such as `crash-after 3`.
    pub(crate) fn parse(line: &str) -> Option<(&'static Self, u64)> {
        let mut words = line.split_whitespace();
        let (name, number) = (words.next()?, words.next());
        let mode = all().find(|mode| mode.name == name)?;
        let number = match number {
            Some(number) => number.parse().ok()?,
            None => mode.number,
        };
        words.next().is_none().then_some((mode, number))
    }
}

fn all() -> impl Iterator<Item = &'static Mode> {
    [&WELL]
        .into_iter()
        .chain(handshake::MODES)
        .chain(session::MODES)
        .chain(process::MODES)
        .chain(resources::MODES)
}

static WELL: Mode =
    mode("well", "behaves: answers `echo` and `pid`, drains, says goodbye", 0, Act::Start(|_| {}));

/// Tells on standard output what there is.
pub(crate) fn list() {
    println!("A plugin that misbehaves on command. Usage: hostile MODE [NUMBER]\n");
    for mode in all() {
        println!("  {:22} {}", mode.name, mode.about);
    }
}

/// Does nothing more, until a signal ends the process.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// The number's exit status.
fn exit(number: u64) -> ! {
    std::process::exit(i32::try_from(number).unwrap_or(1))
}

/// For `main`: how a helper process ends.
const DONE: ExitCode = ExitCode::SUCCESS;
