use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;

use super::*;
use crate::seccomp::learning::NAMING;
use crate::seccomp::never_allowed;

/// The positions of the descriptors that relative paths begin at, and of the paths.
type Paths = &'static [(Option<usize>, usize)];

/// Every call that takes a path to look up, by the kernel's tables (syscalls(2)).
const TAKES_A_PATH: &[(&str, Paths)] = &[
    ("access", &[(None, 0)]),
    ("acct", &[(None, 0)]),
    ("chdir", &[(None, 0)]),
    ("chmod", &[(None, 0)]),
    ("chown", &[(None, 0)]),
    ("chroot", &[(None, 0)]),
    ("creat", &[(None, 0)]),
    ("execve", &[(None, 0)]),
    ("execveat", &[(Some(0), 1)]),
    ("faccessat", &[(Some(0), 1)]),
    ("faccessat2", &[(Some(0), 1)]),
    ("fanotify_mark", &[(Some(3), 4)]),
    ("fchmodat", &[(Some(0), 1)]),
    ("fchmodat2", &[(Some(0), 1)]),
    ("fchownat", &[(Some(0), 1)]),
    ("file_getattr", &[(Some(0), 1)]),
    ("file_setattr", &[(Some(0), 1)]),
    ("fspick", &[(Some(0), 1)]),
    ("futimesat", &[(Some(0), 1)]),
    ("getxattr", &[(None, 0)]),
    ("getxattrat", &[(Some(0), 1)]),
    ("inotify_add_watch", &[(None, 1)]),
    ("lchown", &[(None, 0)]),
    ("lgetxattr", &[(None, 0)]),
    ("link", &[(None, 0), (None, 1)]),
    ("linkat", &[(Some(0), 1), (Some(2), 3)]),
    ("listxattr", &[(None, 0)]),
    ("listxattrat", &[(Some(0), 1)]),
    ("llistxattr", &[(None, 0)]),
    ("lremovexattr", &[(None, 0)]),
    ("lsetxattr", &[(None, 0)]),
    ("lstat", &[(None, 0)]),
    ("mkdir", &[(None, 0)]),
    ("mkdirat", &[(Some(0), 1)]),
    ("mknod", &[(None, 0)]),
    ("mknodat", &[(Some(0), 1)]),
    ("mount", &[(None, 0), (None, 1)]),
    ("mount_setattr", &[(Some(0), 1)]),
    ("move_mount", &[(Some(0), 1), (Some(2), 3)]),
    ("name_to_handle_at", &[(Some(0), 1)]),
    ("newfstatat", &[(Some(0), 1)]),
    ("open", &[(None, 0)]),
    ("open_tree", &[(Some(0), 1)]),
    ("open_tree_attr", &[(Some(0), 1)]),
    ("openat", &[(Some(0), 1)]),
    ("openat2", &[(Some(0), 1)]),
    ("pivot_root", &[(None, 0), (None, 1)]),
    ("quotactl", &[(None, 1)]),
    ("readlink", &[(None, 0)]),
    ("readlinkat", &[(Some(0), 1)]),
    ("removexattr", &[(None, 0)]),
    ("removexattrat", &[(Some(0), 1)]),
    ("rename", &[(None, 0), (None, 1)]),
    ("renameat", &[(Some(0), 1), (Some(2), 3)]),
    ("renameat2", &[(Some(0), 1), (Some(2), 3)]),
    ("rmdir", &[(None, 0)]),
    ("setxattr", &[(None, 0)]),
    ("setxattrat", &[(Some(0), 1)]),
    ("stat", &[(None, 0)]),
    ("statfs", &[(None, 0)]),
    ("statx", &[(Some(0), 1)]),
    ("swapoff", &[(None, 0)]),
    ("swapon", &[(None, 0)]),
    // Where a symbolic link leads is text.
    ("symlink", &[(None, 1)]),
    ("symlinkat", &[(Some(1), 2)]),
    ("truncate", &[(None, 0)]),
    ("umount2", &[(None, 0)]),
    ("unlink", &[(None, 0)]),
    ("unlinkat", &[(Some(0), 1)]),
    ("uselib", &[(None, 0)]),
    ("utime", &[(None, 0)]),
    ("utimensat", &[(Some(0), 1)]),
    ("utimes", &[(None, 0)]),
];

#[test]
fn every_call_with_a_path_that_some_policy_allows_is_asked_about_and_looked_at() {
    let mut looked_at: BTreeMap<&str, Vec<(Option<usize>, usize)>> = BTreeMap::new();
    for named in NAMED {
        looked_at.entry(named.call).or_default().push((named.directory, named.path));
    }
    for (call, places) in TAKES_A_PATH {
        if never_allowed(call).is_some() {
            assert!(!looked_at.contains_key(call), "{call} is never allowed");
            continue;
        }
        assert!(NAMING.contains(call), "{call} is never asked about");
        assert_eq!(looked_at.get(call).map(Vec::as_slice), Some(*places), "{call}");
    }
    let takes_a_path = |call: &&str| TAKES_A_PATH.iter().any(|(name, _)| name == call);
    for call in NAMING.iter().filter(|call| !matches!(**call, "connect" | "bind")) {
        assert!(takes_a_path(call), "{call} has no path");
    }
}

#[test]
fn a_path_is_made_plain_and_stays_beneath_the_root() {
    for (path, expected) in
        [("/srv//a/./b", "/srv/a/b"), ("/srv/a/../b/", "/srv/b"), ("/../..", "/"), ("/", "/")]
    {
        assert_eq!(plain(Path::new(path)), Path::new(expected));
    }
}

#[test]
fn what_an_open_is_for_is_in_its_flags() {
    assert_eq!(doing(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY), Doing::Read);
    assert_eq!(doing(libc::O_PATH | libc::O_DIRECTORY), Doing::Look);
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE] {
        assert_eq!(doing(flags), Doing::Write, "{flags:o}");
    }
}

/// What this thread would name by such a call.
fn named(call: &str, arguments: [u64; 6]) -> Result<Vec<Subject>, LearningError> {
    let thread = nix::unistd::gettid().as_raw();
    Caller { thread }.names(calls::number(call).unwrap(), &arguments)
}

#[test]
fn in_a_root_of_its_own_an_absolute_path_begins_there() {
    let directory = tempfile::tempdir().unwrap();
    let opened = File::open(directory.path()).unwrap();
    let at = opened.as_raw_fd() as u64;
    let named = |resolve: u64, path: &str| {
        let how = [libc::O_RDONLY as u64, 0, resolve];
        let path = std::ffi::CString::new(path).unwrap();
        let arguments = [at, path.as_ptr() as u64, how.as_ptr() as u64, 24, 0, 0];
        named("openat2", arguments).unwrap()
    };
    let inside = Subject::Path(directory.path().canonicalize().unwrap().join("b"), Doing::Read);
    for path in ["/b", "b", "/../b", "../../b"] {
        assert_eq!(named(libc::RESOLVE_IN_ROOT, path), std::slice::from_ref(&inside), "{path}");
    }
    assert_eq!(named(0, "b"), [inside]);
    assert_eq!(named(0, "/b"), [Subject::Path("/b".into(), Doing::Read)]);
}

#[test]
fn a_message_that_connects_by_itself_names_its_address() {
    let address: SocketAddr = "192.0.2.7:443".parse().unwrap();
    let bytes: [u8; 16] = {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&443_u16.to_be_bytes());
        bytes[4..8].copy_from_slice(&[192, 0, 2, 7]);
        bytes
    };
    let to = bytes.as_ptr() as u64;
    let header: [u64; 7] = [to, 16, 0, 0, 0, 0, 0];
    let message = header.as_ptr() as u64;
    let expected = [Subject::Connect(address)];
    assert_eq!(named("sendto", [0, 0, 0, 0, to, 16]).unwrap(), expected);
    assert_eq!(named("sendmsg", [0, message, 0, 0, 0, 0]).unwrap(), expected);
    assert_eq!(named("sendmmsg", [0, message, 1, 0, 0, 0]).unwrap(), expected);
    // To whom it is connected already.
    assert_eq!(named("sendto", [0; 6]).unwrap(), []);
}

#[test]
fn what_cannot_be_read_is_no_path_that_was_not_named() {
    let path = c"/srv/x".as_ptr() as u64;
    let at = libc::AT_FDCWD as u64;
    let expected = [Subject::Path("/srv/x".into(), Doing::Look)];
    assert_eq!(named("newfstatat", [at, path, 0, 0, 0, 0]).unwrap(), expected);
    // Its own mistakes: no such memory, no such descriptor.
    for bad in [0, 8, u64::MAX] {
        assert_eq!(named("newfstatat", [at, bad, 0, 0, 0, 0]).unwrap(), [], "{bad}");
    }
    let relative = c"x".as_ptr() as u64;
    assert_eq!(named("newfstatat", [1 << 20, relative, 0, 0, 0, 0]).unwrap(), []);
    // As where /proc hides it.
    let hidden = Caller { thread: i32::MAX };
    match hidden.names(calls::number("newfstatat").unwrap(), &[at, path, 0, 0, 0, 0]) {
        Err(LearningError::Unreadable { path, .. }) => assert!(path.ends_with("mem"), "{path:?}"),
        other => panic!("{other:?}"),
    }
    for (errno, is_own) in
        [(libc::EFAULT, true), (libc::EIO, true), (libc::EPERM, false), (libc::EACCES, false)]
    {
        let missing = Missing::memory("mem".into(), io::Error::from_raw_os_error(errno));
        assert_eq!(matches!(missing, Missing::None), is_own, "{errno}");
    }
}
