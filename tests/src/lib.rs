//! What the integration tests share: the built programs, lanes and skips, running `bulkhead` with a
//! deadline, and a service of one's own.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

pub mod admin;
pub mod archive;
pub mod census;
pub mod lane;
pub mod package;
pub mod plugin;
pub mod process;
pub mod program;
pub mod service;

/// The test that calls: `exec::a_test`, for [`lane`].
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        path.strip_suffix("::here").unwrap_or(path)
    }};
}
