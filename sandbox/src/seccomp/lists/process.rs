//! One process by itself: start, memory, threads, time, its own signals.

use crate::seccomp::line::{
    Check, Given, List, allow, answer, at_least, at_most, bits, c, e, has, is, lacks, when,
};

pub(super) static START: List = List {
    name: "start",
    purpose: "The filter is in force before the program is, so it lets the program be executed.",
    lines: &[allow(
        &["execve", "execveat"],
        "the start itself; afterwards Landlock confines what may be executed",
    )],
};

pub(super) static RUNTIME: List = List {
    name: "runtime",
    purpose: "What the dynamic loader and a language's runtime call before and after `main`.",
    lines: &[
        allow(&["exit", "exit_group", "restart_syscall"], "ending, and resuming after a stop"),
        allow(
            &["arch_prctl", "set_tid_address", "set_robust_list", "rseq"],
            "thread-local storage and libc's registration of a thread",
        ),
        allow(
            &[
                "getpid",
                "getppid",
                "gettid",
                "getuid",
                "geteuid",
                "getgid",
                "getegid",
                "getresuid",
                "getresgid",
                "getgroups",
                "getpgid",
                "getpgrp",
                "getsid",
                "umask",
            ],
            "who one is; tells nothing that the process does not own",
        ),
        allow(
            &["uname", "sysinfo"],
            "glibc asks: `uname` for the kernel's version, `sysinfo` in qsort and sysconf",
        ),
        allow(&["getrandom"], "hash seeds and keys"),
        allow(&["getrusage", "times"], "own usage"),
        allow(&["getrlimit", "setrlimit"], "own limits; a hard limit can only go down"),
        when(
            &["prlimit64"],
            &[&[is(0, "pid", (0, "0"))]],
            "own limits; a hard limit can only go down; nobody else's are to be read or set",
        ),
        answer(&["prlimit64"], e!(EPERM), "as the kernel answers for another's process"),
        allow(
            &[
                "rt_sigaction",
                "rt_sigprocmask",
                "rt_sigreturn",
                "rt_sigtimedwait",
                "rt_sigpending",
                "rt_sigsuspend",
                "sigaltstack",
                "pause",
            ],
            "handling signals sent to oneself",
        ),
        when(
            &["prctl"],
            &[
                &[is(0, "option", c!(PR_SET_NAME))],
                &[is(0, "option", c!(PR_GET_NAME))],
                &[is(0, "option", c!(PR_SET_VMA))],
                &[is(0, "option", c!(PR_GET_DUMPABLE))],
                &[is(0, "option", c!(PR_SET_DUMPABLE)), is(1, "value", (0, "0"))],
                &[is(0, "option", c!(PR_SET_PDEATHSIG)), at_least(1, "signal", (1, "1"))],
                &[is(0, "option", c!(PR_GET_PDEATHSIG))],
                &[is(0, "option", c!(PR_SET_NO_NEW_PRIVS))],
                &[is(0, "option", c!(PR_GET_NO_NEW_PRIVS))],
                &[is(0, "option", c!(PR_GET_SECCOMP))],
                &[is(0, "option", c!(PR_CAPBSET_READ))],
                &[is(0, "option", c!(PR_SET_TIMERSLACK))],
                &[is(0, "option", c!(PR_GET_TIMERSLACK))],
                &[is(0, "option", c!(PR_SET_THP_DISABLE))],
                &[is(0, "option", c!(PR_GET_THP_DISABLE))],
            ],
            "names, and queries. Kept out: PR_SET_MM, PR_SET_SECCOMP, PR_SET_PTRACER, PR_CAP_AMBIENT, securebits, becoming dumpable, clearing the parent-death signal",
        ),
        answer(
            &["prctl"],
            e!(EINVAL),
            "the kernel's answer to an option that it does not know: libraries probe",
        ),
    ],
};

pub(super) static MEMORY: List = List {
    name: "memory",
    purpose: "Mapping and unmapping. The cgroup counts the pages.",
    lines: &[
        allow(
            &["brk", "munmap", "mremap", "madvise", "msync", "mincore"],
            "allocators and memory-mapped files",
        ),
        allow(
            &["mlock", "mlock2", "munlock", "mlockall", "munlockall"],
            "secrets kept from swap, up to RLIMIT_MEMLOCK",
        ),
        allow(&["mseal", "map_shadow_stack"], "hardening that a newer libc asks for"),
        when(
            &["mmap"],
            &[
                &[lacks(2, "prot", c!(PROT_EXEC))],
                &[
                    bits(2, "prot", c!(PROT_WRITE | PROT_EXEC), c!(PROT_EXEC)),
                    lacks(3, "flags", c!(MAP_ANONYMOUS)),
                ],
            ],
            "never writable and executable at once; executable only from a file, as the loader does",
        ),
        when(
            &["mprotect", "pkey_mprotect"],
            &[&[lacks(2, "prot", c!(PROT_EXEC))], &[lacks(2, "prot", c!(PROT_WRITE))]],
            "never writable and executable at once; a compiler at run time writes first and flips then",
        ),
        when(
            &["memfd_create"],
            &[&[bits(1, "flags", (0x18, "MFD_NOEXEC_SEAL | MFD_EXEC"), (0x8, "MFD_NOEXEC_SEAL"))]],
            "Landlock does not govern files that are on no mount: one of them must never become executable",
        ),
        answer(
            &["memfd_create"],
            e!(EACCES),
            "as under `vm.memfd_noexec=2`; callers fall back to a file in /tmp",
        ),
    ],
};

/// What a clone must not ask for, whatever else it is.
const ESCAPES: (u32, &str) = c!(CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_PTRACE
    | CLONE_UNTRACED
    | CLONE_PARENT);

/// The check that a clone makes no namespace, tracer or sibling.
pub(super) const NO_ESCAPE: Check = lacks(0, "flags", ESCAPES);

pub(super) static THREADS: List = List {
    name: "threads",
    purpose: "More threads in the same process. `pids.max` counts them.",
    lines: &[
        when(
            &["clone"],
            &[&[has(0, "flags", c!(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)), NO_ESCAPE]],
            "a thread of this process, in no new namespace",
        ),
        allow(&["futex", "futex_waitv", "membarrier", "sched_yield", "getcpu"], "locks"),
        allow(
            &[
                "sched_getaffinity",
                "sched_setaffinity",
                "sched_getattr",
                "sched_getparam",
                "sched_getscheduler",
                "sched_get_priority_max",
                "sched_get_priority_min",
                "sched_rr_get_interval",
            ],
            "sizing and pinning of thread pools, inside the cgroup's cpus",
        ),
        when(
            &["sched_setscheduler"],
            &[
                &[is(1, "policy", c!(SCHED_OTHER))],
                &[is(1, "policy", c!(SCHED_BATCH))],
                &[is(1, "policy", c!(SCHED_IDLE))],
            ],
            "no real-time policy: a spinning real-time thread starves the machine",
        ),
        answer(
            &["sched_setscheduler", "sched_setparam", "sched_setattr"],
            e!(EPERM),
            "as for an unprivileged user; `sched_setattr` has its policy in memory, where no filter sees it",
        ),
        when(
            &["get_robust_list"],
            &[&[is(0, "pid", (0, "0"))]],
            "one's own; another's tells where its memory is",
        ),
        answer(&["get_robust_list"], e!(EPERM), "as the kernel answers for another user's process"),
        allow(
            &["tgkill", "tkill"],
            "`abort`, `raise` and `pthread_kill`; `tkill` is musl's. Which process a thread is of, the filter cannot know, so only where none of others can be signalled",
        )
        .given(Given::ThreadSignalsConfined),
        answer(
            &["tgkill", "tkill"],
            e!(EPERM),
            "where every process of its user could be signalled; `abort` ends the process all the same, by an instruction that no program may execute (SIGSEGV on x86_64)",
        ),
    ],
};

pub(super) static TIME: List = List {
    name: "time",
    purpose: "Reading clocks, sleeping, timers.",
    lines: &[
        allow(
            &["clock_gettime", "clock_getres", "gettimeofday", "time"],
            "clocks, where the vDSO cannot answer",
        ),
        allow(&["clock_nanosleep", "nanosleep"], "sleeping"),
        allow(&["timerfd_create", "timerfd_settime", "timerfd_gettime"], "timers as descriptors"),
        allow(
            &[
                "timer_create",
                "timer_settime",
                "timer_gettime",
                "timer_getoverrun",
                "timer_delete",
                "setitimer",
                "getitimer",
                "alarm",
            ],
            "timers as signals to oneself; Go's profiler",
        ),
    ],
};

pub(super) static OWN_SIGNALS: List = List {
    name: "own signals",
    purpose: "Signals to single processes of the compartment.",
    lines: &[
        when(
            &["kill"],
            &[&[at_least(0, "pid", (1, "1")), at_most(0, "pid", (0x7fff_ffff, "2³¹−1"))]],
            "to a process, not to a group or to all; where a pid namespace or Landlock's scope keeps signals inside",
        )
        .given(Given::SignalsConfined),
        answer(&["kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"], e!(EPERM), "where a signal could leave the compartment, or would go to a group"),
    ],
};
