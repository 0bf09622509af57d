//! What a plugin's life costs through the whole service, against what it costs without one.
//!
//! `scripts/bench service`, which also builds the programs; by hand
//! `cargo build --release -p bulkhead-supervisor -p bulkhead-hostile` and
//! `cargo bench -p bulkhead-tests --bench service`. Every figure is the median of several rounds, and each
//! round measures the limit beside it, so that the machine's moods hit both; the ratio is the median
//! of the rounds' ratios. An argument selects lines by name. `docs/performance.md` says what each line
//! means.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_tests::admin::Admin;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, bulkhead};
use bulkhead_tests::program;
use bulkhead_tests::service::Service;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The name of a line: what is measured. An argument is looked for in them.
const ENABLE: &str = "enable, spawn to ready";
const REQUEST: &str = "enable, the whole request";
const DRAIN: &str = "disable, drain to gone";
const CALL: &str = "call on the admin socket";
const KILLED: &str = "supervisor killed, to the first answer";
const OVERRUN: &str = "stop by force, beyond its budget";
const NEIGHBOURS: &str = "call beside a riot, p99";
const OUTSIDE: &str = "stop by force, seen from outside";

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let chosen = |names: &[&str]| {
        wanted.is_empty() || wanted.iter().any(|part| names.iter().any(|name| name.contains(part)))
    };
    show_machine();
    if chosen(&[ENABLE, REQUEST, DRAIN]) {
        starts_and_stops(40);
    }
    if chosen(&[CALL]) {
        // Across cores the wake-up of an idle process hides the software.
        on_one_core(|| calls(15, 2000));
    }
    if chosen(&[NEIGHBOURS]) {
        neighbours(15, 1000);
    }
    if chosen(&[KILLED]) {
        deaths_of_the_supervisor(11);
    }
    if chosen(&[OVERRUN, OUTSIDE]) {
        forced_stops(11);
    }
}

/// Enables and disables a plugin that behaves. The limits: the same program started bare until it has
/// ended, and one that is there told to end.
fn starts_and_stops(rounds: usize) {
    let mut service = Service::start();
    service.install(&Package::hostile("victim", "well", ""));
    let mut admin = Admin::connect(&service.socket()).unwrap();
    let (mut ready, mut request, mut gone) = (Line::new(), Line::new(), Line::new());
    // The first rounds fill caches.
    for round in 0..rounds + 5 {
        let bare_start = timed(bare_start_to_exit);
        let started = Instant::now();
        let enabled = admin.post("/v1/plugins/victim/enable", "").unwrap();
        let requested = started.elapsed();
        let started_in = milliseconds(&enabled.json()["startedInMs"]);
        let bare_end = bare_end();
        let stopped = admin.post("/v1/plugins/victim/disable", "").unwrap().json();
        assert_eq!(stopped["forced"], false, "{stopped}");
        if round >= 5 {
            ready.push(started_in, bare_start);
            request.push(requested, bare_start);
            gone.push(at_last(&stopped), bare_end);
        }
    }
    service.stop().expect(0);
    ready.show(ENABLE, "the same program run bare", None);
    request.show(REQUEST, "the same program run bare", None);
    gone.show(DRAIN, "a bare one's end when its socket closes", None);
}

/// Calls of a plugin, one after the other, through the service's socket. The limit: as many bytes there
/// and back on a bare socket, one hop where a call takes two.
fn calls(rounds: usize, count: u32) {
    let mut service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let mut admin = Admin::connect(&service.socket()).unwrap();
    let (mut raw, mut server) = UnixStream::pair().unwrap();
    let mut message = [7; 256];
    let echo = std::thread::spawn(move || {
        let mut message = [0; 256];
        while server.read_exact(&mut message).is_ok() {
            server.write_all(&message).unwrap();
        }
    });
    let argument = json!("x".repeat(62)).to_string();
    let mut line = Line::new();
    for round in 0..=rounds {
        let bare = timed(|| {
            for _ in 0..count {
                raw.write_all(&message).unwrap();
                raw.read_exact(&mut message).unwrap();
            }
        });
        let ours = timed(|| {
            for _ in 0..count {
                let reply = admin.post("/v1/plugins/victim/call/echo", &argument).unwrap();
                assert_eq!((reply.status, reply.body.as_slice()), (200, argument.as_bytes()));
            }
        });
        if round > 0 {
            line.push(ours / count, bare / count);
        }
    }
    drop(raw);
    echo.join().unwrap();
    service.stop().expect(0);
    line.show(CALL, "a bare ping-pong", None);
}

/// Calls of a plugin, one after the other, while another spins, floods its log and its session, and
/// crashes again and again. The limit: the same calls while the other is disabled.
fn neighbours(rounds: usize, count: usize) {
    const RESTARTS: &str = "[limits]\ncpu = \"50%\"\n[lifecycle.restart]\nbackoff = \"10ms\"\n\
        backoff_max = \"10ms\"\nlimit = 4294967295";
    let mut service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    service.install(&Package::hostile("rioter", "riot", RESTARTS));
    let mut admin = Admin::connect(&service.socket()).unwrap();
    let p99 = |admin: &mut Admin| {
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                timed(|| {
                    let reply = admin.post("/v1/plugins/sibling/call/echo", "[1]").unwrap();
                    assert_eq!((reply.status, reply.body.as_slice()), (200, b"[1]".as_slice()));
                })
            })
            .collect();
        times.sort_unstable();
        times[count * 99 / 100]
    };
    let mut line = Line::new();
    for round in 0..=rounds {
        let quiet = p99(&mut admin);
        admin.post("/v1/plugins/rioter/enable", "").unwrap().json();
        let noisy = p99(&mut admin);
        admin.post("/v1/plugins/rioter/disable", "").unwrap().json();
        if round > 0 {
            line.push(noisy, quiet);
        }
    }
    service.stop().expect(0);
    line.show(NEIGHBOURS, "the same while the other is disabled", None);
}

/// SIGKILL to the supervisor, then a call at once. The limit: the same program started for nothing. Each
/// round has a service of its own: the launcher gives a supervisor that dies young a second time a pause.
fn deaths_of_the_supervisor(rounds: usize) {
    let package = Package::hostile("victim", "well", "");
    let mut line = Line::new();
    for round in 0..=rounds {
        let bare = timed(|| drop(bulkhead(["--version"]).run().expect(0)));
        let mut service = Service::start();
        let before = service.enable(&package)["plugin"]["process"]["pid"].clone();
        let supervisor = service.supervisor();
        let ours = timed(|| {
            kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
            first_answer(&service);
        });
        assert_ne!(service.supervisor(), supervisor);
        let plugin = service.json(["inspect", "victim"]);
        assert_eq!(plugin["process"]["pid"], before, "another process serves on: {plugin}");
        service.stop().expect(0);
        if round > 0 {
            line.push(ours, bare);
        }
    }
    line.show(KILLED, "`bulkhead --version`", Some(Duration::from_secs(1)));
}

/// Calls until there is an answer. The launcher keeps the socket, so a call mostly waits there for the
/// next supervisor; it can fail only while the dead one's connections are being closed.
fn first_answer(service: &Service) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let reply = Admin::connect(&service.socket())
            .and_then(|mut admin| admin.post("/v1/plugins/victim/call/echo", "[1]"));
        match reply {
            Ok(reply) => return assert_eq!(reply.json(), json!([1])),
            Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
        }
    }
}

/// Disables a plugin that ignores the drain and SIGTERM: what is beyond its budget, by the report and by
/// the process table. The limit: a bare SIGKILL until the process is reaped.
fn forced_stops(rounds: usize) {
    const BUDGET: Duration = Duration::from_millis(500);
    const GOAL: Duration = Duration::from_millis(100);
    let mut service = Service::start();
    service.install(&Package::hostile("victim", "ignore-sigterm", ""));
    let mut admin = Admin::connect(&service.socket()).unwrap();
    let (mut reported, mut seen) = (Line::new(), Line::new());
    for round in 0..=rounds {
        let bare = bare_kill();
        admin.post("/v1/plugins/victim/enable", "").unwrap().json();
        assert_ne!(service.plugin_processes(), [0; 0], "it does not run");
        let started = Instant::now();
        let reply = admin.post("/v1/plugins/victim/disable", r#"{"timeout": 500}"#).unwrap();
        let left = service.plugin_processes();
        let outside = started.elapsed();
        let report = reply.json();
        assert_eq!(left, [0; 0], "it is not gone, as was said: {report}");
        assert_eq!(report["forced"], true, "{report}");
        if round > 0 {
            reported.push(at_last(&report).saturating_sub(BUDGET), bare);
            seen.push(outside.saturating_sub(BUDGET), bare);
        }
    }
    service.stop().expect(0);
    reported.show(OVERRUN, "a bare SIGKILL", Some(GOAL));
    // The answer was committed first, and /proc read after it: more than the stop.
    seen.show(OUTSIDE, "a bare SIGKILL", None);
}

/// When the last stage of a stop came: nothing is left then, not even the cgroup.
fn at_last(report: &Value) -> Duration {
    let last = report["timeline"].as_array().unwrap().last().unwrap();
    assert_eq!(last["stage"], "removed", "{report}");
    milliseconds(&last["atMs"])
}

fn milliseconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap() / 1e3)
}

/// The plugin's program with no service and no compartment, its session on a socket. std starts it with
/// posix_spawn(3).
fn bare() -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(program::path("hostile"))
        .arg("well")
        .env("HOSTILE_SESSION", "stdin")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

fn bare_start_to_exit() {
    let (mut child, stream) = bare();
    // It says its Hello, reads the end of the stream, and ends.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(child.wait().unwrap().success());
}

fn bare_end() -> Duration {
    let (mut child, mut stream) = bare();
    // The first byte of its Hello: it serves.
    stream.read_exact(&mut [0]).unwrap();
    timed(|| {
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(child.wait().unwrap().success());
    })
}

fn bare_kill() -> Duration {
    let (mut child, mut stream) = bare();
    stream.read_exact(&mut [0]).unwrap();
    timed(|| {
        child.kill().unwrap();
        child.wait().unwrap();
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// What is started in `work` inherits the core.
fn on_one_core(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let this = Pid::from_raw(0);
            let all = sched_getaffinity(this).unwrap();
            let last = |core: &usize| all.is_set(*core).unwrap_or(false);
            let mut one = CpuSet::new();
            one.set((0..CpuSet::count()).rfind(last).unwrap()).unwrap();
            sched_setaffinity(this, &one).unwrap();
            work();
        });
    });
}

/// The rounds of one line.
struct Line {
    ours: Vec<Duration>,
    bare: Vec<Duration>,
}

impl Line {
    fn new() -> Self {
        Self { ours: Vec::new(), bare: Vec::new() }
    }

    fn push(&mut self, ours: Duration, bare: Duration) {
        self.ours.push(ours);
        self.bare.push(bare);
    }

    fn show(&self, name: &str, limit: &str, goal: Option<Duration>) {
        let pairs = self.ours.iter().zip(&self.bare);
        let mut ratios: Vec<f64> = pairs.map(|(o, b)| o.as_secs_f64() / b.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        let worst = self.ours.iter().max().unwrap();
        let goal = goal.map_or(String::new(), |goal| format!("; goal {goal:?}"));
        println!(
            "{name}: {:.3?}  ({ratio:.1} × {limit}, {:.3?}; worst of {} rounds {worst:.3?}{goal})",
            median(&self.ours),
            median(&self.bare),
            self.ours.len(),
        );
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// What the figures were measured on.
fn show_machine() {
    let cores = std::thread::available_parallelism().unwrap();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap();
    let kernel = read("/proc/sys/kernel/osrelease");
    println!("{cores} cores, load {load}, kernel {}", kernel.trim());
    let machine = bulkhead(["doctor", "--json"]).run();
    let machine: Value = serde_json::from_str(&machine.stdout).unwrap();
    let layers = machine["layers"].as_array().unwrap().iter();
    let lacking: Vec<&str> = layers
        .filter(|layer| layer["state"] != "enforced")
        .map(|layer| layer["layer"].as_str().unwrap())
        .collect();
    if !lacking.is_empty() {
        println!("layers that this machine does not enforce in full: {}", lacking.join(", "));
    }
    if cfg!(debug_assertions) {
        println!("NOT OPTIMIZED: these figures mean nothing");
    }
}
