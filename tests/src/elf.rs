//! Changing a built program, by hand: no tool need be installed for it. 64 bits, little-endian.

use std::path::{Path, PathBuf};

/// Puts one text for another of the same length, wherever it is; whether it was anywhere.
pub fn replace(path: &Path, from: &str, to: &str) -> bool {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let mut found = false;
    let mut at = 0;
    while let Some(next) = find(&bytes[at..], from.as_bytes()) {
        bytes[at + next..at + next + to.len()].copy_from_slice(to.as_bytes());
        at += next + to.len();
        found = true;
    }
    std::fs::write(path, bytes).unwrap();
    found
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

/// Where this very process has a library of that name from.
pub fn loaded_library(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| path));
    let mut found = paths.filter(|path| path.ends_with(name));
    found.next().map(|path| PathBuf::from(format!("/{path}")))
}

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn half(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

/// Adds a section that is not loaded: its content and a new table of sections go to the end.
pub fn add_section(path: &Path, name: &str, content: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let (table, size, count) = (word(&bytes, 40), half(&bytes, 58), half(&bytes, 60));
    let names = table + size * half(&bytes, 62);
    let (names_at, names_size) = (word(&bytes, names + 24), word(&bytes, names + 32));
    let mut headers = bytes[table..table + size * count].to_vec();
    let content_at = bytes.len();
    bytes.extend(content);
    let new_names_at = bytes.len();
    bytes.extend_from_within(names_at..names_at + names_size);
    bytes.extend(name.as_bytes());
    bytes.push(0);
    let new_names_size = bytes.len() - new_names_at;
    let header = names - table;
    headers[header + 24..header + 32].copy_from_slice(&(new_names_at as u64).to_le_bytes());
    headers[header + 32..header + 40].copy_from_slice(&(new_names_size as u64).to_le_bytes());
    headers.extend((names_size as u32).to_le_bytes());
    headers.extend(1_u32.to_le_bytes());
    for value in [0, 0, content_at as u64, content.len() as u64, 0, 1, 0] {
        headers.extend(value.to_le_bytes());
    }
    let new_table = bytes.len();
    bytes.extend(headers);
    bytes[40..48].copy_from_slice(&(new_table as u64).to_le_bytes());
    bytes[60..62].copy_from_slice(&(count as u16 + 1).to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// Gives the program a RUNPATH in place of the entry of its dynamic section that is for debuggers.
/// The text takes the place of the name of a weak symbol that no library here defines: under another
/// name it is as absent. Whether there is room.
pub fn add_runpath(path: &Path, text: &str) -> bool {
    const DYNAMIC: u32 = 2;
    const RUNPATH: u64 = 29;
    const DEBUG: usize = 21;
    const STRTAB: usize = 5;
    const STRSZ: usize = 10;
    let mut bytes = std::fs::read(path).unwrap();
    let segments = word(&bytes, 32);
    let dynamic = (0..half(&bytes, 56))
        .map(|index| segments + index * 56)
        .find(|at| u32::from_le_bytes(bytes[*at..at + 4].try_into().unwrap()) == DYNAMIC);
    let Some(dynamic) = dynamic else { return false };
    let (at, size) = (word(&bytes, dynamic + 8), word(&bytes, dynamic + 32));
    let entry = |tag: usize| (at..at + size).step_by(16).find(|at| word(&bytes, *at) == tag);
    let (Some(strings), Some(length), Some(free)) = (entry(STRTAB), entry(STRSZ), entry(DEBUG))
    else {
        return false;
    };
    // They are in the first segment, which begins at the file's begin and at address 0.
    let (strings, length) = (word(&bytes, strings + 8), word(&bytes, length + 8));
    let name = b"\0_ITM_deregisterTMCloneTable\0";
    let Some(place) = find(&bytes[strings..strings + length], name) else { return false };
    let text = [text.as_bytes(), b"\0"].concat();
    assert!(text.len() < name.len());
    bytes[strings + place + 1..strings + place + 1 + text.len()].copy_from_slice(&text);
    bytes[free..free + 8].copy_from_slice(&RUNPATH.to_le_bytes());
    bytes[free + 8..free + 16].copy_from_slice(&(place as u64 + 1).to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    true
}

/// zlib's format (RFC 1950) with the content as it is, in stored blocks.
pub fn deflated(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = content.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in content {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}
