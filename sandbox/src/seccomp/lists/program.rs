//! What a shell and its tools need besides.

use super::process::NO_ESCAPE;
use crate::seccomp::line::{Given, List, allow, answer, c, e, is, when};

pub(super) static PROCESSES: List = List {
    name: "processes",
    purpose: "Children, process groups, and signals to them. `pids.max` counts them.",
    lines: &[
        allow(&["fork", "vfork"], "children"),
        when(&["clone"], &[&[NO_ESCAPE]], "children and threads, in no new namespace"),
        allow(&["wait4", "waitid"], "waiting for children"),
        allow(
            &["setpgid", "setsid"],
            "job control; a process that leaves its session stays in its cgroup",
        ),
        allow(
            &["kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"],
            "where a pid namespace or Landlock's scope keeps signals inside",
        )
        .given(Given::SignalsConfined),
        answer(
            &["kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"],
            e!(EPERM),
            "where a signal could leave the compartment",
        ),
        allow(&["splice", "tee", "vmsplice"], "pipelines: `cat`, `tee`, `pv`"),
        allow(
            &["getpriority", "setpriority", "ioprio_get", "ioprio_set"],
            "`nice`, `ionice`; raising needs a capability",
        ),
    ],
};

pub(super) static IDENTITY: List = List {
    name: "identity",
    purpose: "Questions about privilege, and attempts to change it that must fail without harm.",
    lines: &[
        allow(&["capget"], "a query"),
        answer(
            &[
                "capset",
                "setuid",
                "setgid",
                "setreuid",
                "setregid",
                "setresuid",
                "setresgid",
                "setfsuid",
                "setfsgid",
                "setgroups",
            ],
            e!(EPERM),
            "tools that drop privileges find none to drop",
        ),
    ],
};

pub(super) static TERMINAL: List = List {
    name: "terminal",
    purpose: "A program on a terminal.",
    lines: &[when(
        &["ioctl"],
        &[
            &[is(1, "request", c!(TCSETS))],
            &[is(1, "request", c!(TCSETSW))],
            &[is(1, "request", c!(TCSETSF))],
            &[is(1, "request", (0x402c_542b, "TCSETS2"))],
            &[is(1, "request", (0x402c_542c, "TCSETSW2"))],
            &[is(1, "request", (0x402c_542d, "TCSETSF2"))],
            &[is(1, "request", c!(TCFLSH))],
            &[is(1, "request", c!(TCSBRK))],
            &[is(1, "request", c!(TCXONC))],
            &[is(1, "request", c!(TIOCOUTQ))],
            &[is(1, "request", c!(TIOCGPGRP))],
            &[is(1, "request", c!(TIOCSPGRP))],
            &[is(1, "request", c!(TIOCGSID))],
            &[is(1, "request", c!(TIOCSWINSZ))],
            &[is(1, "request", c!(TIOCSCTTY))],
            &[is(1, "request", c!(TIOCNOTTY))],
            &[is(1, "request", c!(TIOCGPTN))],
            &[is(1, "request", c!(TIOCSPTLCK))],
            &[is(1, "request", c!(TIOCGPTPEER))],
            &[is(1, "request", c!(FICLONE))],
            &[is(1, "request", c!(FS_IOC_GETFLAGS))],
        ],
        "line editing, job control, a pseudo-terminal of its own, `cp --reflink`, `lsattr`",
    )],
};

pub(super) static TREES: List = List {
    name: "trees",
    purpose: "Copying and watching whole trees of files.",
    lines: &[
        allow(&["syncfs"], "the file system of an open file; disk benchmarks and package managers"),
        allow(
            &["chown", "lchown", "fchown", "fchownat"],
            "`cp -a`, `tar`, `install`; without a capability only to oneself",
        ),
        allow(
            &["inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch"],
            "`tail -f`, build tools; bounded per user",
        ),
        answer(
            &["setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"],
            e!(EOPNOTSUPP),
            "Landlock does not govern attributes; tools go on without, as on a file system that has none",
        ),
        answer(
            &["sync"],
            e!(ENOSYS),
            "flushes all of the machine's disks, not the caller's files; `sync` goes on without",
        ),
        answer(
            &["name_to_handle_at"],
            e!(EOPNOTSUPP),
            "as on a file system without handles; opening one is never allowed",
        ),
    ],
};

pub(super) static SELF_CONFINEMENT: List = List {
    name: "self-confinement",
    purpose: "A program may confine itself further.",
    lines: &[allow(
        &["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"],
        "`xz` and others do; a ruleset can only narrow",
    )],
};
