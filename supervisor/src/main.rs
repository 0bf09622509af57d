//! Bulkhead runs third-party native plugins, each in a watertight compartment of its own.

fn main() {}
