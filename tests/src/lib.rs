//! What the integration tests share: the built programs, lanes and skips, running `bulkhead` with a
//! deadline, and a service of one's own.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub mod admin;
pub mod archive;
pub mod belongings;
pub mod census;
pub mod description;
pub mod elf;
pub mod exposition;
pub mod footprint;
pub mod lane;
pub mod package;
pub mod plugin;
pub mod process;
pub mod program;
pub mod service;
pub mod signing;
pub mod terminal;

/// Lets every user read a directory and all beneath it, as the service's users must.
pub fn open_to_all(directory: &Path) {
    let mode = if directory.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        open_to_all(&entry.unwrap().path());
    }
}

/// The test that calls: `exec::a_test`, for [`lane`].
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        path.strip_suffix("::here").unwrap_or(path)
    }};
}
