//! The programs that the workspace builds.

use std::path::PathBuf;

/// The directory of the built programs: `BULKHEAD_BIN_DIR`, or that of the profile which this test
/// was built in.
pub fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("BULKHEAD_BIN_DIR") {
        return PathBuf::from(directory);
    }
    let test = std::env::current_exe().unwrap();
    // …/debug/deps/exec-0123456789abcdef
    test.parent().and_then(|deps| deps.parent()).unwrap().to_owned()
}

/// The path of a program of the workspace.
///
/// # Panics
/// Where it is not built, with what to do.
pub fn path(name: &str) -> PathBuf {
    let path = directory().join(name);
    let release = if directory().ends_with("release") { " --release" } else { "" };
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build{release} --workspace` first, or name the directory that has it with BULKHEAD_BIN_DIR",
        path.display()
    );
    path
}

/// `bulkhead` itself; `BULKHEAD_BIN` names another.
pub fn bulkhead() -> PathBuf {
    std::env::var_os("BULKHEAD_BIN").map_or_else(|| path("bulkhead"), PathBuf::from)
}
