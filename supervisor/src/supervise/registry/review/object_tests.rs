use super::super::sample::{Sample, file};
use super::*;

fn object(bytes: &[u8]) -> Result<Object, Fault> {
    Elf::open(&file(bytes))?.object()
}

fn full() -> Sample {
    Sample {
        soname: Some("libx.so.1"),
        rpath: Some("/a::/b"),
        runpath: Some("$ORIGIN/../lib"),
        flags: abi::DF_1_NODEFLIB as u64,
        crates: Some(b"content".to_vec()),
        ..Sample::program(&["libm.so.6", "libc.so.6"])
    }
}

#[test]
fn what_a_program_says_is_read() {
    let object = object(&full().bytes()).unwrap();
    assert_eq!(object.target, Target::HERE);
    assert_eq!(object.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    assert_eq!(object.needed, ["libm.so.6", "libc.so.6"]);
    assert_eq!(object.soname.as_deref(), Some("libx.so.1"));
    assert_eq!(object.rpath, ["/a", "/b"], "no working directory");
    assert_eq!(object.runpath, ["$ORIGIN/../lib"]);
    assert!(object.no_default);
}

#[test]
fn a_program_of_this_machine_is_read_as_its_tools_see_it() {
    let own = File::open(std::env::current_exe().unwrap()).unwrap();
    let object = Elf::open(&own).unwrap().object().unwrap();
    assert_eq!(object.target, Target::HERE);
    assert!(object.interpreter.is_none_or(|loader| loader.starts_with('/')));
    assert!(Elf::open(&own).unwrap().section(".text", 1 << 30).unwrap().is_some());
    assert_eq!(Elf::open(&own).unwrap().section(".dep-v0", 1 << 20).unwrap(), None);
}

#[test]
fn a_section_is_found_by_its_name_and_bounded() {
    let file = file(&full().bytes());
    let elf = Elf::open(&file).unwrap();
    assert_eq!(elf.section(".dep-v0", 7).unwrap().as_deref(), Some(&b"content"[..]));
    assert!(matches!(elf.section(".dep-v0", 6), Err(Fault::Malformed(_))));
    assert_eq!(elf.section(".dep", 7).unwrap(), None);
}

#[test]
fn what_is_no_program_is_said() {
    assert!(matches!(object(b""), Err(Fault::NotElf)));
    assert!(matches!(object(b"#!/bin/sh\necho a script, and long enough\n"), Err(Fault::NotElf)));
    let mut bytes = full().bytes();
    bytes[16] = abi::ET_REL as u8;
    assert!(matches!(object(&bytes), Err(Fault::Kind(abi::ET_REL))));
    let mut bytes = full().bytes();
    // e_phnum: more headers than are believed.
    bytes[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(matches!(object(&bytes), Err(Fault::Malformed(_))));
}

#[test]
fn a_program_for_another_machine_is_named() {
    let bytes = Sample { machine: abi::EM_AARCH64, ..full() }.bytes();
    let target = object(&bytes).unwrap().target;
    assert!(target.to_string().contains("64 bits, little-endian"), "{target}");
    assert_ne!(target.machine, abi::EM_X86_64);
}

#[test]
fn every_truncation_is_a_fault_or_a_program_and_nothing_else() {
    let bytes = full().bytes();
    for length in 0..bytes.len() {
        let file = file(&bytes[..length]);
        let Ok(elf) = Elf::open(&file) else { continue };
        let _ = elf.object();
        let _ = elf.section(".dep-v0", 1 << 20);
    }
    assert!(object(&bytes).is_ok(), "the control: all of it is a program");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2000))]

    #[test]
    fn no_bytes_make_the_reader_panic(
        changes in proptest::collection::vec((0_usize..700, 0_u8..), 1..24),
    ) {
        let mut bytes = full().bytes();
        for (place, value) in changes {
            let length = bytes.len();
            bytes[place % length] = value;
        }
        let file = file(&bytes);
        if let Ok(elf) = Elf::open(&file) {
            let _ = elf.object();
            let _ = elf.section(".dep-v0", 1 << 20);
        }
    }
}
