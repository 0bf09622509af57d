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
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use bulkhead_sandbox::attack::{self, ATTACKS, Attack, Inside, Outcome, Scene, Verdict, judge};
use bulkhead_sandbox::layers_off::{CAN_BE_OFF, without};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Layer, Network, Policy};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
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
/// The same for a kind of socket, where there is a network namespace.
const SOCKET: &str =
    "there is nobody to reach: its network namespace has no device and no neighbour";

/// Attacks that only one layer stops, and why that is enough.
type Alone = (&'static str, Layer, &'static str);

const ALONE: &[Alone] = &[
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
    (
        "int 0x80",
        Layer::Seccomp,
        "the call ends before the kernel's code for it runs, and no profile has that entry",
    ),
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
    (
        "set-user-id",
        Layer::Seccomp,
        "the file is its own: who runs it would become its own uid, which has less than anybody else",
    ),
    (
        "setxattr",
        Layer::Seccomp,
        "the file is its own, and without a capability only attributes that mean nothing to the kernel can be set",
    ),
    (
        "touch",
        Layer::PrivateRoot,
        "it could change the times of files that their owner lets everybody write",
    ),
];

/// Those where there is a network namespace.
const WITHOUT_A_NETWORK: &[Alone] = &[
    ("netlink", Layer::Seccomp, SOCKET),
    ("tcp", Layer::Seccomp, SOCKET),
    ("mptcp", Layer::Seccomp, SOCKET),
];

/// Those in the machine's network, of which some TCP ports are granted.
const WITH_PORTS: &[Alone] = &[
    (
        "connect",
        Layer::LandlockFiles,
        "the filter must let plain TCP connect and cannot see to where; which ports, the kernel compares with \
         its own copy of the address",
    ),
    (
        "netlink",
        Layer::Seccomp,
        "it could read what the kernel tells everybody, such as addresses and routes, and change none: it has \
         no capability in the machine's network",
    ),
    (
        "udp",
        Layer::Seccomp,
        "Landlock knows UDP from ABI 10 on only, and refuses it there; the filter compares numbers that nobody \
         can change meanwhile, and no manifest can ask for UDP",
    ),
    (
        "mptcp",
        Layer::Seccomp,
        "Landlock sees plain TCP only; the filter compares numbers that nobody can change meanwhile. The \
         machine's `net.mptcp.enabled=0` is a second",
    ),
    (
        "fast open",
        Layer::Seccomp,
        "Landlock sees `connect` only; the filter compares numbers that nobody can change meanwhile. The \
         machine's `net.ipv4.tcp_fastopen=0` is a second",
    ),
];

/// Those of a program beneath `exec`.
const IN_PROGRAMS: &[Alone] = &[
    ("unix socket", Layer::PrivateRoot, NOT_SHOWN),
    ("unix datagram", Layer::PrivateRoot, NOT_SHOWN),
];

const NOT_SHOWN: &str = "programs may have sockets, and a socket that is not shown to them is not there; where a \
     place of the machine is shown or there is no private root, they have none. From ABI 9 on Landlock \
     refuses it too";

/// Attacks that end the same whichever layer is left out, and what stops them then.
type ByNone = (&'static str, &'static str);

const BY_TWO: &str =
    "seccomp refuses it, and so does the kernel without the capability for it, by the same error";

const BY_NONE: &[ByNone] = &[
    ("real-time scheduling", BY_TWO),
    (
        "descriptors",
        "they are closed right before the program is executed, and those of Bulkhead close by themselves then",
    ),
];

/// Those of a program beneath `exec`, which is refused with an error what kills a plugin.
const BY_NONE_IN_PROGRAMS: &[ByNone] = &[
    ("mount", BY_TWO),
    ("chroot", BY_TWO),
    ("chown", "its user namespace has no uid to give it to, and is what all else is built in"),
];

/// From which ABI on Landlock is the second layer of an attack.
const LANDLOCK_FROM: &[(&str, u32)] = &[("unix socket", 9), ("unix datagram", 9), ("udp", 10)];

const EACCES: Outcome = Outcome::Errno(Errno::EACCES as i32);
const EPERM: Outcome = Outcome::Errno(Errno::EPERM as i32);

/// Attacks that succeed on no machine that is known, so that nothing is seen of them here.
const NO_CONTROL: &[&str] = &["x32"];

/// Of an attack that ends the same whichever of [`CAN_BE_OFF`] is left out.
const BY_NONE_OF_THEM: &str = "none that can be left out";

/// A compartment in which all attacks are made.
struct Case {
    /// The section of docs/attacks.md.
    title: &'static str,
    policy: Policy,
    alone: Vec<Alone>,
    by_none: Vec<ByNone>,
    /// What is no attack there, as it was granted.
    granted: &'static [&'static str],
}

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

    /// Without which it ends otherwise, and how.
    fn stopped_by(&self) -> Vec<(Layer, Outcome)> {
        let otherwise = self.without.iter().filter(|(_, outcome)| **outcome != self.inside);
        otherwise.map(|(layer, outcome)| (*layer, *outcome)).collect()
    }
}

fn rows(policy: &Policy) -> Vec<Row> {
    let (scene, identity) = (Scene::new().unwrap(), lane::identity());
    let mut policy = policy.clone();
    policy.filesystem.mounts.push(scene.give(identity).unwrap());
    let how = Inside { policy: &policy, identity, tree: None, arguments: &ATTEMPT_INSIDE };
    let mut rows = Vec::new();
    for attack in ATTACKS {
        let Some(argument) = scene.argument(attack.on) else { continue };
        let inside = || attack::inside(attack, &argument, &how).unwrap();
        rows.push(Row {
            attack,
            outside: attack::outside(attack, &argument, &ATTEMPT_INSIDE).unwrap(),
            inside: inside(),
            without: CAN_BE_OFF.map(|layer| (layer, without(&[layer], inside))).into(),
        });
    }
    rows
}

impl Case {
    /// Holds the attacks against what is known of them, and the section of the document against both.
    fn hold(&self) {
        let rows = rows(&self.policy);
        let table = self.table(&rows);
        println!("{}\n{table}", self.title);
        let (mut alone, mut expected) = (BTreeMap::new(), BTreeMap::new());
        let (mut by_none, mut stopped) = (Vec::new(), Vec::new());
        let abi = bulkhead_sandbox::probe::probe().landlock_abi;
        for row in &rows {
            let name = row.attack.name;
            let granted = self.granted.contains(&name);
            match judge(row.attack, row.outside, row.inside) {
                Verdict::Through if granted => continue,
                Verdict::Through => panic!("{name} succeeds: {}", self.title),
                // Without root some of it is nobody's to try.
                Verdict::NoControl => {
                    let known = NO_CONTROL.contains(&name) || !geteuid().is_root();
                    assert!(known, "{name} has no control: outside {}", row.outside);
                    continue;
                }
                Verdict::Stopped => assert!(!granted, "{name} was granted: {}", self.title),
            }
            stopped.push(name);
            if row.stopped_by().is_empty() {
                by_none.push(name);
            }
            alone.extend(row.alone().into_iter().map(|layer| (name, layer)));
            let doubled = LANDLOCK_FROM.iter().any(|(of, from)| *of == name && abi >= *from);
            let known = self.alone.iter().filter(|it| it.0 == name && !doubled);
            expected.extend(known.map(|(_, layer, _)| (name, *layer)));
        }
        assert_eq!(alone, expected, "{}: what only one layer stops", self.title);
        let expected = stopped.iter().filter(|name| self.by_none.iter().any(|it| it.0 == **name));
        let expected: Vec<_> = expected.copied().collect();
        assert_eq!(by_none, expected, "{}: what no layer stops that can be left out", self.title);
        self.document(&rows, &table, &stopped);
    }

    /// The seen as a table, a line an attack.
    fn table(&self, rows: &[Row]) -> String {
        let mut text = String::from(
            "| attack | to | outside | inside | stopped by | and without that |\n|---|---|---|---|---|---|\n",
        );
        for row in rows {
            let Row { attack, outside, inside, .. } = row;
            let why = self.alone.iter().find(|it| it.0 == attack.name);
            let (by, then): (Vec<_>, Vec<_>) = row
                .stopped_by()
                .into_iter()
                .map(|(layer, outcome)| match why {
                    Some((.., why)) if attack.succeeds(outcome) => {
                        (layer.name(), (*why).to_owned())
                    }
                    _ => (layer.name(), format!("`{outcome}`")),
                })
                .unzip();
            let by_none = self.by_none.iter().find(|it| it.0 == attack.name);
            let (by, then) = match by[..] {
                [] if self.granted.contains(&attack.name) => {
                    ("nothing: it is allowed".to_owned(), String::new())
                }
                [] => (BY_NONE_OF_THEM.to_owned(), by_none.map_or("", |it| it.1).to_owned()),
                _ => (by.join(", "), then.join(", ")),
            };
            let (name, aim) = (attack.name, attack.aim);
            writeln!(text, "| {name} | {aim} | `{outside}` | `{inside}` | {by} | {then} |")
                .unwrap();
        }
        text
    }

    /// Holds the section of docs/attacks.md against the seen, or writes it. `stopped` have a control here.
    fn document(&self, rows: &[Row], table: &str, stopped: &[&str]) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");
        let file = File::options().read(true).write(true).open(path).unwrap();
        // The other cases write their sections at the same time.
        let mut file = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let heading = format!("### {}\n\n", self.title);
        let (before, rest) = text.split_once(&heading).unwrap();
        let (section, after) = rest.split_once("\n### ").unwrap_or((rest, ""));
        if std::env::var_os("BLESS").is_some() {
            let after = if after.is_empty() { String::new() } else { format!("\n### {after}") };
            let text = format!("{before}{heading}{table}{after}");
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            return;
        }
        // What the kernel answers differs from one to the next; the attacks, what stops them and why do not.
        for name in rows.iter().map(|row| row.attack.name) {
            let by = |table: &str| {
                let row = table.lines().find(|line| line.starts_with(&format!("| {name} | ")))?;
                row.split(" | ").nth(4).map(str::to_owned)
            };
            let told = by(section);
            assert!(told.is_some(), "{}: docs/attacks.md lacks {name}: BLESS=1", self.title);
            if stopped.contains(&name) {
                let text = "docs/attacks.md tells of another layer: BLESS=1";
                assert_eq!(told, by(table), "{}: {name}: {text}", self.title);
            }
        }
        let reasons = self.alone.iter().map(|(name, _, why)| (name, why));
        for (name, why) in reasons.chain(self.by_none.iter().map(|(name, why)| (name, why))) {
            assert!(section.contains(why), "{}: no reason of {name}: BLESS=1", self.title);
        }
    }
}

#[test]
fn two_layers_stop_what_a_plugin_tries_or_one_does_for_a_reason() {
    let policy = Policy { profile: Profile::Plugin, ..program() };
    let alone = [ALONE, WITHOUT_A_NETWORK].concat();
    let (title, by_none) = ("A plugin to which nothing was granted", BY_NONE.to_vec());
    Case { title, policy, alone, by_none, granted: &[] }.hold();
}

/// In the machine's network, in which Landlock has the ports of TCP.
#[test]
fn two_layers_stop_what_a_plugin_with_a_port_tries_or_one_does_for_a_reason() {
    let test = "two_layers_stop_what_a_plugin_with_a_port_tries_or_one_does_for_a_reason";
    if !lane::require(test, Layer::LandlockNetwork) {
        return;
    }
    let network = Network::Ports { connect: vec![443], bind: vec![] };
    let policy = Policy { profile: Profile::Plugin, network, ..program() };
    let alone = [ALONE, WITH_PORTS].concat();
    let (title, by_none) = ("A plugin to which a port was granted", BY_NONE.to_vec());
    Case { title, policy, alone, by_none, granted: &["tcp"] }.hold();
}

#[test]
fn two_layers_stop_what_a_program_tries_or_one_does_for_a_reason() {
    let policy = Policy { profile: Profile::Program, ..program() };
    let alone = [ALONE, WITHOUT_A_NETWORK, IN_PROGRAMS].concat();
    let by_none = [BY_NONE, BY_NONE_IN_PROGRAMS].concat();
    Case { title: "A program beneath `bulkhead exec`", policy, alone, by_none, granted: &[] }
        .hold();
}

/// Other layers stop these before it does, so it is seen only where those are left out. What is done to a process takes
/// its user namespace besides.
#[test]
fn the_uid_of_its_own_stops_what_is_left_when_the_others_are_off() {
    use Layer::{LandlockFiles, PidNamespace, PrivateRoot, Seccomp, Uid};
    if !lane::root("the_uid_of_its_own_stops_what_is_left_when_the_others_are_off") {
        return;
    }
    let scene = Scene::new().unwrap();
    let policy = Policy { profile: Profile::Plugin, ..program() };
    let (identity, arguments) = (lane::identity(), &ATTEMPT_INSIDE);
    let how = Inside { policy: &policy, identity, tree: None, arguments };
    for (name, others, is_last) in [
        ("read a closed file", vec![PrivateRoot, LandlockFiles], true),
        ("chmod", vec![PrivateRoot, LandlockFiles], true),
        ("signal", vec![PidNamespace, LandlockFiles], true),
        ("environment", vec![PrivateRoot, LandlockFiles], false),
        ("process_vm_readv", vec![PidNamespace, LandlockFiles, Seccomp], false),
        ("ptrace", vec![PidNamespace, LandlockFiles, Seccomp], false),
    ] {
        let attack = attack::find(name).unwrap();
        let argument = scene.argument(attack.on).unwrap();
        let inside =
            |off: &[Layer]| without(off, || attack::inside(attack, &argument, &how).unwrap());
        let free = attack::outside(attack, &argument, arguments).unwrap();
        assert!(attack.succeeds(free), "{name}, outside: {free}");
        let held = inside(&others);
        assert!([EACCES, EPERM].contains(&held), "{name} without {others:?}: {held}");
        let nobodys = inside(&[&others[..], &[Uid]].concat());
        assert_eq!(attack.succeeds(nobodys), is_last, "{name} without its uid too: {nobodys}");
    }
}
