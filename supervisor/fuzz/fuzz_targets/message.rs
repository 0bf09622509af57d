//! `cargo +nightly fuzz run message`: what plugins say to the supervisor, on any bytes in any encoding.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulkhead_supervisor_fuzz::message(bytes));
