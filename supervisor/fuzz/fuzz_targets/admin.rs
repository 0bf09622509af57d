//! `cargo +nightly fuzz run admin`: requests to the admin API, on any head and body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulkhead_supervisor_fuzz::admin(bytes));
