//! What an ELF file says that decides whether it can be loaded: class, machine, loader, libraries.
//!
//! Theory of operation. The file is a stranger's. No offset or count in it is believed: each piece is
//! read by itself with pread(2) and a bound, what lies outside of the file is a fault, and nothing is
//! ever read as a whole, so the memory that it takes does not depend on the file. Layouts are the
//! `elf` crate's; they are the System V ABI's, chapters 4 and 5.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use elf::abi;
use elf::dynamic::Dyn;
use elf::endian::AnyEndian;
use elf::file::{Class, ELF32_EHDR_TAILSIZE, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use elf::parse::{ParseAt, ParseError, ParsingTable};
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

/// More program headers than any linker makes.
const MAX_SEGMENTS: usize = 1024;
/// More sections than are looked through for the crate list.
const MAX_SECTIONS: usize = 4096;
/// More entries than any dynamic section has.
const MAX_DYNAMIC: usize = 4096;
/// The longest path or name, as the kernel has it (PATH_MAX).
const MAX_TEXT: usize = 4096;

/// A program or a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) target: Target,
    /// The loader that the kernel starts for it; none: it is linked statically, or it is a library.
    pub(super) interpreter: Option<String>,
    /// The libraries that it needs, in their order.
    pub(super) needed: Vec<String>,
    /// The name by which others need it.
    pub(super) soname: Option<String>,
    /// Where to look first, for its own needs and those of what it loads. Only without `runpath`.
    pub(super) rpath: Vec<String>,
    /// Where to look, for its own needs only.
    pub(super) runpath: Vec<String>,
    /// The default directories are not looked at.
    pub(super) no_default: bool,
}

/// For which machine a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) bits: u8,
    pub(super) little_endian: bool,
    /// `e_machine`.
    pub(super) machine: u16,
}

impl Target {
    /// That of this program, and so of the plugins that this machine runs.
    pub(super) const HERE: Self = Self {
        bits: usize::BITS as u8,
        little_endian: cfg!(target_endian = "little"),
        machine: if cfg!(target_arch = "x86_64") {
            abi::EM_X86_64
        } else if cfg!(target_arch = "aarch64") {
            abi::EM_AARCH64
        } else {
            abi::EM_NONE
        },
    };
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match elf::to_str::e_machine_to_human_str(self.machine) {
            Some(machine) => write!(f, "{machine}")?,
            None => write!(f, "machine {}", self.machine)?,
        }
        let order = if self.little_endian { "little" } else { "big" };
        write!(f, ", {} bits, {order}-endian", self.bits)
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is no ELF file")]
    NotElf,
    #[error("it is an ELF file of type {0}, not a program or a library")]
    Kind(u16),
    #[error("it is malformed: {0}")]
    Malformed(String),
}

impl From<ParseError> for Fault {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::BadMagic(_) => Fault::NotElf,
            other => Fault::Malformed(other.to_string()),
        }
    }
}

/// A file whose header was read.
pub(super) struct Elf<'a> {
    file: &'a File,
    header: FileHeader<AnyEndian>,
}

impl<'a> Elf<'a> {
    pub(super) fn open(file: &'a File) -> Result<Self, Fault> {
        let mut ident = [0; abi::EI_NIDENT];
        if file.read_at(&mut ident, 0)? < ident.len() {
            return Err(Fault::NotElf);
        }
        let ident = parse_ident::<AnyEndian>(&ident)?;
        let length = match ident.1 {
            Class::ELF32 => ELF32_EHDR_TAILSIZE,
            Class::ELF64 => ELF64_EHDR_TAILSIZE,
        };
        let tail = read(file, abi::EI_NIDENT as u64, length)?;
        Ok(Self { file, header: FileHeader::parse_tail(ident, &tail)? })
    }

    pub(super) fn target(&self) -> Target {
        Target {
            bits: match self.header.class {
                Class::ELF32 => 32,
                Class::ELF64 => 64,
            },
            little_endian: self.header.endianness == AnyEndian::Little,
            machine: self.header.e_machine,
        }
    }

    /// What it takes to load it.
    pub(super) fn object(&self) -> Result<Object, Fault> {
        if !matches!(self.header.e_type, abi::ET_EXEC | abi::ET_DYN) {
            return Err(Fault::Kind(self.header.e_type));
        }
        let segments: Vec<ProgramHeader> = self.table(
            self.header.e_phoff,
            self.header.e_phentsize,
            self.header.e_phnum.into(),
            MAX_SEGMENTS,
            "program headers",
        )?;
        let of_kind = |kind: u32| segments.iter().find(|segment| segment.p_type == kind);
        let mut object = Object {
            target: self.target(),
            interpreter: None,
            needed: Vec::new(),
            soname: None,
            rpath: Vec::new(),
            runpath: Vec::new(),
            no_default: false,
        };
        if let Some(segment) = of_kind(abi::PT_INTERP) {
            object.interpreter = Some(self.text(segment.p_offset)?);
        }
        let Some(dynamic) = of_kind(abi::PT_DYNAMIC) else { return Ok(object) };
        let size = if self.header.class == Class::ELF32 { 8 } else { 16 };
        let count = (dynamic.p_filesz / size) as usize;
        let entries: Vec<Dyn> =
            self.table(dynamic.p_offset, size as u16, count, MAX_DYNAMIC, "dynamic entries")?;
        let entries: Vec<&Dyn> =
            entries.iter().take_while(|entry| entry.d_tag != abi::DT_NULL).collect();
        let value = |tag: i64| entries.iter().find(|entry| entry.d_tag == tag).map(|e| e.d_val());
        let strings = value(abi::DT_STRTAB);
        let string = |offset: u64| -> Result<String, Fault> {
            let address = strings.and_then(|address| address.checked_add(offset));
            let place = address.and_then(|address| place_of(&segments, address));
            let outside = || Fault::Malformed("a name lies outside of the file".to_owned());
            self.text(place.ok_or_else(outside)?)
        };
        for entry in &entries {
            match entry.d_tag {
                abi::DT_NEEDED => object.needed.push(string(entry.d_val())?),
                abi::DT_SONAME => object.soname = Some(string(entry.d_val())?),
                abi::DT_RPATH => object.rpath = path_list(&string(entry.d_val())?),
                abi::DT_RUNPATH => object.runpath = path_list(&string(entry.d_val())?),
                abi::DT_FLAGS_1 => {
                    object.no_default = entry.d_val() & abi::DF_1_NODEFLIB as u64 != 0;
                }
                _ => {}
            }
        }
        Ok(object)
    }

    /// The content of a section, if there is one of that name; `limit` bounds its bytes.
    pub(super) fn section(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
        if self.header.e_shoff == 0 || self.header.e_shnum == 0 {
            return Ok(None);
        }
        let sections: Vec<SectionHeader> = self.table(
            self.header.e_shoff,
            self.header.e_shentsize,
            self.header.e_shnum.into(),
            MAX_SECTIONS,
            "sections",
        )?;
        let Some(names) = sections.get(usize::from(self.header.e_shstrndx)) else {
            return Ok(None);
        };
        for section in &sections {
            let Some(at) = names.sh_offset.checked_add(section.sh_name.into()) else { continue };
            let mut found = vec![0; name.len() + 1];
            let read_bytes = self.file.read_at(&mut found, at)?;
            if read_bytes < found.len() || found.strip_suffix(b"\0") != Some(name.as_bytes()) {
                continue;
            }
            if section.sh_type == abi::SHT_NOBITS || section.sh_size > limit {
                let why = format!("section {name} has {} bytes or none here", section.sh_size);
                return Err(Fault::Malformed(why));
            }
            return read(self.file, section.sh_offset, section.sh_size as usize).map(Some);
        }
        Ok(None)
    }

    fn table<T: ParseAt>(
        &self,
        offset: u64,
        entry_size: u16,
        count: usize,
        most: usize,
        what: &str,
    ) -> Result<Vec<T>, Fault> {
        if count > most {
            let why =
                format!("it says that it has {count} {what}; more than {most} no linker makes");
            return Err(Fault::Malformed(why));
        }
        let (endian, class) = (self.header.endianness, self.header.class);
        let size = T::validate_entsize(class, entry_size.into())?;
        let bytes = read(self.file, offset, size * count)?;
        Ok(ParsingTable::new(endian, class, &bytes).iter().collect())
    }

    /// The text at `offset`, up to its NUL.
    fn text(&self, offset: u64) -> Result<String, Fault> {
        let mut bytes = vec![0; MAX_TEXT];
        let length = self.file.read_at(&mut bytes, offset)?;
        let end = bytes[..length].iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| Fault::Malformed("a name has no end".to_owned()))?;
        bytes.truncate(end);
        String::from_utf8(bytes).map_err(|_| Fault::Malformed("a name is not UTF-8".to_owned()))
    }
}

/// Where in the file the byte lies that is loaded at `address`.
fn place_of(segments: &[ProgramHeader], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type == abi::PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr)?;
        (within < segment.p_filesz).then(|| segment.p_offset.checked_add(within))?
    })
}

/// As ld.so(8) has it: separated by colons; an empty one would be the working directory, which is
/// the plugin's to write, and is passed over.
fn path_list(text: &str) -> Vec<String> {
    text.split(':').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// Exactly `length` bytes; a file that ends before is malformed. The callers bound `length`.
fn read(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput => {
            Fault::Malformed(format!("{length} bytes at {offset} lie outside of it"))
        }
        _ => Fault::Io(error),
    })?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
