//! What the kernel supports, asked once per process.

use std::fs;
use std::sync::OnceLock;

use nix::errno::Errno;

/// The kernel's Landlock ABI, 0 where it has none or does not enable it.
pub(crate) fn landlock_abi() -> u32 {
    static ABI_FOUND: OnceLock<u32> = OnceLock::new();
    *ABI_FOUND.get_or_init(crate::syscall::landlock_abi)
}

/// Why a user namespace was refused, and what to do. The kernel says only EPERM, so its settings are
/// read.
pub(crate) fn why_no_user_namespace(errno: Errno) -> (String, String) {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return (
            "user.max_user_namespaces is 0".to_owned(),
            "allow them: `sysctl -w user.max_user_namespaces=15000`, and a line in /etc/sysctl.d to keep it".to_owned(),
        );
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return (
            "kernel.unprivileged_userns_clone is 0".to_owned(),
            "run as root, or allow them: `sysctl -w kernel.unprivileged_userns_clone=1`".to_owned(),
        );
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return (
            format!("AppArmor restricts user namespaces ({})", errno.desc()),
            "load packaging/bulkhead.apparmor, which allows this program `userns,`, or run as root"
                .to_owned(),
        );
    }
    (
        format!("the kernel refuses a user namespace: {} ({errno:?})", errno.desc()),
        "in a container, allow clone with CLONE_NEWUSER in its seccomp profile; else check user.max_user_namespaces and the nesting of user namespaces".to_owned(),
    )
}
