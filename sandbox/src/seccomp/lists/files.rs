//! Files. Which of them, the private root, the mounts' flags and Landlock decide.

use crate::seccomp::line::{Check, Given, List, allow, answer, bits, c, e, lacks, when};

pub(super) static LOOKING: List = List {
    name: "looking",
    purpose: "Names, kinds and sizes. Landlock does not govern these; the private root does.",
    lines: &[
        allow(
            &["fstat", "stat", "lstat", "newfstatat", "statx", "statfs", "fstatfs"],
            "kinds and sizes",
        ),
        allow(
            &[
                "access",
                "faccessat",
                "faccessat2",
                "readlink",
                "readlinkat",
                "getcwd",
                "getdents",
                "getdents64",
            ],
            "what is there, and whether it may be used",
        ),
        allow(&["chdir", "fchdir"], "own working directory"),
        allow(
            &["getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"],
            "`ls` and file libraries look for ACLs",
        ),
        allow(&["fadvise64", "readahead"], "hints"),
    ],
};

/// What an open for reading must not ask for. `O_TMPFILE` is two bits, of which one is `O_DIRECTORY`: that
/// one an open for reading may have.
const CHANGES: (u32, &str) = (
    c!(O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE).0 & !(libc::O_DIRECTORY as u32),
    "O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE",
);

pub(super) static READING: List = List {
    name: "reading",
    purpose: "Opening files to read: the loader's libraries, a locale, the plugin's assets.",
    lines: &[
        when(&["openat"], &[&[lacks(2, "flags", CHANGES)]], "for reading, creating nothing"),
        when(&["open"], &[&[lacks(1, "flags", CHANGES)]], "for reading, creating nothing"),
        answer(&["open", "openat"], e!(EACCES), "as for a file that is not writable"),
        answer(
            &["openat2"],
            e!(ENOSYS),
            "has its flags in memory, where no filter sees them; callers fall back to `openat`",
        ),
    ],
};

/// Opening is safe below Landlock ABI 3 unless it truncates a file that it does not open for writing,
/// which older ABIs do not refuse.
const fn truncates_only_what_it_writes(flags: u8) -> [Check; 3] {
    [
        lacks(flags, "flags", c!(O_TRUNC)),
        bits(flags, "flags", c!(O_ACCMODE), c!(O_WRONLY)),
        bits(flags, "flags", c!(O_ACCMODE), c!(O_RDWR)),
    ]
}
const OPEN: [Check; 3] = truncates_only_what_it_writes(1);
const OPENAT: [Check; 3] = truncates_only_what_it_writes(2);

/// No set-user-id or set-group-id bit.
const fn plain(mode: u8) -> Check {
    lacks(mode, "mode", c!(S_ISUID | S_ISGID))
}

pub(super) static WRITING: List = List {
    name: "writing",
    purpose: "Changing files where Landlock lets it: `/data` and `/tmp`.",
    lines: &[
        allow(&["open", "openat", "openat2"], "Landlock checks each path")
            .given(Given::TruncateGoverned),
        when(
            &["open"],
            &[&[OPEN[0]], &[OPEN[1]], &[OPEN[2]]],
            "below ABI 3 Landlock lets an open for reading truncate",
        )
        .given(Given::TruncateUngoverned),
        when(
            &["openat"],
            &[&[OPENAT[0]], &[OPENAT[1]], &[OPENAT[2]]],
            "below ABI 3 Landlock lets an open for reading truncate",
        )
        .given(Given::TruncateUngoverned),
        answer(&["open", "openat"], e!(EACCES), "as for a file that is not writable")
            .given(Given::TruncateUngoverned),
        answer(
            &["openat2"],
            e!(ENOSYS),
            "has its flags in memory, where no filter sees them; callers fall back to `openat`",
        )
        .given(Given::TruncateUngoverned),
        allow(&["creat"], "always opens for writing, which every ABI checks"),
        allow(&["ftruncate", "fallocate", "flock"], "size and locks of an open file"),
        allow(&["truncate"], "Landlock checks the path from ABI 3").given(Given::TruncateGoverned),
        answer(&["truncate"], e!(EACCES), "below ABI 3 Landlock does not check it")
            .given(Given::TruncateUngoverned),
        allow(&["fsync", "fdatasync", "sync_file_range"], "durability"),
        allow(
            &["mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2"],
            "names",
        ),
        allow(
            &["link", "linkat", "symlink", "symlinkat"],
            "names; a link leads nowhere that the private root does not show",
        ),
        when(&["chmod", "fchmod"], &[&[plain(1)]], "no set-user-id and set-group-id bits"),
        when(&["fchmodat", "fchmodat2"], &[&[plain(2)]], "no set-user-id and set-group-id bits"),
        answer(
            &["chmod", "fchmod", "fchmodat", "fchmodat2"],
            e!(EPERM),
            "as for a file that another owns",
        ),
        allow(&["utime", "utimes", "futimesat", "utimensat"], "times"),
    ],
};

/// The kinds that `mknod(2)` may make.
const fn kinds(mode: u8) -> [Check; 2] {
    [
        bits(mode, "mode", c!(S_IFMT | S_ISUID | S_ISGID), c!(S_IFIFO)),
        bits(mode, "mode", c!(S_IFMT | S_ISUID | S_ISGID), c!(S_IFREG)),
    ]
}
const MKNOD: [Check; 2] = kinds(1);
const MKNODAT: [Check; 2] = kinds(2);

pub(super) static NODES: List = List {
    name: "nodes",
    purpose: "Named pipes.",
    lines: &[
        when(
            &["mknod"],
            &[&[MKNOD[0]], &[MKNOD[1]]],
            "pipes and plain files; no device, no socket",
        ),
        when(
            &["mknodat"],
            &[&[MKNODAT[0]], &[MKNODAT[1]]],
            "pipes and plain files; no device, no socket",
        ),
        answer(&["mknod", "mknodat"], e!(EPERM), "as for an unprivileged user"),
    ],
};
