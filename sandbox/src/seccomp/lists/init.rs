//! The init of a compartment, once it has forked the plugin.

use crate::seccomp::line::{List, allow};

pub(super) static INIT: List = List {
    name: "init",
    purpose: "Pid 1 of a compartment, after it has started the program: it waits, forwards signals, reaps, reports, ends.",
    lines: &[
        allow(
            &["rt_sigtimedwait", "rt_sigprocmask", "rt_sigreturn", "restart_syscall"],
            "waiting for signals; the mask stays as it is",
        ),
        allow(&["wait4", "waitid"], "reaping its children, and the orphans that become them"),
        allow(&["kill"], "forwarding; the pid namespace keeps it inside"),
        allow(&["write", "close"], "reporting the program's wait status"),
        allow(&["exit_group", "exit"], "ending, with which the kernel ends the namespace"),
    ],
};
