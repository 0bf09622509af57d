//! Calls that are refused by an error because ordinary runtimes try them, and those that never are allowed.

use crate::seccomp::line::{Given, List, answer, e};

pub(super) static FALLBACKS: List = List {
    name: "fallbacks",
    purpose: "Newer calls, answered as by a kernel that lacks them: the caller has a fallback.",
    lines: &[
        answer(
            &["clone3"],
            e!(ENOSYS),
            "has its flags in memory, where no filter sees them; glibc falls back to `clone`",
        ),
        answer(
            &["pidfd_open"],
            e!(ENOSYS),
            "Go, Python's asyncio and tokio try it when they start a child",
        ),
        answer(
            &["splice", "tee", "vmsplice"],
            e!(ENOSYS),
            "Rust's copy tries `splice`, then reads and writes",
        ),
        answer(
            &[
                "io_pgetevents",
                "futex_wake",
                "futex_wait",
                "futex_requeue",
                "cachestat",
                "memfd_secret",
                "pkey_alloc",
                "pkey_free",
            ],
            e!(ENOSYS),
            "probed by newer libraries",
        ),
        answer(
            &["statmount", "listmount", "lsm_get_self_attr", "lsm_list_modules"],
            e!(ENOSYS),
            "probed by newer system tools",
        ),
        answer(
            &[
                "setxattrat",
                "getxattrat",
                "listxattrat",
                "removexattrat",
                "file_getattr",
                "file_setattr",
            ],
            e!(ENOSYS),
            "newer forms of older calls",
        ),
        answer(
            &["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"],
            e!(ENOSYS),
            "libraries that confine themselves ask for the version first",
        ),
        answer(
            &["get_mempolicy", "set_mempolicy"],
            e!(ENOSYS),
            "libraries ask for NUMA first; as on a kernel without it",
        ),
    ],
};

pub(super) static ORDINARY: List = List {
    name: "ordinary attempts",
    purpose: "What ordinary programs try and go on without.",
    lines: &[
        answer(
            &["get_thread_area", "set_thread_area", "ustat", "sysfs"],
            e!(ENOSYS),
            "relics, as on a kernel without them: tools that look around try them",
        ),
        answer(
            &["mmap", "mprotect", "pkey_mprotect"],
            e!(EACCES),
            "writable and executable at once: PCRE, libffi and others interpret instead, as under SELinux's execmem",
        ),
        answer(&["seccomp"], e!(ENOSYS), "`man` and others filter themselves where they can"),
        answer(
            &["unshare", "setns", "mount", "umount2", "chroot"],
            e!(EPERM),
            "as for an unprivileged user; build tools and browsers try",
        ),
        answer(
            &["perf_event_open", "syslog", "personality", "vhangup", "quotactl"],
            e!(EPERM),
            "as for an unprivileged user",
        ),
        answer(
            &[
                "adjtimex",
                "clock_adjtime",
                "clock_settime",
                "settimeofday",
                "sethostname",
                "setdomainname",
            ],
            e!(EPERM),
            "as for an unprivileged user",
        ),
        answer(
            &["shmget", "semget", "msgget", "mq_open"],
            e!(ENOSYS),
            "as on a kernel without System V and POSIX queues; databases fall back or say so",
        ),
    ],
};

/// Calls that no policy can allow: the floor.
#[derive(Debug)]
pub struct Never {
    /// The calls, by name.
    pub calls: &'static [&'static str],
    /// Where this holds of the compartment, they may be allowed after all.
    pub unless: Option<Given>,
    /// Why.
    pub reason: &'static str,
}

const fn never(calls: &'static [&'static str], reason: &'static str) -> Never {
    Never { calls, unless: None, reason }
}

const fn unless(calls: &'static [&'static str], given: Given, reason: &'static str) -> Never {
    Never { calls, unless: Some(given), reason }
}

/// The never-list.
pub static NEVER: &[Never] = &[
    never(
        &[
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "process_mrelease",
            "kcmp",
        ],
        "reads or steers another process",
    ),
    never(
        &["pidfd_open", "pidfd_getfd", "pidfd_send_signal"],
        "reaches another process, and its descriptors, past Landlock",
    ),
    never(
        &["clone3"],
        "has its flags in memory, where no filter sees them: it could make namespaces",
    ),
    never(&["unshare", "setns"], "a user namespace gives back the capabilities that were dropped"),
    never(
        &[
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "open_tree_attr",
            "move_mount",
            "mount_setattr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
        ],
        "changes the root that confines it",
    ),
    never(&["open_by_handle_at"], "opens a file by its number, past every path rule"),
    never(
        &["bpf", "perf_event_open", "uprobe", "uretprobe"],
        "runs code in the kernel, or watches it",
    ),
    never(
        &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        "makes system calls that this filter does not see",
    ),
    never(&["userfaultfd"], "stops the kernel in the middle of a copy: a tool of exploits"),
    never(
        &["keyctl", "add_key", "request_key"],
        "keyrings have no namespace: they are shared with the host",
    ),
    never(&["seccomp"], "adds filters and listeners to this one"),
    never(&["personality"], "makes every readable mapping executable, or addresses predictable"),
    never(
        &[
            "init_module",
            "finit_module",
            "delete_module",
            "create_module",
            "query_module",
            "get_kernel_syms",
            "kexec_load",
            "kexec_file_load",
            "reboot",
        ],
        "replaces the kernel",
    ),
    never(
        &[
            "shmget",
            "shmat",
            "shmctl",
            "shmdt",
            "semget",
            "semop",
            "semtimedop",
            "semctl",
            "msgget",
            "msgsnd",
            "msgrcv",
            "msgctl",
        ],
        "System V objects outlive their makers, and Landlock does not govern them",
    ),
    never(
        &["mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"],
        "message queues outlive their makers, and Landlock does not govern them",
    ),
    never(
        &["fanotify_init", "fanotify_mark"],
        "watches and holds up other processes' file accesses",
    ),
    never(
        &["mbind", "move_pages", "migrate_pages", "set_mempolicy", "set_mempolicy_home_node"],
        "places memory, other processes' too, past the cgroup",
    ),
    never(
        &["sched_setattr", "sched_setparam"],
        "real-time scheduling starves the machine; the policy is in memory, where no filter sees it",
    ),
    never(
        &[
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "clock_adjtime",
            "sethostname",
            "setdomainname",
            "acct",
            "swapon",
            "swapoff",
            "quotactl",
            "quotactl_fd",
            "syslog",
            "vhangup",
            "nfsservctl",
            "uselib",
            "_sysctl",
            "lookup_dcookie",
            "lsm_set_self_attr",
        ],
        "administers the machine",
    ),
    never(
        &[
            "iopl",
            "ioperm",
            "modify_ldt",
            "remap_file_pages",
            "vserver",
            "afs_syscall",
            "tuxcall",
            "security",
            "getpmsg",
            "putpmsg",
            "epoll_ctl_old",
            "epoll_wait_old",
            "set_thread_area",
            "get_thread_area",
        ],
        "relics: attack surface without a user",
    ),
    never(
        &[
            "setuid",
            "setgid",
            "setreuid",
            "setregid",
            "setresuid",
            "setresgid",
            "setfsuid",
            "setfsgid",
            "setgroups",
            "capset",
        ],
        "changes the identity that the other layers judge by",
    ),
    never(
        &[
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
            "setxattrat",
            "removexattrat",
            "file_setattr",
        ],
        "Landlock does not govern attributes",
    ),
    unless(
        &["connect"],
        Given::LocalSocketsConfined,
        "sockets of the host are in reach: by a path, where there is no private root, or places of the machine are shown in it, and this kernel's Landlock (below ABI 9) does not govern them, or by an abstract name, where there is no network namespace and no scope (below ABI 6)",
    ),
    unless(
        &["truncate"],
        Given::TruncateGoverned,
        "this kernel's Landlock (below ABI 3) does not govern truncation",
    ),
    unless(
        &["openat2"],
        Given::TruncateGoverned,
        "this kernel's Landlock (below ABI 3) does not govern truncation, and the flags are in memory, where no filter sees them",
    ),
    unless(
        &["tgkill", "tkill"],
        Given::ThreadSignalsConfined,
        "signals could leave the compartment: it has no pid namespace and no uid of its own, and this kernel's Landlock (below ABI 6) no scope",
    ),
    unless(
        &["kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"],
        Given::SignalsConfined,
        "signals could leave the compartment: it has no pid namespace and this kernel's Landlock (below ABI 6) no scope",
    ),
];
