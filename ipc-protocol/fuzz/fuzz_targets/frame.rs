//! `cargo +nightly fuzz run frame`: the decoders, on any bytes.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each target uses its function")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::frame(bytes));
