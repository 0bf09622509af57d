use super::*;

#[test]
fn our_own_status_is_read_as_the_kernel_calls_say() {
    let status = ProcessStatus::read(std::process::id() as i32).unwrap();
    assert_eq!(status.uids[1], nix::unistd::geteuid().as_raw());
    assert_eq!(status.gids[1], nix::unistd::getegid().as_raw());
}

#[test]
fn a_short_status_is_refused_rather_than_guessed() {
    let whole = fs::read_to_string("/proc/self/status").unwrap();
    assert!(ProcessStatus::parse(&whole).is_some());
    for name in ["Uid", "Groups", "CapBnd", "NoNewPrivs", "Seccomp", "Threads"] {
        let key = format!("{name}:");
        let kept: Vec<&str> = whole.lines().filter(|line| !line.starts_with(&key)).collect();
        let without = kept.join("\n");
        assert_eq!(ProcessStatus::parse(&without), None, "{name}");
    }
}

#[test]
fn a_process_that_executed_is_told_from_one_that_did_not() {
    assert!(has_executed(std::process::id() as i32).unwrap());
    // The kernel's own first thread never has.
    let kthread = has_executed(2);
    assert!(kthread.is_err() || !kthread.unwrap());
}

#[test]
fn limits_are_read_by_name() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max file size             unlimited            unlimited            bytes     \n\
        Max open files            1024                 20000                files     \n";
    assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
    assert_eq!(soft_limit(limits, "Max file size"), None);
}
