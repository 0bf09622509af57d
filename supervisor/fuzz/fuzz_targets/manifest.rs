//! `cargo +nightly fuzz run manifest`: the parser of `plugin.toml`, on any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulkhead_supervisor_fuzz::manifest(bytes));
