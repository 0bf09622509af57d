//! Descriptors: using those that exist, and the session sockets.

use super::network::{PACKETS, STREAM, UNIX};
use crate::seccomp::line::{Given, List, allow, answer, c, e, is, is_not, lacks, when};

/// `_IOR('T', 0x2A, struct termios2)`, which glibc 2.42 uses for `tcgetattr(3)`.
pub(super) const TCGETS2: (u32, &str) = (0x802c_542a, "TCGETS2");

pub(super) static DESCRIPTORS: List = List {
    name: "descriptors",
    purpose: "Reading, writing, waiting and duplicating, on descriptors that it has.",
    lines: &[
        allow(
            &[
                "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64",
                "pwritev", "pwritev2", "lseek",
            ],
            "plain input and output",
        ),
        allow(&["close", "close_range", "dup", "dup2", "dup3"], "own descriptors"),
        allow(
            &["pipe", "pipe2", "eventfd", "eventfd2", "signalfd", "signalfd4"],
            "wake-ups between threads",
        ),
        allow(
            &[
                "poll",
                "ppoll",
                "select",
                "pselect6",
                "epoll_create",
                "epoll_create1",
                "epoll_ctl",
                "epoll_wait",
                "epoll_pwait",
                "epoll_pwait2",
            ],
            "event loops",
        ),
        allow(&["sendfile", "copy_file_range"], "Rust's and Python's copy between files"),
        when(
            &["fcntl"],
            &[
                &[is(1, "cmd", c!(F_GETFL))],
                &[is(1, "cmd", c!(F_SETFL))],
                &[is(1, "cmd", c!(F_GETFD))],
                &[is(1, "cmd", c!(F_SETFD))],
                &[is(1, "cmd", c!(F_DUPFD_CLOEXEC))],
                &[is(1, "cmd", c!(F_DUPFD))],
                &[is(1, "cmd", c!(F_SETLK))],
                &[is(1, "cmd", c!(F_SETLKW))],
                &[is(1, "cmd", c!(F_GETLK))],
                &[is(1, "cmd", c!(F_OFD_SETLK))],
                &[is(1, "cmd", c!(F_OFD_SETLKW))],
                &[is(1, "cmd", c!(F_OFD_GETLK))],
                &[is(1, "cmd", c!(F_GETPIPE_SZ))],
                &[is(1, "cmd", c!(F_SETPIPE_SZ))],
                &[is(1, "cmd", c!(F_ADD_SEALS))],
                &[is(1, "cmd", c!(F_GET_SEALS))],
            ],
            "flags, locks, pipe sizes, seals. Kept out: F_SETOWN and F_SETSIG (signals to others), F_NOTIFY, leases",
        ),
        answer(&["fcntl"], e!(EINVAL), "the kernel's answer to a command that it does not know"),
        when(
            &["ioctl"],
            &[
                &[is(1, "request", c!(FIONBIO))],
                &[is(1, "request", c!(FIONREAD))],
                &[is(1, "request", c!(FIOCLEX))],
                &[is(1, "request", c!(FIONCLEX))],
                &[is(1, "request", c!(TCGETS))],
                &[is(1, "request", TCGETS2)],
                &[is(1, "request", c!(TIOCGWINSZ))],
            ],
            "non-blocking and close-on-exec; `isatty` and the window's size. Kept out: TIOCSTI and TIOCLINUX (typing into the terminal), and every driver's own requests",
        ),
        answer(&["ioctl"], e!(ENOTTY), "what a descriptor that knows no such request answers"),
    ],
};

pub(super) static SESSION: List = List {
    name: "session",
    purpose: "Using sockets that arrived over the bootstrap socket.",
    lines: &[
        allow(
            &["recvfrom", "recvmsg", "recvmmsg", "shutdown"],
            "receiving; a session socket arrives by `recvmsg`",
        ),
        when(
            &["sendto"],
            &[&[lacks(3, "flags", c!(MSG_FASTOPEN))]],
            "MSG_FASTOPEN connects past Landlock's rule on TCP ports",
        ),
        when(
            &["sendmsg"],
            &[&[lacks(2, "flags", c!(MSG_FASTOPEN))]],
            "MSG_FASTOPEN connects past Landlock's rule on TCP ports",
        ),
        when(
            &["sendmmsg"],
            &[&[lacks(3, "flags", c!(MSG_FASTOPEN))]],
            "MSG_FASTOPEN connects past Landlock's rule on TCP ports",
        ),
        answer(
            &["sendto", "sendmsg", "sendmmsg"],
            e!(EOPNOTSUPP),
            "as where fast open is off; callers connect first",
        ),
        allow(&["getsockname", "getpeername", "getsockopt"], "queries"),
        when(
            &["setsockopt"],
            &[
                &[
                    is(1, "level", c!(SOL_SOCKET)),
                    is_not(2, "name", c!(SO_ATTACH_FILTER)),
                    is_not(2, "name", c!(SO_ATTACH_BPF)),
                    is_not(2, "name", c!(SO_ATTACH_REUSEPORT_CBPF)),
                    is_not(2, "name", c!(SO_ATTACH_REUSEPORT_EBPF)),
                ],
                &[
                    is(1, "level", c!(IPPROTO_TCP)),
                    is_not(2, "name", c!(TCP_ULP)),
                    is_not(2, "name", c!(TCP_REPAIR)),
                ],
            ],
            "buffers, timeouts, TCP_NODELAY on a brokered connection. Kept out: programs for the kernel's BPF machine, and the protocols layered by TCP_ULP",
        ),
        when(
            &["setsockopt"],
            &[&[is(1, "level", c!(IPPROTO_IP))], &[is(1, "level", c!(IPPROTO_IPV6))]],
            "address options, where the network is granted",
        )
        .given(Given::Internet),
        answer(&["setsockopt"], e!(ENOPROTOOPT), "what a socket that knows no such option answers"),
    ],
};

pub(super) static PAIRS: List = List {
    name: "pairs",
    purpose: "Pairs of connected sockets.",
    lines: &[
        when(
            &["socketpair"],
            &[&[UNIX, STREAM], &[UNIX, PACKETS]],
            "a pair connects to nothing else; tokio's signal driver",
        ),
        answer(
            &["socketpair"],
            e!(EAFNOSUPPORT),
            "as where the kernel lacks the family. Kept out: a pair of datagram sockets, each of which can still send to any other, by its name",
        ),
    ],
};
