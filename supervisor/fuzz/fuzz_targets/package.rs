//! `cargo +nightly fuzz run package`: the reader of packages, on any bytes, compressed or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulkhead_supervisor_fuzz::package(bytes));
