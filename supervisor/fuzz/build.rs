//! What only the targets use of the supervisor is compiled for them, whether `cargo fuzz` asks or not.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=fuzzing");
}
