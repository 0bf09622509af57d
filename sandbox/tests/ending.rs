//! However a program behaves, all of it is gone when it must be, and nothing is left of a start that
//! failed.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use bulkhead_sandbox::cgroup::{Controller, Tree};
use bulkhead_sandbox::stop::StepName::{Empty, Exited, Removed, Sigkill, Sigterm};
use bulkhead_sandbox::stop::{self, Ladder, StepName, Stopped};
use bulkhead_sandbox::{Cause, CpuMax, Mount, ProgramFile, Signal, SpawnError, Stage, Status};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use run::{Command, DEADLINE, Running, program};

const GRACE: Duration = Duration::from_millis(300);

/// Starts a script and waits until it says that it is ready.
fn ready(tree: Option<&Tree>, script: &str) -> (Running, BufReader<fs::File>) {
    let running = Command::shell(program(), script).tree(tree).start().unwrap();
    let mut lines = BufReader::new(running.stdout.try_clone().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (running, lines)
}

fn ladder(running: Running, grace: Duration) -> Stopped {
    let start = Instant::now();
    let stopped = stop::ladder(running.child, Ladder { grace, disappear: DEADLINE }).unwrap();
    let budget = grace + Duration::from_secs(2);
    assert!(start.elapsed() < budget, "took {:?}", start.elapsed());
    assert!(stopped.timeline.is_sorted_by_key(|step| step.at_ms));
    stopped
}

fn names(stopped: &Stopped) -> Vec<StepName> {
    stopped.timeline.iter().map(|step| step.name).collect()
}

#[test]
fn a_program_that_obeys_ends_by_itself() {
    let tree = lane::tree();
    let (running, mut lines) = ready(
        tree.as_ref(),
        "trap 'echo saved; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let stopped = ladder(running, DEADLINE);
    assert_eq!(stopped.exit.status, Status::Exited(7));
    assert_eq!(stopped.exit.cause, Cause::Code(7));
    assert_eq!(names(&stopped), [Sigterm, Exited, Empty, Removed]);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "saved\n");
}

#[test]
fn the_default_action_of_a_signal_works_for_the_program() {
    // It would not for the first process of a pid namespace.
    let (running, _lines) = ready(None, "echo ready; exec sleep 60");
    let stopped = ladder(running, DEADLINE);
    assert_eq!(stopped.exit.status, Status::Signaled { signal: 15, core: false });
    assert_eq!(stopped.exit.cause, Cause::Signal(15));
}

#[test]
fn a_cgroup_that_somebody_else_removed_is_empty() {
    let Some(tree) = lane::tree() else {
        return lane::skip("a_cgroup_that_somebody_else_removed_is_empty", "no cgroup v2 tree");
    };
    let (mut running, _lines) = ready(Some(&tree), "echo ready; exec sleep 60");
    let child = &mut running.child;
    let cgroup = child.cgroup().unwrap().path().to_owned();
    // The control: while a process is in it, it is not empty and cannot be removed.
    assert!(!child.is_empty().unwrap());
    assert!(fs::remove_dir(&cgroup).is_err());
    child.kill().unwrap();
    let deadline = Instant::now() + DEADLINE;
    assert!(child.wait_exited(Some(deadline)) && child.wait_empty(deadline).unwrap());
    fs::remove_dir(&cgroup).unwrap();
    assert!(child.is_empty().unwrap());
    assert!(child.wait_empty(deadline).unwrap());
    assert!(child.try_reap().unwrap().is_some());
    let exit = running.child.remove().unwrap();
    assert_eq!(exit.status, Status::Signaled { signal: 9, core: false });
}

#[test]
fn a_kill_needs_no_descriptor_more() {
    let Some(tree) = lane::tree() else {
        return lane::skip("a_kill_needs_no_descriptor_more", "no cgroup tree");
    };
    let cgroup = tree.create("full").unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let another = fs::File::open(cgroup.path().join("cgroup.events"));
    let killed = cgroup.kill();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    another.expect_err("the control: there is none to be had");
    killed.unwrap();
    cgroup.remove().unwrap();
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_the_grace() {
    let tree = lane::tree();
    let (running, _lines) =
        ready(tree.as_ref(), "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let start = Instant::now();
    let stopped = ladder(running, GRACE);
    assert!(start.elapsed() >= GRACE);
    assert_eq!(stopped.exit.cause, Cause::Killed);
    assert_eq!(names(&stopped), [Sigterm, Sigkill, Exited, Empty, Removed]);
}

#[test]
fn one_that_stopped_itself_is_killed_after_the_grace() {
    let tree = lane::tree();
    let (running, _lines) = ready(tree.as_ref(), "echo ready; kill -STOP $$; sleep 60");
    // Until it has stopped, SIGTERM would still end it.
    let stat = format!("/proc/{}/stat", running.child.program_pid().unwrap());
    let start = Instant::now();
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(start.elapsed() < DEADLINE, "it never stopped");
        std::thread::yield_now();
    }
    assert_eq!(ladder(running, GRACE).exit.cause, Cause::Killed);
}

#[test]
fn what_detached_itself_goes_with_the_program() {
    let tree = lane::tree();
    // The grandchild leaves its session, ignores what can be ignored, and holds stdout.
    let script = "setsid sh -c 'trap \"\" TERM HUP INT; echo ready; while :; do sleep 0.05; done' & exec sleep 60";
    let (running, mut lines) = ready(tree.as_ref(), script);
    let stopped = ladder(running, DEADLINE);
    assert_eq!(stopped.exit.status, Status::Signaled { signal: 15, core: false });
    // Its end of stdout is closed: it is gone. A process of it left alive would block here.
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    if let Some(tree) = tree {
        assert_eq!(tree.leftovers().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_program_that_exits_takes_its_orphans_along() {
    let tree = lane::tree();
    let running = Command::shell(program(), "(setsid sleep 60 &) ; exit 3")
        .tree(tree.as_ref())
        .start()
        .unwrap();
    let finished = running.finish();
    assert_eq!(finished.exit.status, Status::Exited(3));
    // `finish` has read stdout to its end, which the orphan held.
}

#[test]
fn a_kill_that_races_with_forks_leaves_nothing() {
    let tree = lane::tree();
    let script = "trap '' TERM; echo ready; while :; do sleep 60 & done";
    let (running, mut lines) = ready(tree.as_ref(), script);
    let stopped = ladder(running, Duration::ZERO);
    assert_eq!(stopped.exit.cause, Cause::Killed);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
}

#[test]
fn signals_reach_the_program_and_only_it_is_asked() {
    let (running, mut lines) = ready(
        None,
        "trap 'echo usr1' USR1; trap 'echo int; exit 0' INT; echo ready; while :; do sleep 0.05; done",
    );
    let mut line = String::new();
    running.child.signal(Signal::SIGUSR1).unwrap();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "usr1\n");
    running.child.signal(Signal::SIGINT).unwrap();
    line.clear();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "int\n");
    assert!(running.child.signal(Signal::SIGSTOP).is_err());
    assert_eq!(running.finish().exit.status, Status::Exited(0));
}

#[test]
fn a_tree_that_is_dropped_first_goes_with_its_last_compartment() {
    let Some(tree) = lane::tree() else { return };
    let path = tree.path().to_owned();
    let (running, _lines) = ready(Some(&tree), "echo ready; exec sleep 60");
    drop(tree);
    assert!(path.exists());
    ladder(running, DEADLINE);
    // A directory that was given to us stays; one that we made at the root of the hierarchy goes.
    let ours = path.file_name().unwrap().to_string_lossy().starts_with("bulkhead-");
    assert_eq!(path.exists(), !ours);
}

#[test]
fn dropping_a_child_leaves_nothing() {
    let tree = lane::tree();
    let (running, mut lines) = ready(tree.as_ref(), "echo ready; exec sleep 60");
    drop(running);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    if let Some(tree) = tree {
        assert_eq!(tree.leftovers().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn everything_dies_with_the_thread_that_started_it() {
    let (running, mut lines) =
        std::thread::spawn(|| ready(None, "echo ready; exec sleep 60")).join().unwrap();
    let mut running = running;
    assert!(running.child.wait_exited(Some(Instant::now() + DEADLINE)));
    let exit = running.child.try_reap().unwrap().unwrap();
    assert_eq!(exit.status, Status::Signaled { signal: 9, core: false });
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
}

/// Descriptors, children and cgroups of this process.
fn footprint(tree: Option<&Tree>) -> (usize, String, Vec<String>) {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    let task = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    let children = fs::read_to_string(task).unwrap();
    (descriptors, children, tree.map_or(Vec::new(), |tree| tree.leftovers().unwrap()))
}

#[test]
fn a_start_that_fails_names_its_stage_and_leaves_nothing() {
    let tree = lane::tree();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("plain", "no program", 0o755);
    write("unrunnable", "#!/bin/sh\n", 0o644);
    write("lost", "#!/no/such/interpreter\n", 0o755);
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_only(directory.path(), "/tool"));
    let cases: Vec<(&str, Stage, i32, Command<'_>)> = vec![
        (
            "missing program",
            Stage::Exec,
            libc::ENOENT,
            Command::new(policy.clone(), "/tool/absent", &[]),
        ),
        (
            "no run bit",
            Stage::Exec,
            libc::EACCES,
            Command::new(policy.clone(), "/tool/unrunnable", &[]),
        ),
        (
            "no interpreter",
            Stage::Exec,
            libc::ENOENT,
            Command::new(policy.clone(), "/tool/lost", &[]),
        ),
        (
            "no program at all",
            Stage::Exec,
            libc::ENOEXEC,
            Command::new(policy.clone(), "/tool/plain", &[]),
        ),
        ("a directory", Stage::Exec, libc::EACCES, Command::new(policy.clone(), "/tool", &[])),
        ("a script by descriptor", Stage::Exec, libc::ENOENT, {
            let mut command = Command::new(policy.clone(), "script", &[]);
            write("script", "#!/bin/sh\n", 0o755);
            let file = fs::File::open(directory.path().join("script")).unwrap();
            command.file = ProgramFile::Descriptor(file.into());
            command
        }),
        ("missing source", Stage::Sources, libc::ENOENT, {
            let mut policy = policy.clone();
            policy.filesystem.mounts.push(Mount::read_only("/no/such/source", "/data"));
            Command::new(policy, "/bin/true", &[])
        }),
        ("missing target beneath a mount", Stage::Mount, libc::ENOENT, {
            let mut policy = policy.clone();
            policy.filesystem.mounts.push(Mount::read_only("/usr", "/tool/absent"));
            Command::new(policy, "/bin/true", &[])
        }),
        ("missing working directory", Stage::Directory, libc::ENOENT, {
            let mut command = Command::new(policy.clone(), "/bin/true", &[]);
            command.cwd = "/nowhere".into();
            command
        }),
    ];
    for (case, stage, errno, command) in cases {
        let held = usize::from(matches!(command.file, ProgramFile::Descriptor(_)));
        let before = footprint(tree.as_ref());
        let result = command.tree(tree.as_ref()).start();
        let after = footprint(tree.as_ref());
        match result {
            Err(SpawnError::Stage { stage: found, ref source, .. }) => {
                assert_eq!((found, source.raw_os_error()), (stage, Some(errno)), "{case}");
            }
            Err(other) => panic!("{case}: {other}"),
            Ok(_) => panic!("{case}: started"),
        }
        // What the launch itself held is consumed.
        assert_eq!((after.0, after.1, after.2), (before.0 - held, before.1, before.2), "{case}");
    }
}

#[test]
fn errors_name_the_path_and_say_what_to_do() {
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_only("/no/such/source", "/data"));
    let Err(error) = Command::new(policy, "/bin/true", &[]).start() else { panic!("started") };
    let text = error.to_string();
    assert!(
        text.contains("/no/such/source")
            && text.contains("No such file")
            && text.contains("create it"),
        "{text}"
    );
    let Err(error) = Command::new(program(), "/no/such/program", &[]).start() else {
        panic!("started")
    };
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn a_memory_hog_dies_as_a_group_and_the_cause_is_memory() {
    let test = "a_memory_hog_dies_as_a_group_and_the_cause_is_memory";
    let Some(tree) = lane::tree_with(test, Controller::Memory) else { return };
    let mut policy = program();
    policy.limits.memory = Some(32 << 20);
    // More than once: how it dies depends on whose pages are in the cache.
    for _ in 0..5 {
        // The shell survives tail's death unless the whole group is killed.
        let hog = "head -c 256m /dev/zero | tail; echo survived";
        let finished = Command::shell(policy.clone(), hog).tree(Some(&tree)).run();
        assert_eq!(finished.stdout, "");
        let Cause::OutOfMemory { limit: Some(limit), peak } = finished.exit.cause else {
            panic!("{:?}", finished.exit)
        };
        assert_eq!(limit, 32 << 20);
        assert!(peak.is_none_or(|peak| peak > 24 << 20), "{peak:?}");
        assert!(finished.exit.explain().contains("limits.memory"));
    }
}

#[test]
fn a_fork_storm_is_held_and_counted() {
    let test = "a_fork_storm_is_held_and_counted";
    let Some(tree) = lane::tree_with(test, Controller::Pids) else { return };
    let mut policy = program();
    policy.limits.pids = Some(8);
    let command =
        Command::shell(policy, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait");
    let finished = command.tree(Some(&tree)).run();
    assert!(finished.exit.usage.pids_refused > 0, "{:?}", finished.exit);
}

#[test]
fn a_spinner_is_held_to_its_share() {
    let test = "a_spinner_is_held_to_its_share";
    let Some(tree) = lane::tree_with(test, Controller::Cpu) else { return };
    let spun = |cpu: Option<CpuMax>, seconds: u64| {
        let mut policy = program();
        policy.limits.cpu = cpu;
        let (running, _lines) = ready_in(&tree, policy, "echo ready; while :; do :; done");
        let (start, before) = (Instant::now(), running.child.usage().cpu_usec.unwrap());
        assert!(!running.child.wait_exited(Some(start + Duration::from_secs(seconds))));
        let (elapsed, used) = (start.elapsed(), running.child.usage().cpu_usec.unwrap() - before);
        let stopped = ladder(running, Duration::ZERO);
        let throttled = stopped.exit.usage.nr_throttled.unwrap_or_default();
        (used as f64 / elapsed.as_micros() as f64, throttled)
    };
    // The control: without a limit nothing holds it but its neighbours.
    let (free, never) = spun(None, 1);
    let (share, throttled) = spun(Some(CpuMax::percent(20)), 3);
    assert!(share < 0.25 && throttled > 0, "used {share} of a CPU, held {throttled} times");
    assert!(free > share && never == 0, "without a limit {free} of a CPU, held {never} times");
}

fn ready_in(
    tree: &Tree,
    policy: bulkhead_sandbox::Policy,
    script: &str,
) -> (Running, BufReader<fs::File>) {
    let running = Command::shell(policy, script).tree(Some(tree)).start().unwrap();
    let mut lines = BufReader::new(running.stdout.try_clone().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    (running, lines)
}

#[test]
fn a_fork_storm_is_held_by_an_rlimit_where_there_is_no_controller() {
    let mut policy = program();
    policy.limits.pids = Some(8);
    if !lane::root("a_fork_storm_is_held_by_an_rlimit_where_there_is_no_controller") {
        return;
    }
    // Without a tree, so without a controller, on any machine.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait";
    let finished = Command::shell(policy, script).run();
    assert!(finished.stderr.contains("fork"), "stderr: {}", finished.stderr);
    let missing: Vec<_> = finished.enforcement.missing().collect();
    let pids = missing.iter().find(|lack| lack.layer == bulkhead_sandbox::Layer::Pids).unwrap();
    assert!(pids.stood_in_by.as_deref().unwrap().contains("RLIMIT_NPROC 9"));
}
