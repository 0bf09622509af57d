//! The filters in force, in the kernel that runs the tests.
//!
//! Each attempt runs in a process of its own, this test binary started again: once without a filter (the
//! positive control) and once with.
#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use super::*;

/// A current kernel with all namespaces: the filter is tried alone here.
const FACTS: Facts = Facts {
    landlock_abi: 6,
    private_root: true,
    no_places: true,
    pid_namespace: true,
    own_uid: true,
    net_namespace: true,
    sockets: SocketGrant { tcp: false, udp: false },
};

const ATTEMPT: &str = "SECCOMP_ATTEMPT";
const PROFILE: &str = "SECCOMP_PROFILE";

/// What happened to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Errno(i32),
    Signal(i32),
}

const KILLED: Outcome = Outcome::Signal(libc::SIGSYS);

/// Not a test of its own: the process in which an attempt is made.
#[test]
#[ignore = "the other tests start it"]
fn attempt() {
    let Ok(name) = std::env::var(ATTEMPT) else { return };
    let (_, attempt) = ATTEMPTS.iter().find(|(theirs, _)| *theirs == name).unwrap();
    if let Ok(profile) = std::env::var(PROFILE) {
        let program = compile(profile.parse().unwrap(), &[], &FACTS).unwrap();
        nix::sys::prctl::set_no_new_privs().unwrap();
        install(&program).unwrap();
    }
    let errno = attempt().map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0);
    // Past libtest, whose main thread has no filter and would wait for this one.
    std::process::exit(errno);
}

/// Makes the attempt `name` under `profile`, or without a filter.
fn outcome(name: &str, profile: Option<Profile>) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "seccomp::kernel_tests::attempt", "--ignored", "--nocapture"]);
    command.env(ATTEMPT, name).env_remove(PROFILE).stdout(Stdio::null());
    if let Some(profile) = profile {
        command.env(PROFILE, profile.name());
    }
    let status: ExitStatus = command.status().unwrap();
    match (status.signal(), status.code()) {
        (Some(signal), _) => Outcome::Signal(signal),
        (None, Some(0)) => Outcome::Done,
        (None, code) => Outcome::Errno(code.unwrap()),
    }
}

type Attempt = fn() -> io::Result<()>;

/// What the tests below try, by name.
const ATTEMPTS: &[(&str, Attempt)] = &[
    ("thread", thread),
    ("files", files),
    ("loader", loader),
    ("socketpair", socketpair),
    ("abort", || std::process::abort()),
    ("fork", fork),
    ("io_uring", || call(libc::SYS_io_uring_setup, [1, 0, 0, 0])),
    ("keyctl", || call(libc::SYS_keyctl, [0, -3i64 as u64, 1, 0])),
    ("clone3", || call(libc::SYS_clone3, [0, 0, 0, 0])),
    ("user namespace", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0])),
    ("write and execute", || map(libc::PROT_WRITE | libc::PROT_EXEC)),
    ("write", || map(libc::PROT_WRITE)),
    ("ioctl", || call(libc::SYS_ioctl, [0, libc::TIOCLINUX, 0, 0])),
    ("netlink", || call(libc::SYS_socket, [libc::AF_NETLINK as u64, 3, 0, 0])),
    ("tcp", || call(libc::SYS_socket, [libc::AF_INET as u64, 1, 0, 0])),
    ("memfd", || call(libc::SYS_memfd_create, [c"m".as_ptr() as u64, 0, 0, 0])),
    ("newer than the table", || call(600, [0; 4])),
    #[cfg(target_arch = "x86_64")]
    ("x32", || call(0x4000_0000 + libc::SYS_getpid, [0; 4])),
    #[cfg(target_arch = "x86_64")]
    ("int 0x80", crate::attack::int80),
];

fn call(number: c_long, arguments: [u64; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: of the calls above, only memfd_create reads memory (a C string that is static), and
    // io_uring_setup and clone3 get null pointers, which the kernel answers with EFAULT or EINVAL.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Creates a user of `pthread_create`, its stack and thread-local storage, and joins it.
fn thread() -> io::Result<()> {
    let answer = std::thread::Builder::new().spawn(|| 6 * 7)?.join();
    assert_eq!(answer.unwrap(), 42);
    Ok(())
}

fn files() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let (from, to) = (directory.path().join("a"), directory.path().join("b"));
    std::fs::write(&from, "text")?;
    std::fs::File::open(&from)?.sync_all()?;
    std::fs::copy(&from, &to)?;
    std::fs::rename(&to, &from)?;
    directory.close()
}

/// Reads and maps a file as code, as the loader does.
fn loader() -> io::Result<()> {
    let file = std::fs::File::open("/proc/self/exe")?;
    // SAFETY: a fresh mapping at the kernel's choice of address aliases nothing, and nothing uses it.
    let address = unsafe {
        use std::os::fd::AsRawFd;
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socketpair() -> io::Result<()> {
    use std::io::{Read, Write};
    let (mut here, mut there) = std::os::unix::net::UnixStream::pair()?;
    here.write_all(b"x")?;
    there.read_exact(&mut [0])
}

fn fork() -> io::Result<()> {
    // SAFETY: the child calls nothing but `_exit`, which is safe after a fork in a process with threads.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: `_exit` runs no handler of the parent's.
        0 => unsafe { libc::_exit(0) },
        child => nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)
            .map(drop)
            .map_err(io::Error::from),
    }
}

fn map(protection: i32) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping at the kernel's choice of address aliases nothing.
    let address = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, protection | libc::PROT_READ, flags, -1, 0)
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn ordinary_work_is_done_under_each_profile() {
    for name in ["thread", "loader", "socketpair", "write"] {
        assert_eq!(outcome(name, None), Outcome::Done, "{name}, unfiltered");
        for profile in Profile::ALL {
            assert_eq!(outcome(name, Some(profile)), Outcome::Done, "{name} under {profile}");
        }
    }
}

#[test]
fn profiles_differ_in_files_and_children() {
    use Profile::{Compute, Plugin, Program};
    for (name, compute, plugin) in [("files", KILLED, Outcome::Done), ("fork", KILLED, KILLED)] {
        assert_eq!(outcome(name, None), Outcome::Done);
        assert_eq!(outcome(name, Some(Compute)), compute, "{name}");
        assert_eq!(outcome(name, Some(Plugin)), plugin, "{name}");
        assert_eq!(outcome(name, Some(Program)), Outcome::Done, "{name}");
    }
}

/// A violation shows as SIGSYS, an abort still as SIGABRT.
#[test]
fn an_abort_is_not_taken_for_a_violation() {
    for profile in [None].into_iter().chain(Profile::ALL.map(Some)) {
        assert_eq!(outcome("abort", profile), Outcome::Signal(libc::SIGABRT), "{profile:?}");
    }
}

#[test]
fn violations_are_killed_or_answered_as_the_lists_say() {
    use Outcome::{Done, Errno};
    use Profile::{Plugin, Program};
    // Each: what it does unfiltered, under `plugin`, under `program`.
    let cases = [
        ("io_uring", Errno(libc::EFAULT), KILLED, KILLED),
        ("keyctl", Done, KILLED, KILLED),
        ("clone3", Errno(libc::EINVAL), Errno(libc::ENOSYS), Errno(libc::ENOSYS)),
        ("write and execute", Done, KILLED, Errno(libc::EACCES)),
        ("netlink", Done, Errno(libc::EAFNOSUPPORT), Errno(libc::EAFNOSUPPORT)),
        ("tcp", Done, Errno(libc::EAFNOSUPPORT), Errno(libc::EAFNOSUPPORT)),
        ("memfd", Done, Errno(libc::EACCES), Errno(libc::EACCES)),
        ("newer than the table", Errno(libc::ENOSYS), Errno(libc::ENOSYS), Errno(libc::ENOSYS)),
    ];
    for (name, unfiltered, plugin, program) in cases {
        assert_eq!(outcome(name, None), unfiltered, "{name}, unfiltered");
        assert_eq!(outcome(name, Some(Plugin)), plugin, "{name}");
        assert_eq!(outcome(name, Some(Program)), program, "{name}");
    }
    // Whether it works without a filter depends on the machine; that the filter is what kills does not.
    assert_ne!(outcome("user namespace", None), KILLED);
    assert_eq!(outcome("user namespace", Some(Plugin)), KILLED);
    assert_eq!(outcome("user namespace", Some(Program)), Errno(libc::EPERM));
}

/// The other ways into the same kernel.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_x32_and_32_bit_entries_are_killed() {
    for name in ["x32", "int 0x80"] {
        // Done, or an error or a fault where the kernel is built without that entry: not SIGSYS.
        assert_ne!(outcome(name, None), KILLED, "{name}, unfiltered");
        for profile in Profile::ALL {
            assert_eq!(outcome(name, Some(profile)), KILLED, "{name} under {profile}");
        }
    }
}

/// Runs a program that nobody here wrote under the `program` filter.
fn ordinary(program: &str, arguments: &[&str]) {
    let filter = compile(Profile::Program, &[], &FACTS).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory.path()).env("HOME", directory.path());
    // SAFETY: between fork and exec only prctl and seccomp are called, on a filter made before; neither
    // allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_no_new_privs()?;
            install(&filter)
        });
    }
    match command.output() {
        Ok(output) => assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let promised = std::env::var("BULKHEAD_LANE").is_ok_and(|lane| lane == "vm");
            assert!(!promised, "{program} is not installed");
            println!("SKIP {program}: not installed here");
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn a_shell_and_its_tools_run() {
    ordinary(
        "bash",
        &[
            "-ec",
            "mkdir -p a/b; echo text > a/b/c; cp -a a d; mv d e; ln -s e f; touch -r a g
             find . | sort | tail -n 3; ls -la; (cat e/b/c | tee h) >/dev/null; mkfifo i; chmod 640 h
             tar cf j.tar a; gzip j.tar; tar tzf j.tar.gz; df . ; id; stat h; du -s .; rm -r a e
             sleep 60 & kill $!; wait $! || test $? = 143
             trap 'echo trapped > k' USR1; kill -USR1 $$; test -s k; ulimit -n 64; nice true
             timeout 0.1 sleep 60 || test $? = 124",
        ],
    );
}

#[test]
fn interpreters_run() {
    ordinary("perl", &["-e", "print `echo child`; fork or exit; wait; $? == 0 or die"]);
    ordinary(
        "python3",
        &[
            "-c",
            "import asyncio, ctypes, multiprocessing, os, socket, sqlite3, subprocess, tempfile, threading
assert subprocess.run(['echo', 'x'], capture_output=True).stdout == b'x\\n'
async def child():
    p = await asyncio.create_subprocess_exec('true')
    return await p.wait()
assert asyncio.run(child()) == 0
t = threading.Thread(target=lambda: None); t.start(); t.join()
with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
db = sqlite3.connect('d.sqlite'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a)'); db.commit()
a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'
try: socket.socket()
except OSError as e: assert e.errno == 97, e
else: assert False, 'a socket without a grant'
",
        ],
    );
}

#[test]
fn git_runs() {
    ordinary(
        "bash",
        &[
            "-ec",
            "command -v git >/dev/null || exit 0
             git init -q r; cd r; echo a > a; git add a
             git -c user.name=a -c user.email=a@b commit -qm x; git log | cat; git gc -q; git status
             git grep -E 'a+' ; git -c user.name=a -c user.email=a@b commit -q --amend -m y",
        ],
    );
}

#[test]
fn stress_ng_runs() {
    ordinary("stress-ng", &["--vm", "1", "--vm-bytes", "16M", "--vm-ops", "500", "--verify"]);
    ordinary("stress-ng", &["--cpu", "1", "--cpu-ops", "20"]);
    ordinary("stress-ng", &["--pthread", "1", "--pthread-ops", "20"]);
    ordinary("stress-ng", &["--fork", "2", "--fork-ops", "50"]);
    ordinary(
        "stress-ng",
        &["--pipe", "1", "--pipe-ops", "500", "--switch", "1", "--switch-ops", "500"],
    );
}
