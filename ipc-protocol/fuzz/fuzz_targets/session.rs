//! `cargo +nightly fuzz run session`: a whole session, on any bytes in any pieces.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each target uses its function")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::session(bytes));
