//! Each attack with each layer left out in turn: what stops it, and what would if that failed.
//!
//! A layer stops an attack if it ends otherwise without it. Another would have stopped it too if it
//! still does not succeed then.

#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bulkhead_sandbox::attack::{self, ATTACKS, Attack, Inside, Outcome, Scene, Verdict, judge};
use bulkhead_sandbox::layers_off::{CAN_BE_OFF, without};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Layer, Policy};
use run::{ATTEMPT_INSIDE, program};

/// Not a test of its own: the process in which an attack is made.
#[test]
#[ignore = "the other tests start it"]
fn attempt_inside() {
    attack::make_if_asked();
}

/// Why a filter on calls is enough by itself where the attack is the call.
const CALL: &str =
    "the call ends before the kernel's code for it runs, and no manifest can ask for it";
/// The same for a kind of socket.
const SOCKET: &str =
    "there is nobody to reach: its network namespace has no device and no neighbour";

/// Attacks that only one layer stops, and why that is enough.
const ALONE: &[(&str, Layer, &str)] = &[
    ("pidfd_getfd", Layer::Seccomp, CALL),
    ("io_uring_setup", Layer::Seccomp, CALL),
    ("userfaultfd", Layer::Seccomp, CALL),
    ("keyctl", Layer::Seccomp, CALL),
    ("bpf", Layer::Seccomp, CALL),
    ("perf_event_open", Layer::Seccomp, CALL),
    ("open_by_handle_at", Layer::Seccomp, CALL),
    ("setns", Layer::Seccomp, CALL),
    ("user namespace", Layer::Seccomp, CALL),
    ("vsock", Layer::Seccomp, CALL),
    ("x32", Layer::Seccomp, CALL),
    (
        "shmget",
        Layer::Seccomp,
        "the memory would be in an IPC namespace in which there is nobody else",
    ),
    ("clone3", Layer::Seccomp, "it has no capability for what it could ask for with it"),
    (
        "write and execute",
        Layer::Seccomp,
        "the code would run in the same compartment; this makes a fault of its own harder to use",
    ),
    (
        "memory file",
        Layer::Seccomp,
        "the program would run in the same compartment, under the same rules",
    ),
    ("netlink", Layer::Seccomp, SOCKET),
    ("udp", Layer::Seccomp, SOCKET),
    ("tcp", Layer::Seccomp, SOCKET),
    ("mptcp", Layer::Seccomp, SOCKET),
    (
        "unix datagram",
        Layer::PrivateRoot,
        "a socket that is not shown to it is not there; where there is no private root, there are no pairs of datagram sockets",
    ),
    (
        "touch",
        Layer::PrivateRoot,
        "it could change the times of files that their owner lets everybody write",
    ),
];

/// Those of a program beneath `exec` besides.
const ALONE_IN_PROGRAMS: &[(&str, Layer, &str)] = &[(
    "unix socket",
    Layer::PrivateRoot,
    "programs may have sockets, and a socket that is not shown to them is not there",
)];

/// What was seen of one attack.
struct Row {
    attack: &'static Attack,
    outside: Outcome,
    inside: Outcome,
    /// Without each layer.
    without: BTreeMap<Layer, Outcome>,
}

impl Row {
    /// The layers without which it succeeds.
    fn alone(&self) -> Vec<Layer> {
        let through = self.without.iter().filter(|(_, outcome)| self.attack.succeeds(**outcome));
        through.map(|(layer, _)| *layer).collect()
    }
}

fn rows(policy: &Policy) -> Vec<Row> {
    let scene = Scene::new().unwrap();
    let how = Inside { policy, identity: lane::identity(), tree: None, arguments: &ATTEMPT_INSIDE };
    let mut rows = Vec::new();
    for attack in ATTACKS {
        let Some(argument) = scene.argument(attack.on) else { continue };
        let inside = || attack::inside(attack, &argument, &how).unwrap();
        rows.push(Row {
            attack,
            outside: attack::outside(attack, &argument, &ATTEMPT_INSIDE).unwrap(),
            inside: inside(),
            without: CAN_BE_OFF.map(|layer| (layer, without(layer, inside))).into(),
        });
    }
    rows
}

/// The seen as a table, a line an attack.
fn table(rows: &[Row], alone: &[(&str, Layer, &str)]) -> String {
    let mut text = String::from(
        "| attack | to | outside | inside | stopped by | and without that |\n|---|---|---|---|---|---|\n",
    );
    for Row { attack, outside, inside, without } in rows {
        let stopped = without.iter().filter(|(_, outcome)| *outcome != inside);
        let (by, then): (Vec<_>, Vec<_>) = stopped
            .map(|(layer, outcome)| match alone.iter().find(|it| it.0 == attack.name) {
                Some((.., why)) if attack.succeeds(*outcome) => (layer.name(), (*why).to_owned()),
                _ => (layer.name(), format!("`{outcome}`")),
            })
            .unzip();
        let by = if by.is_empty() { "more than one at once".to_owned() } else { by.join(", ") };
        let (name, aim, then) = (attack.name, attack.aim, then.join(", "));
        writeln!(text, "| {name} | {aim} | `{outside}` | `{inside}` | {by} | {then} |").unwrap();
    }
    text
}

/// Holds the attacks under a profile against what is known of them; gives the table.
fn tried(profile: Profile, known: &[(&str, Layer, &str)]) -> String {
    let rows = rows(&Policy { profile, ..program() });
    let table = table(&rows, known);
    println!("{profile}\n{table}");
    let (mut alone, mut expected) = (BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        let name = row.attack.name;
        match judge(row.attack, row.outside, row.inside) {
            Verdict::Through => panic!("{name} succeeds under {profile}"),
            Verdict::NoControl => continue,
            Verdict::Stopped => {}
        }
        alone.extend(row.alone().into_iter().map(|layer| (name, layer)));
        let known = known.iter().filter(|it| it.0 == name);
        expected.extend(known.map(|(_, layer, _)| (name, *layer)));
    }
    assert_eq!(alone, expected, "{profile}: what only one layer stops");
    table
}

#[test]
fn two_layers_stop_what_a_plugin_tries_or_one_does_for_a_reason() {
    let table = tried(Profile::Plugin, ALONE);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    if std::env::var_os("BLESS").is_some() {
        let (before, _) = text.split_once("| attack |").unwrap();
        text = format!("{before}{table}");
        std::fs::write(path, &text).unwrap();
    }
    // What the kernel answers differs from one to the next; the attacks and the reasons do not.
    for line in table.lines().skip(2) {
        let name = line.split(" | ").next().unwrap();
        assert!(text.contains(&format!("{name} | ")), "docs/attacks.md lacks {name}: BLESS=1");
    }
    for (name, _, why) in ALONE {
        assert!(text.contains(why), "docs/attacks.md lacks the reason of {name}: BLESS=1");
    }
}

#[test]
fn two_layers_stop_what_a_program_tries_or_one_does_for_a_reason() {
    tried(Profile::Program, &[ALONE, ALONE_IN_PROGRAMS].concat());
}
