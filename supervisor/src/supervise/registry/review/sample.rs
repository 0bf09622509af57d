//! ELF files made by hand, for the tests.

use std::fs::File;
use std::io::Write as _;

use super::object::Target;

/// What to write into one. The file is its own single segment, loaded at [`BASE`].
#[derive(Clone, Default)]
pub(super) struct Sample {
    pub(super) interpreter: Option<&'static str>,
    pub(super) needed: Vec<&'static str>,
    pub(super) soname: Option<&'static str>,
    pub(super) rpath: Option<&'static str>,
    pub(super) runpath: Option<&'static str>,
    pub(super) flags: u64,
    /// The content of the section `.dep-v0`.
    pub(super) crates: Option<Vec<u8>>,
    /// `e_machine`; this machine's if 0.
    pub(super) machine: u16,
}

const BASE: u64 = 0x10000;
const HEADER: usize = 64;
const SEGMENT: usize = 56;

impl Sample {
    pub(super) fn program(needed: &[&'static str]) -> Self {
        Self {
            interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
            needed: needed.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn library(needed: &[&'static str]) -> Self {
        Self { needed: needed.to_vec(), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut segments: Vec<(u32, u64, u64)> = Vec::new();
        let count = 2 + usize::from(self.interpreter.is_some());
        let mut body = Vec::new();
        let at = |body: &Vec<u8>| (HEADER + count * SEGMENT + body.len()) as u64;
        if let Some(interpreter) = self.interpreter {
            segments.push((elf::abi::PT_INTERP, at(&body), interpreter.len() as u64 + 1));
            body.extend_from_slice(interpreter.as_bytes());
            body.push(0);
        }
        let strings_at = at(&body);
        let mut strings = vec![0];
        let mut text = |text: &str| {
            let offset = strings.len() as u64;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            offset
        };
        let mut dynamic: Vec<(i64, u64)> = vec![(elf::abi::DT_STRTAB, BASE + strings_at)];
        dynamic.extend(self.needed.iter().map(|name| (elf::abi::DT_NEEDED, text(name))));
        for (tag, value) in [
            (elf::abi::DT_SONAME, self.soname),
            (elf::abi::DT_RPATH, self.rpath),
            (elf::abi::DT_RUNPATH, self.runpath),
        ] {
            dynamic.extend(value.map(|value| (tag, text(value))));
        }
        dynamic.push((elf::abi::DT_FLAGS_1, self.flags));
        dynamic.push((elf::abi::DT_NULL, 0));
        body.extend(strings);
        segments.push((elf::abi::PT_DYNAMIC, at(&body), dynamic.len() as u64 * 16));
        for (tag, value) in dynamic {
            body.extend(tag.to_le_bytes());
            body.extend(value.to_le_bytes());
        }
        segments.push((elf::abi::PT_LOAD, 0, at(&body)));
        let (mut sections_at, mut sections) = (0, Vec::new());
        if let Some(content) = &self.crates {
            let content_at = at(&body);
            body.extend(content);
            let names_at = at(&body);
            let names = b"\0.dep-v0\0.shstrtab\0";
            body.extend(names);
            sections_at = at(&body);
            sections = vec![
                [0; 4],
                [1, u64::from(elf::abi::SHT_PROGBITS), content_at, content.len() as u64],
                [9, u64::from(elf::abi::SHT_STRTAB), names_at, names.len() as u64],
            ];
            for [name, kind, offset, size] in &sections {
                body.extend((*name as u32).to_le_bytes());
                body.extend((*kind as u32).to_le_bytes());
                for word in [0, 0, *offset, *size, 0, 1, 0] {
                    body.extend(word.to_le_bytes());
                }
            }
        }
        let machine = if self.machine == 0 { Target::HERE.machine } else { self.machine };
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [elf::abi::ET_DYN, machine, 1, 0] {
            file.extend(half.to_le_bytes());
        }
        for word in [0, HEADER as u64, sections_at] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0; 4]);
        let names = if sections.is_empty() { 0 } else { sections.len() as u16 - 1 };
        for half in [HEADER as u16, SEGMENT as u16, count as u16, 64, sections.len() as u16, names]
        {
            file.extend(half.to_le_bytes());
        }
        for (kind, offset, size) in segments {
            file.extend(kind.to_le_bytes());
            file.extend(5_u32.to_le_bytes());
            for word in [offset, BASE + offset, BASE + offset, size, size, 8] {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(body);
        file
    }
}

/// An unnamed file with that content.
pub(super) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}
