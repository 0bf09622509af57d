//! What `stress-ng` does to a machine, in a compartment: the service beside it serves, and outside of the
//! compartment everything is as it was.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;

use bulkhead_tests::census::processes;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{Outcome, Program, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};

/// How many of stress-ng's stressors are run, where `BULKHEAD_STRESSORS` does not say (a number, or `all`).
const STRESSORS: usize = 8;
/// How many of them at a time.
const AT_ONCE: usize = 4;

/// What it may use, and for how long: one that ignores the end of its second is killed.
const BOUNDS: [&str; 12] = [
    "exec",
    "--memory",
    "96M",
    "--pids",
    "48",
    "--cpu",
    "60%",
    "--storage",
    "16M",
    "--timeout",
    "10s",
    "--",
];

/// Those that must have done their work, or this would show nothing.
const PLAIN: [&str; 4] = ["cpu", "pipe", "malloc", "fork"];

/// The plain ones, and others from all over the list that stress-ng has of itself.
fn stressors() -> Vec<String> {
    let listed = Program::new("stress-ng").arg("--stressors").run().expect(0).stdout;
    let others: Vec<&str> =
        listed.split_whitespace().filter(|name| !PLAIN.contains(name)).collect();
    assert!(others.len() > 200, "{listed}");
    let more = match std::env::var("BULKHEAD_STRESSORS").as_deref() {
        Ok("all") => others.len(),
        Ok(number) => number.parse::<usize>().unwrap().saturating_sub(PLAIN.len()),
        Err(_) => STRESSORS - PLAIN.len(),
    };
    let step = (others.len() / more.max(1)).max(1);
    let chosen = others.into_iter().step_by(step).take(more);
    PLAIN.into_iter().chain(chosen).map(str::to_owned).collect()
}

/// What became of a stressor in its compartment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// It did its work for as long as it was told to.
    Well,
    /// It had too much of something, or went on for too long, and was killed.
    Limit,
    /// It made a call that is forbidden.
    Seccomp,
    /// It gave up: by stress-ng's own word it failed, or lacks something, as a capability or the machine's devices.
    GaveUp,
}

impl End {
    /// By what `exec` and `stress-ng` say: the latter lives on when a process of its own is killed.
    fn of(outcome: &Outcome) -> Self {
        let said = [&*outcome.stdout, &*outcome.stderr].concat();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if has(&["SIGSYS", "Bad system call", "signal: 31"]) {
            Self::Seccomp
        } else if matches!(outcome.code(), 137 | 143 | 153)
            || has(&["SIGKILL", "SIGXFSZ", "signal: 9 ", "signal: 25 "])
        {
            Self::Limit
        } else if outcome.code() == 0 && has(&["] successful run completed"]) {
            Self::Well
        } else {
            Self::GaveUp
        }
    }
}

/// Runs them, each in a compartment of its own, and tells how each ended.
fn run(stressors: &[String]) -> BTreeMap<String, End> {
    let (left, ends) = (Mutex::new(stressors.iter()), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let Some(name) = left.lock().unwrap().next() else { return };
            let stress = ["stress-ng", "--verbose", "--temp-path", "/tmp", "--timeout", "1s"];
            let outcome = bulkhead(BOUNDS).args(stress).arg(format!("--{name}")).arg("1").run();
            let end = End::of(&outcome);
            if end == End::GaveUp {
                println!("stress-ng: {name} gave up: {}", outcome.code());
            }
            ends.lock().unwrap().insert(name.clone(), end);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    ends.into_inner().unwrap()
}

/// What there is on this machine for everybody, but for what other tests have of their own meanwhile.
#[derive(PartialEq)]
struct Outside(BTreeMap<String, String>);

impl Outside {
    fn now() -> Self {
        let mut found = BTreeMap::new();
        for directory in
            ["/etc", "/usr", "/var", "/boot", "/root", "/home", "/dev/shm", "/dev/mqueue"]
        {
            files(Path::new(directory), &mut found);
        }
        for shared in ["/tmp", "/var/tmp", "/run"] {
            // Others have theirs there; its own have its name.
            for entry in std::fs::read_dir(shared).unwrap() {
                let path = entry.unwrap().path();
                if path.to_string_lossy().contains("stress-ng") {
                    files(&path, &mut found);
                }
            }
        }
        settings(Path::new("/proc/sys"), &mut found);
        for path in [
            "/proc/self/mountinfo",
            "/proc/swaps",
            "/proc/sysvipc/shm",
            "/proc/sysvipc/sem",
            "/proc/sysvipc/msg",
        ] {
            found.insert(path.to_owned(), std::fs::read_to_string(path).unwrap());
        }
        let modules = std::fs::read_to_string("/proc/modules").unwrap();
        for name in modules.lines().filter_map(|line| line.split(' ').next()) {
            // Those that the tests of quotas have loaded.
            if name != "loop" && !name.starts_with("quota") {
                found.insert(format!("module {name}"), String::new());
            }
        }
        for what in [["address", "show"], ["route", "show"], ["link", "show"]] {
            let outcome = Program::new("ip").args(["-oneline"]).args(what).run().expect(0);
            found.insert(format!("ip {}", what[0]), outcome.stdout);
        }
        Self(found)
    }

    /// What differs, a line each.
    fn changes(&self, after: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(after.0.keys());
        let mut changed: Vec<String> = keys
            .filter(|key| self.0.get(*key) != after.0.get(*key))
            .map(|key| format!("{key}: {:?}, then {:?}", self.0.get(key), after.0.get(key)))
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// Everything beneath, by what changes with it: nobody can set the time of the last change of an inode (ctime), so
/// it stands for the content too.
fn files(at: &Path, found: &mut BTreeMap<String, String>) {
    // What the system's own services write as time goes by, and tests.
    if ["/var/log", "/var/lib/systemd", "/var/tmp"].iter().any(|own| at == Path::new(own)) {
        return;
    }
    let Ok(metadata) = std::fs::symlink_metadata(at) else { return };
    let (mode, owner, size) = (metadata.mode(), (metadata.uid(), metadata.gid()), metadata.size());
    let told = format!("{mode:o} {owner:?} {size} {} {}", metadata.ctime(), metadata.ctime_nsec());
    found.insert(at.display().to_string(), told);
    if metadata.is_dir() {
        for entry in std::fs::read_dir(at).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    }
}

/// The settings of the kernel: what can be written. What cannot are its counters.
fn settings(at: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        // The pid that was given last; and a rate that the kernel lowers by itself under load.
        let moves = path.ends_with("ns_last_pid") || path.ends_with("perf_event_max_sample_rate");
        if metadata.is_dir() {
            settings(&path, found);
        } else if metadata.mode() & 0o200 != 0
            && !moves
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            found.insert(path.display().to_string(), text);
        }
    }
}

/// The cgroups beneath ours that have a name of `exec`'s.
fn compartments() -> Vec<String> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let mut found = Vec::new();
    let mut pending = vec![Path::new("/sys/fs/cgroup").join(own)];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path().display().to_string());
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn stress_in_a_compartment_leaves_the_service_serving_and_nothing_outside_changed() {
    // What fills and floods is for the machine that can bound it, and that is thrown away.
    if !lane::promised() {
        lane::skip(test_name!(), "it runs in the virtual machine only");
        return;
    }
    if !lane::program(test_name!(), "stress-ng") {
        return;
    }
    let service = Service::start();
    service.enable(&Package::hostile("sibling", "well", ""));
    let (supervisor, cgroups) = (service.supervisor(), compartments());
    let before = Outside::now();
    // The control: a change is seen.
    let probe = tempfile::Builder::new().tempfile_in("/var").unwrap();
    assert_ne!(before.changes(&Outside::now()), [""; 0]);
    drop(probe);
    let before = Outside::now();

    let stressors = stressors();
    let mut admin = service.admin();
    let call = format!("/v1/plugins/sibling/call/echo?timeout={}", lane::slack().as_millis());
    let mut calls = 0;
    let ends = std::thread::scope(|scope| {
        let riot = scope.spawn(|| run(&stressors));
        while !riot.is_finished() {
            // Each within its deadline, or it is no success.
            let reply = admin.post(&call, "[1]").unwrap();
            assert_eq!(reply.json(), serde_json::json!([1]), "after {calls} calls");
            calls += 1;
        }
        riot.join().unwrap()
    });
    let of = |end: End| ends.values().filter(|it| **it == end).count();
    let [well, limit, seccomp, gave_up] =
        [End::Well, End::Limit, End::Seccomp, End::GaveUp].map(of);
    println!(
        "stress-ng: {calls} calls were answered beside {} stressors: {well} ended well, {limit} by a limit, {seccomp} by seccomp, {gave_up} gave up",
        ends.len()
    );
    assert!(PLAIN.iter().all(|name| ends[*name] == End::Well), "{ends:?}");
    assert_eq!(ends.len(), stressors.len());
    assert!(well + limit + seccomp >= ends.len() / 3, "{ends:?}");
    assert!(calls > ends.len() / AT_ONCE, "{calls} calls beside {}", ends.len());

    assert_eq!(service.supervisor(), supervisor, "the same one all along");
    let after = Outside::now();
    assert_eq!(before.changes(&after), [""; 0]);
    assert_eq!(compartments(), cgroups);
    let ours = |command: &str| command.contains("stress-ng --verbose --temp-path");
    let left: Vec<_> =
        processes().into_iter().filter(|it| ours(&it.command)).map(|it| it.pid).collect();
    assert_eq!(left, [0; 0]);
    service.json(["disable", "sibling"]);
}
