//! pid 1 of a compartment.
//!
//! The kernel ignores signals that a pid namespace's first process does not handle, and shows its
//! abort as another signal. So the program is the second process, and this is the first: it passes
//! signals on, reaps orphans, tells how the program ended, and ends; then the kernel ends whatever is
//! left in the namespace. It is a copy of the launcher that executes nothing: no start cost, no file
//! to verify. It has no capability, is under the compartment's Landlock rules, cannot be traced, and
//! may make only the few system calls of this file.

use nix::errno::Errno;

use crate::exit::Status;
use crate::seccomp;
use crate::syscall;

/// Signals that a terminal sends to a whole foreground group.
const OF_A_TERMINAL: [libc::c_int; 5] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP, libc::SIGWINCH];

/// What the init needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Init {
    /// The program.
    pub(crate) program: i32,
    /// A socket: a byte comes when the launcher has measured the program, and the verdict goes.
    pub(crate) verdict: i32,
    /// Where there is no pid namespace, so that the kernel does not end what is left when we end: our
    /// list of children (proc_tid_children(5)), opened while it still could be.
    pub(crate) children: Option<i32>,
}

impl Init {
    /// Runs until the program has ended. Every signal is blocked, every other descriptor closed.
    pub(crate) fn run(self, filter: &[libc::sock_filter]) -> ! {
        // Neither traced nor read by a process of our own uid: the program is one.
        let _ = syscall::prctl(libc::PR_SET_DUMPABLE, 0, 0);
        // Narrower still. The init works without, so a kernel without seccomp is no reason to fail.
        let _ = seccomp::install(filter);
        loop {
            match syscall::wait_signal() {
                Ok(libc::SIGCHLD) => self.reap(),
                Ok(signal) if OF_A_TERMINAL.contains(&signal) => {
                    // The program leads its own process group.
                    let _ = syscall::kill(-self.program, signal);
                }
                Ok(signal) => {
                    let _ = syscall::kill(self.program, signal);
                }
                Err(_) => {}
            }
        }
    }

    fn reap(self) {
        // One SIGCHLD may stand for many.
        while let Ok(Some(ended)) = syscall::peek_ended() {
            if ended.pid == self.program {
                self.finish(ended.code, ended.status);
            }
            if syscall::reap(ended.pid) == Err(Errno::ECHILD) {
                break;
            }
        }
    }

    fn finish(self, code: libc::c_int, status: libc::c_int) -> ! {
        // Until the launcher has measured the program its pid must stay its own, so it is not reaped
        // before. The socket also tells when the launcher is gone.
        let _ = syscall::receive_byte(self.verdict);
        if let Some(children) = self.children {
            end_all(children);
        }
        let _ = syscall::send_bytes(self.verdict, &Status::to_record(code, status));
        syscall::exit(0)
    }
}

/// Kills and reaps children until there are none. Those of a killed child become ours, so that this
/// goes through the whole tree, detached or not; one that forks faster than it is killed wins, which
/// is what the pid namespace and the cgroup are for.
fn end_all(children: i32) {
    let mut text = [0; 4096];
    while let Ok(length @ 1..) = syscall::read_start(children, &mut text) {
        for word in text[..length].split(|&byte| byte == b' ') {
            let digits = word.iter().all(u8::is_ascii_digit) && !word.is_empty() && word.len() < 10;
            // A number cut off by the buffer's end could be another's: the list ends with a space.
            let whole = length < text.len() || word.as_ptr_range().end != text.as_ptr_range().end;
            if digits && whole {
                let pid = word.iter().fold(0, |pid, digit| pid * 10 + i32::from(digit - b'0'));
                let _ = syscall::kill(pid, libc::SIGKILL);
            }
        }
        if syscall::reap_any().is_err() {
            break;
        }
    }
}

/// The system calls of this file, as a filter: a list this short needs no tree.
pub(crate) fn filter() -> Vec<libc::sock_filter> {
    #[cfg(target_arch = "x86_64")]
    const ARCHITECTURE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const ARCHITECTURE: u32 = 0xc000_00b7;
    const CALLS: [libc::c_long; 10] = [
        libc::SYS_rt_sigtimedwait,
        libc::SYS_waitid,
        libc::SYS_kill,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_exit_group,
        libc::SYS_exit,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_pread64,
    ];
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let count = CALLS.len() as u8;
    // seccomp_data: the call's number at 0, the architecture at 4.
    let mut program =
        vec![step(LOAD, 0, 0, 4), step(EQUAL, 0, count + 1, ARCHITECTURE), step(LOAD, 0, 0, 0)];
    for (index, call) in (0_u8..).zip(CALLS) {
        program.push(step(EQUAL, count - index, 0, call as u32));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests;
