use super::*;

/// What a filter answers for a call (linux/filter.h, the four instructions that it uses).
fn answer(program: &[libc::sock_filter], architecture: u32, call: u32) -> u32 {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let step = program[at];
        at += 1;
        match u32::from(step.code) {
            code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                loaded = if step.k == 0 { call } else { architecture };
            }
            code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                at += usize::from(if loaded == step.k { step.jt } else { step.jf });
            }
            _ => return step.k,
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn only_the_calls_of_the_init_pass() {
    let program = filter();
    let passes: Vec<u32> = (0..1024)
        .filter(|&call| answer(&program, 0xc000_003e, call) == libc::SECCOMP_RET_ALLOW)
        .collect();
    let mut expected = [
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
    ]
    .map(|call| call as u32);
    expected.sort_unstable();
    assert_eq!(passes, expected);
    // The same numbers on another architecture are other calls.
    for call in expected {
        assert_eq!(answer(&program, 0x4000_0003, call), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
