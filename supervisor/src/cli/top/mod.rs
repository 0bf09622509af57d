//! `top`: the plugins as they are now, on a screen that follows them.
//!
//! Theory of operation. It is a client of the admin API as every other verb: a [`feed`] asks for the list
//! of plugins and the metrics at a steady pace, and at once when an event tells that something has
//! happened. What comes in is a message; [`model::update`] is a pure function of the model and a
//! message and says what is to be asked for next; [`view`] is a pure function of the model. Only
//! [`shell`] has the terminal, the clock and the connections. With `--json` there is no screen: the same
//! model gives a [`snapshot`].

mod counters;
mod feed;
mod history;
mod keys;
mod model;
mod order;
mod page;
mod sample;
mod shell;
mod snapshot;
mod view;

use std::io::{self, IsTerminal as _};

use super::args::{Global, Top};
use super::client::{Client, socket_path};
use super::problem::Problem;
use super::render::{self, Screen};
use super::{Ended, block_on};

pub(super) fn run(arguments: &Top, global: &Global) -> Result<(), Ended> {
    let client = Client::new(socket_path(global.socket.as_deref()));
    let interval = arguments.interval.duration();
    if global.json {
        let mut screen = Screen::stdout(true);
        return block_on(snapshot::run(&client, &mut screen, interval, arguments.follow));
    }
    if arguments.follow {
        return Err(Problem::usage(
            "--follow goes with --json: without that, `bulkhead top` follows by itself",
        )
        .into());
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() || render::dumb() {
        return Err(Problem::usage(
            "`bulkhead top` draws on a terminal, and this is none; `bulkhead top --json` prints \
             what it would show, `bulkhead ls` lists the plugins, and `bulkhead usage ID` says what \
             one of them has used",
        )
        .into());
    }
    block_on(shell::run(client, interval))
}
