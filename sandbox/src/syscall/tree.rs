//! Mounts and what is made in them (mount_namespaces(7)).

use std::ffi::{CStr, c_char, c_long, c_uint, c_ulong};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Call, check, done};

/// Makes an empty file; one that exists is fine.
pub(crate) fn make_file(path: &CStr, mode: libc::mode_t) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | mode, 0) };
    exists_is_fine(done(c_long::from(made)))
}

/// Makes a directory; one that exists is fine.
pub(crate) fn make_directory(path: &CStr, mode: libc::mode_t) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    exists_is_fine(done(c_long::from(unsafe { libc::mkdir(path.as_ptr(), mode) })))
}

/// Makes a symbolic link; one that exists is fine.
pub(crate) fn make_link(content: &CStr, path: &CStr) -> Call {
    // SAFETY: both are terminated and outlive the call.
    exists_is_fine(done(c_long::from(unsafe { libc::symlink(content.as_ptr(), path.as_ptr()) })))
}

fn exists_is_fine(result: Call) -> Call {
    if result == Err(Errno::EEXIST) { Ok(()) } else { result }
}

/// chdir(2).
pub(crate) fn enter(path: &CStr) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    done(c_long::from(unsafe { libc::chdir(path.as_ptr()) }))
}

/// umask(2).
pub(crate) fn set_umask(mask: libc::mode_t) {
    // SAFETY: no pointer is passed; cannot fail.
    unsafe { libc::umask(mask) };
}

/// sethostname(2).
pub(crate) fn set_host_name(name: &[u8]) -> Call {
    // SAFETY: pointer and length are of one slice.
    done(c_long::from(unsafe { libc::sethostname(name.as_ptr().cast::<c_char>(), name.len()) }))
}

/// mount(2) of a new file system.
pub(crate) fn mount(kind: &CStr, target: &CStr, flags: c_ulong, options: &CStr) -> Call {
    // SAFETY: all strings are terminated and outlive the call; tmpfs and proc take a string as data.
    done(c_long::from(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    }))
}

/// open_tree(2): a copy of the mounts at and beneath `path`, attached nowhere.
pub(crate) fn clone_tree(path: &CStr) -> Call<OwnedFd> {
    clone_at(libc::AT_FDCWD, path, 0)
}

/// open_tree(2) of a path without a symbolic link in any part of it (ELOOP), so that it leads where it led
/// when it was judged. One part at a time, as openat2(2) is refused where systemd's RestrictSUIDSGID= is set.
pub(crate) fn clone_plain_tree(path: &CStr) -> Call<OwnedFd> {
    let mut at = super::open(c"/", libc::O_PATH)?;
    for part in path.to_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        // A name of 255 bytes, and its end: nothing is allocated here.
        let mut name = [0_u8; 256];
        name.get_mut(..part.len())
            .filter(|_| part.len() < 256)
            .ok_or(Errno::ENAMETOOLONG)?
            .copy_from_slice(part);
        // SAFETY: the name ends with a zero that the loop above left, and outlives the call.
        let fd = check(c_long::from(unsafe {
            libc::openat(
                at.as_raw_fd(),
                name.as_ptr().cast(),
                libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC,
            )
        }))?;
        // SAFETY: a new descriptor, owned by nothing else.
        at = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        let found = nix::sys::stat::fstat(&at)?;
        if found.st_mode & libc::S_IFMT == libc::S_IFLNK {
            return Err(Errno::ELOOP);
        }
    }
    clone_at(at.as_raw_fd(), c"", libc::AT_EMPTY_PATH as c_uint)
}

fn clone_at(directory: RawFd, path: &CStr, flags: c_uint) -> Call<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint | flags;
    // SAFETY: the path is terminated and outlives the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// move_mount(2): attaches what [`clone_tree`] gave.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: &CStr) -> Call {
    // SAFETY: both paths are terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

/// mount_setattr(2): sets attributes of a mount, and with `recursive` of those beneath it, and cuts
/// them off from what the machine mounts later.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> Call {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the attributes have the size that is stated and outlive the call, as does the path.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// pivot_root(".", "."), which stacks the old root on the new one, and its detachment.
pub(crate) fn pivot_here() -> Call {
    // SAFETY: both paths are terminated literals.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a terminated literal.
    done(c_long::from(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }))
}
