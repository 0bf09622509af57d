//! The attack list, as far as it is safe outside a virtual machine: what a program in a compartment tries to get
//! out, and the same attempt outside, where it succeeds.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;

use bulkhead_sandbox::attack::{self, KILLED, Outcome, Scene};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Cause, Identity, Layer, Mount, Network, Policy, ProgramFile};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
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

fn errno(errno: Errno) -> Outcome {
    Outcome::Errno(errno as i32)
}

/// Makes an attempt in a compartment.
fn inside(policy: Policy, name: &str, argument: &str) -> Outcome {
    compartment(policy, name, argument).0
}

fn compartment(policy: Policy, name: &str, argument: &str) -> (Outcome, Cause) {
    outcome(Command::attempt(policy, name, argument))
}

fn outcome(command: Command<'_>) -> (Outcome, Cause) {
    let exit = command.run().exit;
    (Outcome::of(exit.status).unwrap(), exit.cause)
}

/// Makes an attempt outside.
fn outside(name: &str, argument: &str) -> Outcome {
    attack::outside(attack::find(name).unwrap(), argument, &ATTEMPT_INSIDE).unwrap()
}

#[test]
fn calls_that_reach_other_processes_or_the_kernel_are_killed() {
    let scene = Scene::new().unwrap();
    // Where the machine is promised to be root's, all succeed outside. Elsewhere that depends on the machine and on
    // who asks, but for those marked.
    let promised = lane::promised() && nix::unistd::geteuid().is_root();
    let cases = [
        ("ptrace", promised),
        ("pidfd_getfd", true),
        ("io_uring_setup", promised),
        ("userfaultfd", promised),
        ("bpf", promised),
        ("perf_event_open", promised),
        ("open_by_handle_at", promised),
        // Kernels are built without x32, and may be without the other.
        #[cfg(target_arch = "x86_64")]
        ("x32", false),
        #[cfg(target_arch = "x86_64")]
        ("int 0x80", false),
        ("process_vm_readv", true),
        ("keyctl", true),
    ];
    for (name, has_control) in cases {
        let attack = attack::find(name).unwrap();
        let argument = scene.argument(attack.on).unwrap();
        let free = outside(name, &argument);
        assert_ne!(free, KILLED, "{name}, outside");
        assert!(attack.succeeds(free) || !has_control, "{name}, outside: {free:?}");
        if !attack.succeeds(free) {
            println!("no control for {name}: outside {free}");
        }
        for policy in [plugin(), program()] {
            let profile = policy.profile;
            let (outcome, cause) = compartment(policy, name, &argument);
            // perf_event_open is refused politely where ordinary programs live.
            if name == "perf_event_open" && profile == Profile::Program {
                assert_eq!(outcome, errno(Errno::EPERM));
                continue;
            }
            assert_eq!((outcome, cause), (KILLED, Cause::Seccomp), "{name} under {profile}");
        }
    }
}

#[test]
fn privilege_is_refused() {
    let root = nix::unistd::geteuid().is_root();
    let cases = [
        ("user namespace", KILLED, errno(Errno::EPERM)),
        ("setns", KILLED, errno(Errno::EPERM)),
        ("mount", KILLED, errno(Errno::EPERM)),
        ("chroot", KILLED, errno(Errno::EPERM)),
        ("shmget", KILLED, errno(Errno::ENOSYS)),
        ("write and execute", KILLED, errno(Errno::EACCES)),
        ("clone3", errno(Errno::ENOSYS), errno(Errno::ENOSYS)),
        ("real-time scheduling", errno(Errno::EPERM), errno(Errno::EPERM)),
    ];
    for (name, in_plugin, in_program) in cases {
        assert_eq!(inside(plugin(), name, ""), in_plugin, "{name}");
        assert_eq!(inside(program(), name, ""), in_program, "{name}");
    }
    for (name, needs_root) in [
        ("write and execute", false),
        ("shmget", false),
        ("clone3", false),
        ("user namespace", false),
        ("setns", false),
        ("mount", true),
        ("chroot", true),
        ("real-time scheduling", true),
    ] {
        let free = outside(name, "");
        let succeeds = attack::find(name).unwrap().succeeds(free);
        assert!(succeeds || needs_root && !root, "{name}, outside: {free}");
    }
}

#[test]
fn no_socket_is_made_without_a_grant() {
    let root = nix::unistd::geteuid().is_root();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = datagrams.local_addr().unwrap().port().to_string();
    for (name, needs_root) in [
        ("netlink", false),
        ("udp", false),
        ("tcp", false),
        ("packet", true),
        ("raw", true),
        ("mptcp", false),
        ("vsock", false),
    ] {
        for policy in [plugin(), program()] {
            assert_eq!(inside(policy, name, &port), errno(Errno::EAFNOSUPPORT), "{name}");
        }
        match outside(name, &port) {
            Outcome::Done => {}
            _ if needs_root && !root => {}
            // Kernels may be built without these two.
            missing if name == "vsock" || name == "mptcp" => {
                println!("no control for {name}: the kernel says {missing:?}");
            }
            refused => panic!("{name}, outside: {refused:?}"),
        }
    }
}

#[test]
fn a_grant_of_a_port_is_not_passed_by_other_ways_to_connect() {
    let test = "a_grant_of_a_port_is_not_passed_by_other_ways_to_connect";
    if !lane::require(test, Layer::LandlockNetwork) {
        return;
    }
    let (granted, other) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let policy = || Policy {
        network: Network::Ports { connect: vec![port(&granted)], bind: vec![] },
        ..plugin()
    };
    let (granted_port, other_port) = (port(&granted).to_string(), port(&other).to_string());
    assert_eq!(inside(policy(), "connect", &granted_port), Outcome::Done);
    assert_eq!(inside(policy(), "connect", &other_port), errno(Errno::EACCES));
    assert_eq!(outside("connect", &other_port), Outcome::Done);
    for port in [&granted_port, &other_port] {
        assert_eq!(inside(policy(), "fast open", port), errno(Errno::EOPNOTSUPP));
    }
    assert_eq!(outside("fast open", &other_port), Outcome::Done);
    for name in ["udp", "raw", "mptcp", "netlink"] {
        assert_eq!(inside(policy(), name, ""), errno(Errno::EAFNOSUPPORT), "{name}");
    }
}

#[test]
fn sockets_of_the_machine_are_out_of_reach() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(outside("unix socket", path), Outcome::Done);
    assert_eq!(inside(program(), "unix socket", path), errno(Errno::ENOENT));
    // A plugin gets not even a socket to connect with.
    assert_eq!(inside(plugin(), "unix socket", path), errno(Errno::EAFNOSUPPORT));

    let name = format!("bulkhead-denials-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(outside("abstract socket", &name), Outcome::Done);
    let in_its_network = inside(program(), "abstract socket", &name);
    // By the network namespace, or by Landlock's scope, whichever comes first.
    let refused = [errno(Errno::ECONNREFUSED), errno(Errno::EPERM)];
    assert!(refused.contains(&in_its_network), "{in_its_network:?}");
    if lane::require("sockets_of_the_machine_are_out_of_reach", Layer::LandlockScopes) {
        let policy = Policy { network: Network::Host, ..program() };
        assert_eq!(inside(policy, "abstract socket", &name), errno(Errno::EPERM));
    }
}

/// A mount shows the sockets in it as well, and for who connects it does not matter that it is read-only.
#[test]
fn sockets_in_a_place_that_is_shown_are_out_of_reach() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = fs::canonicalize(directory.path()).unwrap();
    let _stream = UnixListener::bind(place.join("stream")).unwrap();
    let _datagrams = UnixDatagram::bind(place.join("datagrams")).unwrap();
    for name in ["stream", "datagrams"] {
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    // From ABI 9 on Landlock has a right for it, and a program has local sockets all the same.
    let governed = bulkhead_sandbox::probe::probe().landlock_abi >= 9;
    let in_program = errno(if governed { Errno::EACCES } else { Errno::EAFNOSUPPORT });
    for (attack, name) in [("unix socket", "stream"), ("unix datagram", "datagrams")] {
        let socket = place.join(name);
        let socket = socket.to_str().unwrap();
        assert_eq!(outside(attack, socket), Outcome::Done);
        for mount in [Mount::read_only(&place, &place), Mount::read_write(&place, &place)] {
            let shown = |mut policy: Policy| {
                policy.filesystem.show(mount.clone());
                policy
            };
            let held = inside(shown(plugin()), attack, socket);
            assert_eq!(held, errno(Errno::EAFNOSUPPORT), "plugin, {attack}, {mount:?}");
            assert_eq!(inside(shown(program()), attack, socket), in_program, "{attack}, {mount:?}");
            // The control: what is a program's own it does reach, by the same mount.
            if !governed {
                let mut own = program();
                own.filesystem.mounts.push(mount);
                assert_eq!(inside(own, attack, socket), Outcome::Done, "{attack}");
            }
        }
    }
}

#[test]
fn signals_do_not_leave() {
    let ours = std::process::id().to_string();
    let sibling = Command::shell(program(), "exec sleep 60").start().unwrap();
    let theirs = sibling.child.pid().to_string();
    for pid in [&ours, &theirs] {
        assert_eq!(outside("signal", pid), Outcome::Done);
        for policy in [plugin(), program()] {
            let outcome = inside(policy, "signal", pid);
            assert!([errno(Errno::ESRCH), errno(Errno::EPERM)].contains(&outcome), "{outcome:?}");
        }
    }
    sibling.child.kill().unwrap();
    sibling.finish();
}

#[test]
fn no_descriptor_is_inherited() {
    let secret = tempfile::tempfile().unwrap();
    fcntl(&secret, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    assert_eq!(outside("descriptors", ""), Outcome::Done);
    assert_eq!(inside(plugin(), "descriptors", ""), errno(Errno::EBADF));
    assert_eq!(inside(program(), "descriptors", ""), errno(Errno::EBADF));
}

#[test]
fn a_set_user_id_program_gains_nothing() {
    if !lane::root("a_set_user_id_program_gains_nothing") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program_file = directory.path().join("gain");
    fs::copy(std::env::current_exe().unwrap(), &program_file).unwrap();
    fs::set_permissions(&program_file, fs::Permissions::from_mode(0o4755)).unwrap();

    let mut free = std::process::Command::new(&program_file);
    free.args(ATTEMPT_INSIDE).env(attack::NAME, "gain").stdout(std::process::Stdio::null());
    assert!(free.uid(65534).gid(65534).current_dir("/").status().unwrap().success());

    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_only(directory.path(), "/opt/gain"));
    let mut confined = Command::attempt(policy, "gain", "");
    confined.file = ProgramFile::Path("/opt/gain/gain".into());
    assert_eq!(outcome(confined).0, errno(Errno::EPERM));
}

#[test]
fn a_file_in_memory_is_never_executed() {
    assert_eq!(outside("memory file", ""), Outcome::Done);
    for policy in [plugin(), program()] {
        assert_eq!(inside(policy.clone(), "memory file", ""), errno(Errno::EACCES));
        // Kernels before 6.3 do not know the seal, and refuse to make the file.
        let sealed = inside(policy, "sealed memory file", "");
        assert!([errno(Errno::EACCES), errno(Errno::EINVAL)].contains(&sealed), "{sealed:?}");
    }
}

#[test]
fn nothing_is_typed_into_the_terminal() {
    if lane::root("nothing_is_typed_into_the_terminal") {
        // With CAP_SYS_ADMIN a terminal need not be one's own.
        assert_eq!(outside("type into the terminal", ""), Outcome::Done);
    }
    for policy in [plugin(), program()] {
        let (_holder, terminal) = attack::terminal_pair().unwrap();
        let mut command = Command::attempt(policy, "type into the terminal", "3");
        command.bootstrap = Some(terminal);
        assert_eq!(outcome(command).0, errno(Errno::ENOTTY));
    }
}

/// A directory of the compartment's own uid, with a file in it, mounted read-only: nothing but the mount and
/// Landlock protect it. The control is the same directory, writable.
#[test]
fn what_is_mounted_read_only_cannot_be_changed() {
    let identity = lane::identity();
    let made = || {
        let directory = data(identity);
        let file = directory.path().join("file");
        fs::write(&file, "text").unwrap();
        if let Identity::Leased { uid, gid } = identity {
            std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
        }
        directory
    };
    let with = |name: &str, mount: Mount| {
        let mut policy = plugin();
        policy.filesystem.mounts.push(mount);
        let mut command = Command::attempt(policy, name, "/mnt/file");
        command.identity = identity;
        outcome(command).0
    };
    let refused = [errno(Errno::EROFS), errno(Errno::EACCES)];
    for name in
        ["append", "truncate", "truncate by reading", "chmod", "chown", "touch", "unlink", "rename"]
    {
        let directory = made();
        let kept = with(name, Mount::read_only(directory.path(), "/mnt"));
        // `chown` is no call of a plugin's.
        let expected = if name == "chown" { &[KILLED][..] } else { &refused[..] };
        assert!(expected.contains(&kept), "{name}: {kept:?}");
        assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "text", "{name}");
        if name != "chown" {
            let written = with(name, Mount::read_write(directory.path(), "/mnt"));
            let old_kernel = name.starts_with("truncate") && written == errno(Errno::EACCES);
            assert!(written == Outcome::Done || old_kernel, "{name}: {written:?}");
        }
    }
    let directory = made();
    let writable = || Mount::read_write(directory.path(), "/mnt");
    assert_eq!(with("read", writable()), Outcome::Done);
    assert_eq!(with("set-user-id", writable()), errno(Errno::EPERM));
    assert_eq!(with("setxattr", writable()), KILLED);
    assert_eq!(with("chown", writable()), KILLED);
    // The control: the same file, by its owner or root outside.
    let file = directory.path().join("file");
    for name in ["set-user-id", "setxattr", "chown"] {
        let free = outside(name, file.to_str().unwrap());
        let succeeds = attack::find(name).unwrap().succeeds(free);
        // Only root gives files away, and not every file system has attributes.
        let excused = match name {
            "chown" => !nix::unistd::geteuid().is_root(),
            "setxattr" => free == errno(Errno::EOPNOTSUPP),
            _ => false,
        };
        assert!(succeeds || excused, "{name}, outside: {free}");
    }
}

#[test]
fn no_link_or_rename_leads_out_of_the_data() {
    let identity = lane::identity();
    let (own, read_only, secret) = (data(identity), data(identity), data(identity));
    for directory in [&read_only, &secret] {
        fs::write(directory.path().join("file"), "text").unwrap();
    }
    let secret = secret.path().join("file");
    let with = |name: &str, path: &str| {
        let mut policy = plugin();
        policy.filesystem.mounts.push(Mount::read_write(own.path(), "/data"));
        policy.filesystem.mounts.push(Mount::read_only(read_only.path(), "/opt/others"));
        let mut command = Command::attempt(policy, name, &format!("{path}:/data"));
        command.identity = identity;
        outcome(command).0
    };
    let refused = [errno(Errno::EXDEV), errno(Errno::EROFS), errno(Errno::EACCES)];
    for name in ["link into data", "move into data"] {
        let outcome = with(name, "/opt/others/file");
        assert!(refused.contains(&outcome), "{name}: {outcome:?}");
    }
    // The link itself may be made: it leads nowhere.
    assert_eq!(with("read by symlink", secret.to_str().unwrap()), errno(Errno::ENOENT));
    assert_eq!(outside("read", secret.to_str().unwrap()), Outcome::Done);
    // The control: within /data all work.
    fs::write(own.path().join("mine"), "text").unwrap();
    if let Identity::Leased { uid, gid } = identity {
        std::os::unix::fs::chown(own.path().join("mine"), Some(uid), Some(gid)).unwrap();
    }
    for name in ["link into data", "move into data", "read by symlink"] {
        assert_eq!(with(name, "/data/mine"), Outcome::Done, "{name}");
    }
}

#[test]
fn the_cgroup_tree_is_out_of_reach() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let Some(root) = mounts.lines().find(|line| line.contains(" - cgroup2 ")) else {
        return lane::skip("the_cgroup_tree_is_out_of_reach", "no cgroup2 mount");
    };
    let procs = format!("{}/cgroup.procs", root.split(' ').nth(4).unwrap());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(outside("append", &procs), Outcome::Done);
    }
    assert_eq!(inside(plugin(), "append", &procs), errno(Errno::ENOENT));
    assert_eq!(inside(program(), "append", &procs), errno(Errno::ENOENT));
}
