//! Start to the first byte on the program's standard output, as a ratio to posix_spawn(3).
//!
//! The same program, pipe and wait in every row, the rows interleaved so that the machine's moods hit
//! all alike; medians. `cargo bench -p bulkhead-sandbox --bench spawn [-- ROUNDS]`

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{
    Identity, Launch, Limits, Network, Policy, Program, ProgramFile, Stdio, Strictness, spawn,
};

const PROGRAM: &str = "/bin/echo";

fn pipe() -> (File, OwnedFd) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (read.into(), write)
}

fn first_byte(mut stdout: File) {
    let mut byte = [0];
    stdout.read_exact(&mut byte).unwrap();
}

/// std uses posix_spawn(3), which glibc makes with CLONE_VM and CLONE_VFORK.
fn posix_spawn() -> Duration {
    let (stdout, theirs) = pipe();
    let start = Instant::now();
    let mut child = std::process::Command::new(PROGRAM).arg("x").stdout(theirs).spawn().unwrap();
    first_byte(stdout);
    let elapsed = start.elapsed();
    child.wait().unwrap();
    elapsed
}

fn compartment(tree: Option<&Tree>, policy: &Policy, identity: Identity) -> Duration {
    let (stdout, theirs) = pipe();
    let null = File::open("/dev/null").unwrap();
    let launch = Launch {
        name: "bench",
        policy,
        identity,
        program: Program {
            file: ProgramFile::Descriptor(File::open(PROGRAM).unwrap().into()),
            args: vec!["echo".into(), "x".into()],
            env: Vec::new(),
            cwd: "/".into(),
        },
        stdio: Stdio {
            stdin: null.try_clone().unwrap().into(),
            stdout: theirs,
            stderr: null.into(),
        },
        bootstrap: None,
        learner: None,
    };
    let start = Instant::now();
    // The byte may be there before `spawn` returns, which measures the compartment first.
    let reader = std::thread::spawn(move || {
        first_byte(stdout);
        Instant::now()
    });
    let mut child = spawn(tree, launch).unwrap();
    let elapsed = reader.join().unwrap() - start;
    child.wait_exited(None);
    child.try_reap().unwrap();
    child.wait_empty(Instant::now() + Duration::from_secs(5)).unwrap();
    child.remove().unwrap();
    elapsed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(200);
    let tree = Tree::discover().ok();
    let identity = if nix::unistd::geteuid().is_root() {
        Identity::Leased { uid: 1_900_009_999, gid: 1_900_009_999 }
    } else {
        Identity::Invoker
    };
    let with_net = Policy {
        profile: Profile::Plugin,
        limits: Limits::default(),
        strictness: Strictness::BestEffort,
        ..Policy::default()
    };
    let without_net = Policy {
        network: Network::Ports { connect: vec![443], bind: Vec::new() },
        ..with_net.clone()
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..rounds + 10 {
        let measured = [
            posix_spawn(),
            compartment(tree.as_ref(), &without_net, identity),
            compartment(tree.as_ref(), &with_net, identity),
        ];
        // The first rounds fill caches.
        if round >= 10 {
            for (row, time) in times.iter_mut().zip(measured) {
                row.push(time);
            }
        }
    }
    let medians = times.map(median);
    let limit = medians[0].as_secs_f64();
    println!("start to first byte of {PROGRAM}, median of {rounds}");
    let names = [
        ("posix_spawn", 1.0),
        ("compartment, without a net namespace", 8.0),
        ("compartment, with a net namespace", 12.0),
    ];
    for ((name, goal), time) in names.into_iter().zip(medians) {
        let ratio = time.as_secs_f64() / limit;
        println!("{name:<40} {:>7} µs  {ratio:>5.1} x  (goal {goal} x)", time.as_micros());
    }
}
