//! Machines and callers that lack something: what still holds holds, and the rest is named.
//!
//! Each test runs itself again in the circumstances that it is about, and fails as that run does.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::borrow::Borrow;
use std::fs;
use std::path::Path;

use bulkhead_sandbox::attack::{self, Inside, Scene, Verdict, judge};
use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::probe::{self, State};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{
    CpuMax, Identity, Layer, Missing, Mount, Network, Policy, SpawnError, Status, Strictness,
};
use run::{ATTEMPT_INSIDE, Command, data, program};

const MARK: &str = "BULKHEAD_TEST_CIRCUMSTANCE";

/// Whether this is the run inside; if not, runs the named test there.
fn inside(test: &str, wrapper: &[&str]) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    // Where a stranger can execute it too.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let copy = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&copy)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", wrapper[0]));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "inside: {out}\n{err}");
    print!("{}", out.lines().filter(|line| line.starts_with("SKIP")).collect::<String>());
    false
}

const AS_NOBODY: [&str; 6] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"];

#[test]
fn the_unprivileged_get_the_same_compartment_but_for_the_uid() {
    let test = "the_unprivileged_get_the_same_compartment_but_for_the_uid";
    if !lane::root_or_inside(test, MARK) || !inside(test, &AS_NOBODY) {
        return;
    }
    if !lane::require(test, Layer::UserNamespace) {
        return;
    }
    assert!(!nix::unistd::geteuid().is_root());
    let directory = data(Identity::Invoker);
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
    let tree = Tree::discover();
    let machine = probe::probe_with(tree.as_ref());
    let script = "id -u; echo in > /data/x && echo wrote; touch /usr/x 2>/dev/null && echo escaped; ls /home; exit 4";
    let mut command = Command::shell(policy.clone(), script).tree(tree.as_ref().ok());
    command.identity = Identity::Invoker;
    let finished = command.run();
    assert_eq!(finished.stdout, "65534\nwrote\n", "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(4));
    for layer in [
        Layer::UserNamespace,
        Layer::PrivateRoot,
        Layer::Capabilities,
        Layer::LandlockFiles,
        Layer::Seccomp,
    ] {
        assert!(finished.enforcement.layer(layer).unwrap().enforced, "{layer}");
    }
    let uid = finished.enforcement.layer(Layer::Uid).unwrap();
    let missing = uid.missing.as_ref().expect("the invoking user's uid is not its own");
    assert!(missing.stood_in_by.is_some() && uid.measured.contains("65534"), "{uid:?}");
    assert_eq!(weighed(machine.missing(&policy)), weighed(finished.enforcement.missing()));
    // A uid of its own needs privilege, and the error says so.
    let mut command = Command::new(program(), "/bin/true", &[]);
    command.identity = Identity::Leased { uid: 1_900_000_001, gid: 1_900_000_001 };
    let Err(error) = command.start() else { panic!("leased a uid without privilege") };
    assert!(error.to_string().contains("uid_map"), "{error}");
}

/// What an exposure counts of what is missing.
fn weighed(missing: impl Iterator<Item = impl Borrow<Missing>>) -> Vec<(Layer, bool)> {
    let weighed = missing.map(|it| (it.borrow().layer, it.borrow().stood_in_by.is_some()));
    weighed.collect()
}

#[test]
fn what_this_machine_is_expected_to_lack_is_what_a_compartment_lacks() {
    let tree = lane::tree();
    let machine = probe::probe();
    let mut policy = program();
    policy.limits.memory = Some(512 << 20);
    policy.limits.cpu = Some(CpuMax::percent(100));
    policy.limits.file_size = Some(1 << 30);
    for network in [Network::None, Network::Ports { connect: vec![443], bind: vec![] }] {
        policy.network = network;
        let finished = Command::shell(policy.clone(), "exit 5").tree(tree.as_ref()).run();
        assert_eq!(finished.exit.status, Status::Exited(5), "{}", finished.stderr);
        assert_eq!(weighed(machine.missing(&policy)), weighed(finished.enforcement.missing()));
    }
}

/// What the service keeps: to lease uids, to hand over storage, to signal.
const AS_THE_SERVICE: [&str; 3] =
    ["setpriv", "--bounding-set=-all,+setuid,+setgid,+chown,+fowner,+dac_override,+kill", "--"];

#[test]
fn root_builds_every_layer_without_cap_sys_admin() {
    let test = "root_builds_every_layer_without_cap_sys_admin";
    if !lane::root_or_inside(test, MARK) || !inside(test, &AS_THE_SERVICE) {
        return;
    }
    if !lane::require(test, Layer::UserNamespace) {
        return;
    }
    // The control: what that capability is for cannot be done any more.
    let output = std::process::Command::new("mount").args(["-t", "tmpfs", "none", "/mnt"]).output();
    assert!(!output.unwrap().status.success());
    let identity = lane::identity();
    let directory = data(identity);
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
    let mut command =
        Command::shell(policy, "id -u; id -G; echo in > /data/x && cat /data/x; exit 6");
    command.identity = identity;
    let finished = command.run();
    let Identity::Leased { uid, gid } = identity else { panic!("root leases") };
    assert_eq!(finished.stdout, format!("{uid}\n{gid}\nin\n"), "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(6));
    let missing: Vec<Layer> = finished.enforcement.missing().map(|lack| lack.layer).collect();
    // Without a tree in this test.
    let of_the_tree = [Layer::Cgroup, Layer::Memory, Layer::Pids, Layer::Cpu];
    assert!(missing.iter().all(|layer| of_the_tree.contains(layer)), "{missing:?}");
}

#[test]
fn an_audit_stream_that_tells_nothing_is_told_to_be_missing() {
    let test = "an_audit_stream_that_tells_nothing_is_told_to_be_missing";
    let state = || probe::probe().layer(Layer::Audit).unwrap().state;
    if std::env::var_os(MARK).is_none() {
        // The control: in the machine's own network namespace it tells.
        if !lane::require(test, Layer::Audit) {
            return;
        }
        assert_eq!(state(), State::Enforced);
    }
    if inside(test, &["unshare", "--net", "--"]) {
        assert_eq!(state(), State::Missing);
    }
}

/// What the kernel answers to a clone3 that asks for nothing.
#[allow(unsafe_code, reason = "no wrapper makes this call")]
fn empty_clone3() -> Option<i32> {
    // SAFETY: with a size of 0 the kernel reads nothing and refuses.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0_usize) };
    assert_eq!(result, -1);
    std::io::Error::last_os_error().raw_os_error()
}

#[test]
fn a_runtime_that_hides_clone3_is_no_obstacle() {
    // What container runtimes do: ENOSYS for clone3, so that libc falls back to clone.
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let filter = [
        step(load, 0, 0),
        step(equal, 1, libc::SYS_clone3 as u32),
        step(answer, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    assert_eq!(empty_clone3(), Some(libc::EINVAL));
    nix::sys::prctl::set_no_new_privs().unwrap();
    // For this thread only, which is the one that starts the compartment.
    bulkhead_sandbox::seccomp::install(&filter).unwrap();
    assert_eq!(empty_clone3(), Some(libc::ENOSYS));
    let tree = lane::tree();
    let finished = Command::shell(program(), "echo here; exit 8").tree(tree.as_ref()).run();
    assert_eq!(finished.stdout, "here\n", "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(8));
    if tree.is_some() {
        assert!(finished.enforcement.layer(Layer::Cgroup).unwrap().enforced);
    }
}

/// A user namespace of its own has its own maximum, which may be 0.
const WITHOUT_NAMESPACES: [&str; 8] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"",
    "sh",
];

/// Not a test of its own: the process in which an attack is made.
#[test]
#[ignore = "the other test starts it"]
fn attempt_inside() {
    attack::make_if_asked();
}

#[test]
fn without_namespaces_no_socket_of_the_machine_is_in_reach_and_no_namespace_covers_that() {
    let test =
        "without_namespaces_no_socket_of_the_machine_is_in_reach_and_no_namespace_covers_that";
    if std::env::var_os(MARK).is_none() && !lane::require(test, Layer::UserNamespace) {
        return;
    }
    if !inside(test, &WITHOUT_NAMESPACES) {
        return;
    }
    let scene = Scene::new().unwrap();
    for profile in [Profile::Plugin, Profile::Program] {
        let policy = Policy { profile, ..program() };
        let how = Inside {
            policy: &policy,
            identity: Identity::Invoker,
            tree: None,
            arguments: &ATTEMPT_INSIDE,
        };
        for name in ["unix socket", "abstract socket", "unix datagram"] {
            let attack = attack::find(name).unwrap();
            let on = scene.argument(attack.on).unwrap();
            let outside = attack::outside(attack, &on, &ATTEMPT_INSIDE).unwrap();
            let inside = attack::inside(attack, &on, &how).unwrap();
            assert_eq!(judge(attack, outside, inside), Verdict::Stopped, "{profile}: {name}");
        }
        let mut command = Command::new(policy.clone(), "/bin/true", &[]);
        command.identity = Identity::Invoker;
        let enforcement = command.run().enforcement;
        for layer in [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes] {
            let found = enforcement.layer(layer).unwrap();
            assert!(!found.measured.contains("namespace"), "{found:?}");
            assert!(!found.measured.contains("private"), "{found:?}");
        }
        let machine = probe::probe();
        let told = machine.layers.iter().filter(|found| found.layer.name().starts_with("landlock"));
        for found in told {
            assert!(!found.detail.contains("namespace"), "{found:?}");
            assert!(!found.detail.contains("private"), "{found:?}");
        }
    }
}

#[test]
fn without_user_namespaces_the_other_layers_hold_and_the_lack_is_named() {
    let test = "without_user_namespaces_the_other_layers_hold_and_the_lack_is_named";
    if std::env::var_os(MARK).is_none() && !lane::require(test, Layer::UserNamespace) {
        return;
    }
    if !inside(test, &WITHOUT_NAMESPACES) {
        return;
    }
    let machine = probe::probe();
    assert_eq!(machine.layer(Layer::UserNamespace).unwrap().state, State::Missing);
    let remedy = machine.layer(Layer::UserNamespace).unwrap().remedy.as_deref().unwrap();
    assert!(remedy.contains("user.max_user_namespaces"), "{remedy}");

    let allowed = data(Identity::Invoker);
    let denied = data(Identity::Invoker);
    fs::write(denied.path().join("secret"), "theirs").unwrap();
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(allowed.path(), "/data"));
    // There is no private root: the paths are the machine's, and the working directory is translated.
    let script = format!(
        "pwd; echo in > x && cat x; cat {}/secret; echo over > {}/new; grep CapEff /proc/self/status; (setsid sh -c 'trap \"\" TERM; sleep 40; sleep 40' &); exit 5",
        denied.path().display(),
        denied.path().display()
    );
    let mut command = Command::shell(policy.clone(), &script);
    command.identity = Identity::Invoker;
    command.cwd = "/data".into();
    // Reads the output to its end, which the detached orphan holds for as long as it lives.
    let start = std::time::Instant::now();
    let finished = command.run();
    assert!(start.elapsed() < run::DEADLINE, "the orphan lived on");
    let expected = format!("{}\nin\n", allowed.path().display());
    assert_eq!(finished.stdout, expected, "stderr: {}", finished.stderr);
    assert_eq!(finished.exit.status, Status::Exited(5));
    assert!(!Path::new(&denied.path().join("new")).exists());
    // The control: the same uid can, outside.
    assert_eq!(fs::read_to_string(denied.path().join("secret")).unwrap(), "theirs");
    for layer in [Layer::Capabilities, Layer::NoNewPrivs, Layer::LandlockFiles, Layer::Seccomp] {
        let found = finished.enforcement.layer(layer).unwrap();
        assert!(found.enforced, "{found:?}");
    }
    let missing: Vec<Layer> = finished.enforcement.missing().map(|lack| lack.layer).collect();
    for layer in
        [Layer::UserNamespace, Layer::PidNamespace, Layer::PrivateRoot, Layer::NetNamespace]
    {
        assert!(missing.contains(&layer), "{missing:?}");
    }

    policy.strictness = Strictness::Strict;
    let mut command = Command::new(policy, "/bin/true", &[]);
    command.identity = Identity::Invoker;
    let refused = command.start();
    assert!(matches!(refused, Err(SpawnError::SandboxUnavailable { .. })));
}
