use super::*;

const SIGKILL: Status = Status::Signaled { signal: libc::SIGKILL, core: false };

#[test]
fn an_oom_kill_is_told_from_our_kill_and_from_a_strangers() {
    let hungry = Usage { oom_kills: 1, memory_peak: Some(64 << 20), ..Usage::default() };
    let ours = Evidence { killed: true, memory_limit: Some(64 << 20), ..Evidence::default() };
    let theirs = Evidence { memory_limit: Some(64 << 20), ..Evidence::default() };
    let oom = Cause::OutOfMemory { limit: Some(64 << 20), peak: Some(64 << 20) };
    assert_eq!(Cause::of(SIGKILL, &hungry, theirs), oom);
    assert_eq!(Cause::of(SIGKILL, &hungry, ours), oom);
    assert_eq!(Cause::of(SIGKILL, &Usage::default(), ours), Cause::Killed);
    assert_eq!(Cause::of(SIGKILL, &Usage::default(), theirs), Cause::Signal(9));
    // A child of the program was killed for memory, and the program went on to end by itself.
    assert_eq!(Cause::of(Status::Exited(3), &hungry, theirs), Cause::Code(3));
    // Killed by us while it was ending by itself: its own code is the truth.
    assert_eq!(Cause::of(Status::Exited(0), &Usage::default(), ours), Cause::Code(0));
}

#[test]
fn records_of_the_init_survive_the_pipe() {
    for (code, status, expected) in [
        (libc::CLD_EXITED, 255, Some(Status::Exited(255))),
        (libc::CLD_KILLED, 15, Some(Status::Signaled { signal: 15, core: false })),
        (libc::CLD_DUMPED, 6, Some(Status::Signaled { signal: 6, core: true })),
        (libc::CLD_STOPPED, 19, None),
    ] {
        assert_eq!(Status::from_record(Status::to_record(code, status)), expected);
    }
}

#[test]
fn explanations_name_the_setting_that_would_change_it() {
    let exit = |status, cause| {
        Exit { status, usage: Usage::default(), cause, denied_call: None, denied_accesses: vec![] }
            .explain()
    };
    let oom = exit(SIGKILL, Cause::OutOfMemory { limit: Some(64 << 20), peak: Some(67_000_000) });
    assert!(oom.contains("64 MiB") && oom.contains("63.9 MiB") && oom.contains("limits.memory"));
    let abort = Status::Signaled { signal: libc::SIGABRT, core: true };
    assert_eq!(exit(abort, Cause::Signal(6)), "SIGABRT ended it and it dumped core");
    let usage = Usage { pids_refused: 3, ..Usage::default() };
    let code = Cause::Code(1);
    let held = Exit {
        status: Status::Exited(1),
        usage,
        cause: code,
        denied_call: None,
        denied_accesses: vec![],
    }
    .explain();
    assert!(
        held.contains("exit code 1") && held.contains("3 times") && held.contains("limits.pids")
    );
    assert!(exit(SIGKILL, Cause::Seccomp).contains("not observable here"));
    let denied = |call: &str| {
        let denied_call = Some(call.to_owned());
        let (status, usage) = (SIGKILL, Usage::default());
        Exit { status, usage, cause: Cause::Seccomp, denied_call, denied_accesses: vec![] }
            .explain()
    };
    assert!(denied("sysinfo").contains("allow_syscalls = [\"sysinfo\"]"));
    assert!(denied("ptrace").contains("no policy can allow"));
    assert!(denied("number 20 by int 0x80").contains("no policy can allow"));
}

#[test]
fn bytes_are_exact_or_have_one_decimal() {
    for (count, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (3 << 40, "3 TiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
}
