//! The attack list: taking more than one's share. What the kernel has of each kind is bounded for a
//! compartment, and the same attempt succeeds where the bound is wide enough.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_sandbox::attack::{self, KILLED, Outcome};
use bulkhead_sandbox::cgroup::Controller;
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Cause, DiskMax, Exit, IoMax, Limits, Mount, Policy, Status};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use run::{ATTEMPT_INSIDE, Command, data, program};

/// Not a test of its own: the process in which an attempt is made.
#[test]
#[ignore = "the other tests start it"]
fn attempt_inside() {
    attack::make_if_asked();
}

fn plugin() -> Policy {
    Policy { profile: Profile::Plugin, ..program() }
}

fn outcome(exit: &Exit) -> Outcome {
    Outcome::of(exit.status).unwrap()
}

/// Makes an attempt in a compartment.
fn inside(policy: Policy, name: &str, argument: &str) -> Outcome {
    outcome(&Command::attempt(policy, name, argument).run().exit)
}

fn refused(errno: Errno) -> Outcome {
    Outcome::Errno(errno as i32)
}

/// A plugin with so many descriptors at most.
fn with_descriptors(nofile: u64) -> Policy {
    let mut policy = plugin();
    policy.limits.nofile = nofile;
    policy
}

#[test]
fn no_more_files_are_open_than_the_limit() {
    assert_eq!(inside(with_descriptors(128), "open files", "80"), Outcome::Done);
    assert_eq!(inside(with_descriptors(64), "open files", "80"), refused(Errno::EMFILE));
}

#[test]
fn epoll_instances_are_descriptors_and_bounded_as_those() {
    assert_eq!(inside(with_descriptors(128), "epoll instances", "80"), Outcome::Done);
    assert_eq!(inside(with_descriptors(64), "epoll instances", "80"), refused(Errno::EMFILE));
}

#[test]
fn inotify_is_not_for_plugins() {
    assert_eq!(inside(plugin(), "inotify", ""), KILLED);
    assert_eq!(inside(program(), "inotify", ""), Outcome::Done);
}

#[test]
fn little_memory_can_be_locked() {
    const MEBIBYTE: &str = "1048576";
    // All compartments have the same bound, so the control is outside.
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).unwrap();
    let lock = attack::find("lock memory").unwrap();
    let free = attack::outside(lock, MEBIBYTE, &ATTEMPT_INSIDE).unwrap();
    assert!(free == Outcome::Done || hard < 2 << 20, "outside, with {hard} bytes: {free}");
    assert_eq!(inside(plugin(), "lock memory", "16384"), Outcome::Done);
    assert_eq!(inside(plugin(), "lock memory", MEBIBYTE), refused(Errno::ENOMEM));
}

#[test]
fn an_abort_leaves_no_core_and_the_limit_cannot_be_raised() {
    let test = "an_abort_leaves_no_core_and_the_limit_cannot_be_raised";
    // Machines start programs with a soft limit of 0, so that without this nothing would be seen of ours.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    if hard == 0 {
        return lane::skip(test, "the hard limit of core dumps is 0 here already");
    }
    setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
    let raised = "ulimit -c 1000 2>/dev/null && echo raised; ulimit -c";
    let identity = lane::identity();
    let directory = data(identity);

    // Where the kernel dumps depends on the machine: in the directory of the process, or into a pipe.
    let mut free = std::process::Command::new(std::env::current_exe().unwrap());
    free.args(ATTEMPT_INSIDE).env(attack::NAME, "abort").current_dir(directory.path());
    let free = free.stdout(std::process::Stdio::null()).status().unwrap();
    assert_eq!(free.signal(), Some(6), "{free:?}");
    if !free.core_dumped() {
        return lane::skip(test, "no core is dumped outside either");
    }
    let free = std::process::Command::new("/bin/sh").args(["-c", raised]).output().unwrap();
    assert_eq!(free.stdout, b"raised\n1000\n");

    // In a directory in which it could be written.
    let mut policy = plugin();
    policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
    let mut command = Command::attempt(policy, "abort", "");
    command.identity = identity;
    command.cwd = "/data".into();
    let exit = command.run().exit;
    let Status::Signaled { signal: 6, core } = exit.status else { panic!("{exit:?}") };
    assert!(!core, "a core was dumped");
    assert_eq!(Command::shell(program(), raised).run().stdout, "0\n");
}

#[test]
fn a_thread_bomb_is_held() {
    // Without a controller RLIMIT_NPROC stands in, which root's own uid would pass by.
    if !lane::root("a_thread_bomb_is_held") {
        return;
    }
    let tree = lane::tree();
    let attempt = |pids| {
        let mut policy = plugin();
        policy.limits.pids = Some(pids);
        Command::attempt(policy, "threads", "64").tree(tree.as_ref()).run().exit
    };
    assert_eq!(outcome(&attempt(128)), Outcome::Done);
    let exit = attempt(16);
    assert_eq!(outcome(&exit), refused(Errno::EAGAIN));
    if lane::promised() {
        assert!(exit.usage.pids_refused > 0, "{exit:?}");
    }
}

#[test]
fn files_in_memory_are_charged_to_whoever_fills_them() {
    let test = "files_in_memory_are_charged_to_whoever_fills_them";
    let Some(tree) = lane::tree_with(test, Controller::Memory) else { return };
    let bounded = |mebibytes: u64| {
        let mut policy = plugin();
        policy.limits.memory = Some(mebibytes << 20);
        policy.filesystem.tmp_bytes = 1 << 30;
        policy
    };
    for name in ["fill tmp", "fill memory file"] {
        let attempt = |policy| Command::attempt(policy, name, "64").tree(Some(&tree)).run().exit;
        let enough = outcome(&attempt(bounded(128)));
        if name == "fill memory file" && enough == refused(Errno::EINVAL) {
            // Kernels before 6.3 do not know the seal: there is no such file then.
            continue;
        }
        assert_eq!(enough, Outcome::Done, "{name}");
        let exit = attempt(bounded(32));
        assert!(matches!(exit.cause, Cause::OutOfMemory { .. }), "{name}: {exit:?}");
    }
}

/// The disk that a directory lies on, as `io.max` names it: a partition has no limits of its own.
fn disk(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).unwrap().dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let known = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let disk = if known.join("partition").exists() { known.parent()? } else { &known };
    Some(fs::read_to_string(disk.join("dev")).ok()?.trim().to_owned())
}

#[test]
fn an_io_storm_is_held_to_its_share() {
    const MEBIBYTES: u32 = 4;
    let test = "an_io_storm_is_held_to_its_share";
    let Some(tree) = lane::tree_with(test, Controller::Io) else { return };
    let identity = lane::identity();
    let directory = data(identity);
    let Some(device) = disk(directory.path()) else {
        return lane::skip(test, "temporary files are on no disk here");
    };
    let writing = |limit: &dyn Fn(&mut Limits)| {
        let mut policy = program();
        policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
        limit(&mut policy.limits);
        // Past the page cache, so that what is measured is the disk.
        let script =
            format!("exec dd if=/dev/zero of=/data/storm bs=1M count={MEBIBYTES} oflag=direct");
        let mut command = Command::shell(policy, &script).tree(Some(&tree));
        command.identity = identity;
        let before = Instant::now();
        let finished = command.run();
        assert_eq!(outcome(&finished.exit), Outcome::Done, "{}", finished.stderr);
        before.elapsed()
    };
    let free = writing(&|_| {});
    let wbps = Some(1 << 20);
    let one = IoMax { device, rbps: None, wbps, riops: None, wiops: None };
    let of_one = writing(&|limits| limits.io = vec![one.clone()]);
    let each = DiskMax { wbps, ..DiskMax::default() };
    let of_each = writing(&|limits| limits.disks = Some(each));
    let least = Duration::from_secs(u64::from(MEBIBYTES) - 1);
    for held in [of_one, of_each] {
        assert!(held >= least, "{MEBIBYTES} MiB took {held:?} at 1 MiB a second");
        assert!(free < held, "without a limit it took {free:?}, with it {held:?}");
    }
}
