//! The attacks themselves, one line each where one line does.

use std::ffi::{CString, c_long};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, geteuid, truncate};

use super::{Attack, Target};

const EFAULT: &[i32] = &[libc::EFAULT];
const EBADF: &[i32] = &[libc::EBADF];
const EINVAL: &[i32] = &[libc::EINVAL];
const NONE: &[i32] = &[];

const fn attack(
    name: &'static str,
    aim: &'static str,
    on: Target,
    taken_up: &'static [i32],
    make: fn(&str) -> io::Result<()>,
) -> Attack {
    Attack { name, aim, on, taken_up, make }
}

/// All of them.
#[rustfmt::skip]
pub const ATTACKS: &[Attack] = &[
    // Other processes.
    attack("ptrace", "take over another process", Target::Process, NONE, |pid| {
        call(libc::SYS_ptrace, [u64::from(libc::PTRACE_SEIZE), number(pid)?, 0, 0])
    }),
    attack("process_vm_readv", "read another process's memory", Target::Process, EFAULT, read_memory),
    attack("pidfd_open", "hold another process by a descriptor", Target::Process, NONE, |pid| call(libc::SYS_pidfd_open, [number(pid)?, 0, 0, 0])),
    attack("pidfd_getfd", "take another process's descriptor", Target::Kernel, EBADF, |_| call(libc::SYS_pidfd_getfd, [u64::MAX, 0, 0, 0])),
    attack("signal", "signal another process", Target::Process, NONE, |pid| Ok(kill(Pid::from_raw(number(pid)?), None)?)),
    attack("execute", "become another program", Target::Made, NONE, |path| {
        Err(std::os::unix::process::CommandExt::exec(&mut std::process::Command::new(path)))
    }),
    attack("fork", "be two", Target::Made, NONE, |_| fork()),
    attack("environment", "read another process's environment", Target::ProcFile, NONE, |path| fs::read(path).map(drop)),
    // The kernel.
    attack("io_uring_setup", "make calls past the filter", Target::Kernel, EFAULT, |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0])),
    attack("userfaultfd", "hold the kernel at a page fault", Target::Kernel, NONE, |_| {
        call(libc::SYS_userfaultfd, [libc::O_CLOEXEC as u64 | 1, 0, 0, 0])
    }),
    attack("keyctl", "use the session's keyring", Target::Kernel, NONE, |_| call(libc::SYS_keyctl, [0, -3i64 as u64, 1, 0])),
    attack("bpf", "load a program into the kernel", Target::Kernel, EINVAL, |_| call(libc::SYS_bpf, [u64::MAX, 0, 0, 0])),
    attack("perf_event_open", "measure other processes", Target::Kernel, EFAULT, |_| call(libc::SYS_perf_event_open, [0, 0, 0, 0])),
    attack("open_by_handle_at", "open a file by its number", Target::Kernel, EFAULT, |_| {
        call(libc::SYS_open_by_handle_at, [libc::AT_FDCWD as u64, 0, 0, 0])
    }),
    attack("shmget", "share memory with strangers", Target::Kernel, NONE, share_memory),
    attack("clone3", "start a process by the call that no filter can look into", Target::Kernel, EINVAL, |_| call(libc::SYS_clone3, [0, 0, 0, 0])),
    attack("real-time scheduling", "keep a CPU from everybody", Target::Kernel, NONE, |_| {
        let priority: libc::c_int = 1;
        call(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as u64, (&raw const priority) as u64, 0])
    }),
    attack("write and execute", "run code that it wrote", Target::Kernel, NONE, |_| call6(libc::SYS_mmap, [0, 4096, 7, 0x22, u64::MAX, 0])),
    #[cfg(target_arch = "x86_64")]
    attack("x32", "call by the numbers of another interface", Target::Kernel, NONE, |_| call(0x4000_0000 + libc::SYS_getpid, [0; 4])),
    #[cfg(target_arch = "x86_64")]
    attack("int 0x80", "call by the numbers of 32-bit programs", Target::Kernel, NONE, |_| int80()),
    // Privilege. A process with threads is refused a user namespace, with EINVAL.
    attack("user namespace", "be root in a namespace of its own", Target::Kernel, EINVAL, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0])),
    attack("setns", "join another's namespace", Target::Kernel, EBADF, |_| call(libc::SYS_setns, [u64::MAX, 0, 0, 0])),
    // No such file system: so nothing is mounted anywhere.
    attack("mount", "mount a file system", Target::Kernel, &[libc::ENODEV], |_| {
        call6(libc::SYS_mount, [c"none".as_ptr() as u64, c"/".as_ptr() as u64, c"bulkhead-none".as_ptr() as u64, 0, 0, 0])
    }),
    attack("chroot", "change its root", Target::Kernel, NONE, |_| call(libc::SYS_chroot, [c"/".as_ptr() as u64, 0, 0, 0])),
    attack("gain", "become root by a set-user-id program", Target::Made, NONE, |_| {
        if geteuid().is_root() { Ok(()) } else { Err(Errno::EPERM.into()) }
    }),
    attack("memory file", "execute a file that is nowhere", Target::Kernel, NONE, |_| execute_memory(0)),
    attack("sealed memory file", "the same, and say that it is not to be executed", Target::Made, NONE, |_| execute_memory(MFD_NOEXEC_SEAL)),
    attack("type into the terminal", "type a command into the operator's terminal", Target::Kernel, NONE, type_into),
    attack("descriptors", "use what its starter left open", Target::Kernel, NONE, |_| {
        if (3..1024).any(is_open) { Ok(()) } else { Err(Errno::EBADF.into()) }
    }),
    // More than one's share. These harm whoever makes them outside, so they are a test's.
    attack("threads", "have so many threads", Target::Made, NONE, |count| {
        for _ in 0..number(count)? {
            std::thread::Builder::new().stack_size(64 << 10).spawn(|| loop { std::thread::park() })?;
        }
        Ok(())
    }),
    attack("open files", "have so many files open", Target::Made, NONE, |count| {
        let opened = (0..number(count)?).map(|_: u32| File::open("/dev/null"));
        opened.collect::<io::Result<Vec<_>>>().map(drop)
    }),
    attack("epoll instances", "have so many epoll instances", Target::Made, NONE, |count| {
        for _ in 0..number(count)? {
            // Kept open until the process ends.
            call(libc::SYS_epoll_create1, [0; 4])?;
        }
        Ok(())
    }),
    attack("inotify", "watch files", Target::Made, NONE, |_| call(libc::SYS_inotify_init1, [0; 4])),
    attack("lock memory", "keep so many bytes from being reclaimed", Target::Made, NONE, |bytes| {
        let held = vec![1_u8; number(bytes)?];
        call(libc::SYS_mlock, [held.as_ptr() as u64, held.len() as u64, 0, 0])
    }),
    attack("fill memory file", "fill so many MiB of a file in memory", Target::Made, NONE, |mebibytes| {
        fill(memory_file(MFD_NOEXEC_SEAL)?, number(mebibytes)?)
    }),
    attack("fill tmp", "fill so many MiB of /tmp", Target::Made, NONE, |mebibytes| fill(File::create("/tmp/fill")?, number(mebibytes)?)),
    attack("abort", "leave a core dump", Target::Made, NONE, |_| std::process::abort()),
    // The network.
    attack("netlink", "talk to the kernel's network configuration", Target::Kernel, NONE, |_| made(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    attack("packet", "read the wire", Target::Kernel, NONE, |_| made(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    attack("raw", "forge packets", Target::Kernel, NONE, |_| made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    attack("vsock", "talk to the hypervisor", Target::Kernel, NONE, |_| made(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    attack("listen", "listen on a port", Target::Made, NONE, |_| std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
    attack("udp", "send datagrams, ask the DNS", Target::UdpPort, NONE, |port| {
        let socket = UdpSocket::from(internet_socket(libc::SOCK_DGRAM)?);
        socket.connect(("127.0.0.1", number(port)?))?;
        socket.send(b"?").map(drop)
    }),
    attack("tcp", "make a TCP socket", Target::Kernel, NONE, |_| made(libc::AF_INET, libc::SOCK_STREAM, 0)),
    attack("mptcp", "connect by another protocol than the one with rules", Target::Kernel, NONE, |_| made(libc::AF_INET, libc::SOCK_STREAM, 262)),
    attack("connect", "connect to a service of this machine", Target::Port, NONE, |port| {
        TcpStream::connect(("127.0.0.1", number(port)?)).map(drop)
    }),
    attack("fast open", "connect without the call that has the rule", Target::Port, NONE, fast_open),
    attack("unix socket", "talk to a service such as docker.sock", Target::UnixSocket, NONE, |path| UnixStream::connect(path).map(drop)),
    attack("abstract socket", "talk to a service by an abstract name", Target::AbstractSocket, NONE, |name| {
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop)
    }),
    attack("unix datagram", "send to a service such as the journal, without connecting", Target::UnixDatagram, NONE, |path| {
        UnixDatagram::pair()?.0.send_to(b"x", path).map(drop)
    }),
    // Files.
    attack("read", "read a file that all may read", Target::File, NONE, |path| fs::read(path).map(drop)),
    attack("read a closed file", "read a file that only its owner may read", Target::ClosedFile, NONE, |path| fs::read(path).map(drop)),
    attack("create", "make a file", Target::Made, NONE, |path| File::create_new(path).map(drop)),
    attack("append", "write to a file that all may write", Target::File, NONE, |path| File::options().append(true).open(path).map(drop)),
    attack("cgroup", "leave its cgroup", Target::Cgroup, NONE, |path| File::options().append(true).open(path).map(drop)),
    attack("truncate", "empty a file", Target::Made, NONE, |path| Ok(truncate(path, 0)?)),
    attack("truncate by reading", "empty a file that it opens to read", Target::Made, NONE, |path| {
        // What the standard library does not offer.
        Ok(nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_TRUNC, Mode::empty()).map(drop)?)
    }),
    attack("chmod", "open a file to all", Target::File, NONE, |path| fs::set_permissions(path, Permissions::from_mode(0o666))),
    attack("set-user-id", "leave a set-user-id program", Target::OwnFile, NONE, |path| fs::set_permissions(path, Permissions::from_mode(0o4755))),
    attack("chown", "give a file away", Target::OwnFile, NONE, |path| {
        let owner = fs::metadata(path)?.uid();
        chown(path, Some(owner + 1), None)?;
        chown(path, Some(owner), None)
    }),
    attack("touch", "change a file's times", Target::File, NONE, |path| {
        let now = &TimeSpec::UTIME_NOW;
        Ok(utimensat(AT_FDCWD, path, now, now, UtimensatFlags::FollowSymlink)?)
    }),
    attack("setxattr", "change a file's attributes", Target::OwnFile, NONE, |path| {
        let path = CString::new(path)?;
        call6(libc::SYS_setxattr, [path.as_ptr() as u64, c"user.a".as_ptr() as u64, c"b".as_ptr() as u64, 1, 0, 0])
    }),
    attack("unlink", "remove a file", Target::Made, NONE, |path| fs::remove_file(path)),
    attack("rename", "rename a file", Target::Made, NONE, |path| fs::rename(path, format!("{path}.renamed"))),
    attack("link into data", "keep a link to a file of others", Target::FileAndDirectory, NONE, |paths| {
        let (path, link) = paths_of(paths, "link")?;
        fs::hard_link(path, &link)?;
        fs::remove_file(link)
    }),
    attack("move into data", "take a file of others", Target::FileAndDirectory, NONE, |paths| {
        let (path, moved) = paths_of(paths, "moved")?;
        fs::rename(path, &moved)?;
        fs::rename(moved, path)
    }),
    attack("read by symlink", "read a file by a link of its own", Target::FileAndDirectory, NONE, |paths| {
        let (path, link) = paths_of(paths, "symlink")?;
        symlink(path, &link)?;
        let read = fs::read(&link).map(drop);
        fs::remove_file(link)?;
        read
    }),
];

/// An argument that is a number.
fn number<T: FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The first path of two, and that of a name in the second.
fn paths_of<'a>(paths: &'a str, name: &str) -> io::Result<(&'a str, PathBuf)> {
    let (path, directory) = paths.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    Ok((path, Path::new(directory).join(name)))
}

/// Reads a byte at an address that is nobody's: EFAULT comes after the permission.
fn read_memory(pid: &str) -> io::Result<()> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(16), iov_len: 1 };
    let arguments = [number(pid)?, (&raw const local) as u64, 1, (&raw const remote) as u64, 1, 0];
    call6(libc::SYS_process_vm_readv, arguments)
}

fn fork() -> io::Result<()> {
    // SAFETY: the child only ends.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ending needs nothing.
        0 => unsafe { libc::_exit(0) },
        child => {
            nix::sys::wait::waitpid(Pid::from_raw(child), None)?;
            Ok(())
        }
    }
}

/// A segment of System V shared memory, removed at once.
fn share_memory(_: &str) -> io::Result<()> {
    // SAFETY: numbers only.
    let made = unsafe { libc::syscall(libc::SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600) };
    if made == -1 {
        return Err(io::Error::last_os_error());
    }
    call(libc::SYS_shmctl, [made as u64, libc::IPC_RMID as u64, 0, 0])
}

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

/// `getpid` by the 32-bit entry, whose numbers mean other calls. A kernel without that entry ends the process.
#[cfg(target_arch = "x86_64")]
pub(crate) fn int80() -> io::Result<()> {
    let result: i64;
    // SAFETY: call 20 of i386 is `getpid`: it takes no argument and touches no memory. The entry clears
    // r8 to r11, which are declared as clobbered.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") 20i64 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result == i64::from(std::process::id()) { Ok(()) } else { Err(io::Error::other("no pid")) }
}

fn made(domain: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call(libc::SYS_socket, [domain as u64, kind as u64, protocol as u64, 0])
}

/// Not bound, as one that only asks.
fn internet_socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, 0) };
    if socket == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Connects without `connect`: past Landlock's rule on ports.
fn fast_open(port: &str) -> io::Result<()> {
    let stream = internet_socket(libc::SOCK_STREAM)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: number::<u16>(port)?.to_be(),
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

/// A file in memory that cannot be executed (memfd_create(2), since Linux 6.3).
const MFD_NOEXEC_SEAL: u64 = 0x8;

fn memory_file(flags: u64) -> io::Result<File> {
    // SAFETY: the name is a static C string.
    let made = unsafe { libc::syscall(libc::SYS_memfd_create, c"program".as_ptr(), flags) };
    if made == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(made as RawFd) }))
}

fn fill(mut file: File, mebibytes: usize) -> io::Result<()> {
    let piece = vec![1; 1 << 20];
    (0..mebibytes).try_for_each(|_| file.write_all(&piece))
}

/// Copies a program into memory and executes it there.
fn execute_memory(flags: u64) -> io::Result<()> {
    let mut file = memory_file(flags)?;
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
