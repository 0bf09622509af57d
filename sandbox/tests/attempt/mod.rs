//! What an ill-meaning program tries. Each attempt is this test binary started again, in a compartment or, as
//! the control, outside.

#![allow(dead_code, unreachable_pub, unsafe_code, reason = "attempts are system calls")]
#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::ffi::{CString, c_long};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};

use nix::errno::Errno;

pub const NAME: &str = "DENIALS_ATTEMPT";
pub const ARGUMENT: &str = "DENIALS_ARGUMENT";

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Errno(i32),
    Signal(i32),
}

/// Ended by the seccomp filter.
pub const KILLED: Outcome = Outcome::Signal(libc::SIGSYS);

type Attempt = fn(&str) -> io::Result<()>;

/// Makes the attempt that the environment names, and ends the process with its error number.
pub fn make() {
    let Ok(name) = std::env::var(NAME) else { return };
    let argument = std::env::var(ARGUMENT).unwrap_or_default();
    let (_, attempt) = ATTEMPTS.iter().find(|(theirs, _)| *theirs == name).unwrap();
    let errno = match attempt(&argument) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name} {argument}: {error}");
            error.raw_os_error().unwrap_or(255)
        }
    };
    std::process::exit(errno);
}

#[rustfmt::skip]
const ATTEMPTS: &[(&str, Attempt)] = &[
    // Calls by number.
    ("ptrace", |_| call(libc::SYS_ptrace, [u64::from(libc::PTRACE_ATTACH), u64::MAX, 0, 0])),
    ("process_vm_readv", |_| call(libc::SYS_process_vm_readv, [u64::from(std::process::id()), 0, 0, 0])),
    ("pidfd_getfd", |_| call(libc::SYS_pidfd_getfd, [u64::MAX, 0, 0, 0])),
    ("io_uring_setup", |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0])),
    ("userfaultfd", |_| call(libc::SYS_userfaultfd, [libc::O_CLOEXEC as u64 | 1, 0, 0, 0])),
    ("keyctl", |_| call(libc::SYS_keyctl, [0, -3i64 as u64, 1, 0])),
    ("bpf", |_| call(libc::SYS_bpf, [u64::MAX, 0, 0, 0])),
    ("perf_event_open", |_| call(libc::SYS_perf_event_open, [0, 0, 0, 0])),
    ("user namespace", |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0])),
    ("setns", |_| call(libc::SYS_setns, [u64::MAX, 0, 0, 0])),
    ("mount", |_| call(libc::SYS_mount, [c"none".as_ptr() as u64, c"/".as_ptr() as u64, 0, u64::from(1u32 << 18)])),
    ("chroot", |_| call(libc::SYS_chroot, [c"/".as_ptr() as u64, 0, 0, 0])),
    ("open_by_handle_at", |_| call(libc::SYS_open_by_handle_at, [0, 0, 0, 0])),
    ("shmget", |_| call(libc::SYS_shmget, [0, 4096, 0, 0])),
    ("clone3", |_| call(libc::SYS_clone3, [0, 0, 0, 0])),
    ("real-time scheduling", |_| {
        let priority: libc::c_int = 1;
        call(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as u64, (&raw const priority) as u64, 0])
    }),
    ("write and execute", |_| call6(libc::SYS_mmap, [0, 4096, 7, 0x22, u64::MAX, 0])),
    #[cfg(target_arch = "x86_64")]
    ("x32", |_| call(0x4000_0000 + libc::SYS_getpid, [0; 4])),
    // Sockets.
    ("netlink", |_| made(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("packet", |_| made(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("raw", |_| made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    ("vsock", |_| made(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("listen", |_| std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
    ("udp", |_| made(libc::AF_INET, libc::SOCK_DGRAM, 0)),
    ("tcp", |_| made(libc::AF_INET, libc::SOCK_STREAM, 0)),
    ("mptcp", |_| made(libc::AF_INET, libc::SOCK_STREAM, 262)),
    ("connect", |port| {
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        std::net::TcpStream::connect(address).map(drop)
    }),
    ("fast open", fast_open),
    ("unix socket", |path| UnixStream::connect(path).map(drop)),
    ("abstract socket", |name| {
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop)
    }),
    // Processes.
    ("execute", |path| Err(std::os::unix::process::CommandExt::exec(&mut std::process::Command::new(path)))),
    ("fork", |_| fork()),
    ("watch", |path| watch(path)),
    ("signal", |pid| Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), None)?)),
    ("descriptors", |_| match (3..1024).find(|number| is_open(*number)) {
        Some(number) => { eprintln!("{number} is open"); Ok(()) }
        None => Err(Errno::EBADF.into()),
    }),
    ("gain", |_| if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Errno::EPERM.into()) }),
    ("memory file", |_| execute_memory(0)),
    ("sealed memory file", |_| execute_memory(0x8)),
    ("type into the terminal", type_into),
    // Files.
    ("read", |path| fs::read(path).map(drop)),
    ("create", |path| File::create_new(path).map(drop)),
    ("append", |path| File::options().append(true).open(path).map(drop)),
    ("truncate", |path| Ok(nix::unistd::truncate(path, 0)?)),
    ("truncate by reading", |path| {
        // What the standard library does not offer: O_RDONLY | O_TRUNC.
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_TRUNC;
        Ok(nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map(drop)?)
    }),
    ("chmod", |path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))),
    ("set-user-id", |path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o4755))),
    ("chown", |path| std::os::unix::fs::chown(path, Some(nix::unistd::geteuid().as_raw()), None)),
    ("touch", |path| {
        let now = &nix::sys::time::TimeSpec::UTIME_NOW;
        Ok(nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, now, now, nix::sys::stat::UtimensatFlags::FollowSymlink)?)
    }),
    ("setxattr", |path| {
        let path = CString::new(path)?;
        call6(libc::SYS_setxattr, [path.as_ptr() as u64, c"user.a".as_ptr() as u64, c"b".as_ptr() as u64, 1, 0, 0])
    }),
    ("unlink", |path| fs::remove_file(path)),
    ("rename", |path| fs::rename(path, format!("{path}.renamed"))),
    ("link into data", |path| fs::hard_link(path, "/data/link")),
    ("move into data", |path| fs::rename(path, "/data/moved")),
    ("read by symlink", |path| {
        std::os::unix::fs::symlink(path, "/data/symlink")?;
        fs::read("/data/symlink").map(drop)
    }),
];

fn call(number: c_long, arguments: [u64; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    call6(number, [a, b, c, d, 0, 0])
}

fn call6(number: c_long, arguments: [u64; 6]) -> io::Result<()> {
    let [a0, a1, a2, a3, a4, a5] = arguments;
    // SAFETY: pointers among the arguments are to static or live C strings and integers, or null where the
    // kernel answers EFAULT; the mapping that mmap makes is fresh and unused.
    match unsafe { libc::syscall(number, a0, a1, a2, a3, a4, a5) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn fork() -> io::Result<()> {
    // SAFETY: the child only ends.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ending needs nothing.
        0 => unsafe { libc::_exit(0) },
        child => {
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)?;
            Ok(())
        }
    }
}

/// inotify(7), which nothing here needs.
fn watch(path: &str) -> io::Result<()> {
    let inotify = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty())?;
    inotify.add_watch(path, nix::sys::inotify::AddWatchFlags::IN_CREATE)?;
    Ok(())
}

fn made(domain: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call(libc::SYS_socket, [domain as u64, kind as u64, protocol as u64, 0])
}

/// Connects without `connect`: past Landlock's rule on ports.
fn fast_open(port: &str) -> io::Result<()> {
    // SAFETY: numbers only.
    let stream = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    if stream == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let stream = unsafe { OwnedFd::from_raw_fd(stream) };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.parse::<u16>().unwrap().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&address) as u64;
    let data = b"past the rule";
    call6(
        libc::SYS_sendto,
        [
            stream.as_raw_fd() as u64,
            data.as_ptr() as u64,
            data.len() as u64,
            libc::MSG_FASTOPEN as u64,
            (&raw const address) as u64,
            length,
        ],
    )
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD reads the flags of a number, whether or not it is a descriptor.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Copies a program into memory and executes it there.
fn execute_memory(flags: u64) -> io::Result<()> {
    // SAFETY: the name is a static C string.
    let made = unsafe { libc::syscall(libc::SYS_memfd_create, c"program".as_ptr(), flags) };
    if made == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(made as RawFd) });
    file.write_all(&fs::read("/bin/true")?)?;
    let empty: [*const libc::c_char; 2] = [c"true".as_ptr(), std::ptr::null()];
    // SAFETY: path, arguments and environment are static, and both arrays end with a null.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            empty.as_ptr(),
            empty[1..].as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Err(io::Error::last_os_error())
}

/// TIOCSTI: puts a letter into the input of a terminal, as if a person had typed it. The argument is the
/// terminal's descriptor, or none for one of its own.
fn type_into(terminal: &str) -> io::Result<()> {
    // The end that holds it stays open as long as the process.
    let number = if let Ok(number) = terminal.parse() {
        number
    } else {
        let (holder, terminal) = terminal_pair()?;
        let _ = holder.into_raw_fd();
        terminal.into_raw_fd()
    };
    let letter = b'x';
    // SAFETY: TIOCSTI reads one byte from a live local.
    match unsafe { libc::ioctl(number, libc::TIOCSTI, &raw const letter) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A pseudo-terminal: the end that holds it, and the terminal.
pub fn terminal_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut holder, mut terminal) = (-1, -1);
    let null = std::ptr::null_mut::<libc::c_char>();
    // SAFETY: both integers are written by openpty, and the other pointers may be null by its contract.
    if unsafe {
        libc::openpty(&raw mut holder, &raw mut terminal, null.cast(), null.cast(), null.cast())
    } == -1
    {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: openpty has just made both for us alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(holder), OwnedFd::from_raw_fd(terminal)) })
}
