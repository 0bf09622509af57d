//! The list of crates that `cargo auditable` embeds in a program.
//!
//! It is zlib-compressed JSON in the ELF section `.dep-v0`. Only that section is read, and both its
//! size and what it inflates to are bounded: the list is as much a stranger's as the program.

use std::fs::File;

use auditable_serde::{DependencyKind, Source, VersionInfo};
use semver::Version;

use super::object::Elf;

/// cargo-auditable's own bound for the JSON; a list of a thousand crates takes a tenth.
const MAX_JSON: usize = 8 << 20;

/// A crate that is part of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: Version,
    /// An advisory is about crates of crates.io; one of another source only shares the name.
    pub(super) public: bool,
}

/// The crates of a program, without those that only built it. `None`: it has no list.
///
/// # Errors
/// Why the list that is there cannot be read.
pub(super) fn read(file: &File) -> Result<Option<Vec<Crate>>, String> {
    let section = Elf::open(file)
        .and_then(|elf| elf.section(".dep-v0", MAX_JSON as u64))
        .map_err(|fault| fault.to_string())?;
    let Some(section) = section else { return Ok(None) };
    let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&section, MAX_JSON)
        .map_err(|error| format!("it does not inflate to {MAX_JSON} bytes or fewer: {error}"))?;
    let listed: VersionInfo =
        serde_json::from_slice(&json).map_err(|error| format!("it is not such a list: {error}"))?;
    let built_in = listed.packages.into_iter().filter(|it| it.kind == DependencyKind::Runtime);
    Ok(Some(
        built_in
            .map(|package| Crate {
                public: package.source == Source::CratesIo,
                name: package.name,
                version: package.version,
            })
            .collect(),
    ))
}

#[cfg(test)]
#[path = "crates_tests.rs"]
mod tests;
