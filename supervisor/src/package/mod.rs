//! Packages: what an author makes of a plugin's directory, and how one is opened.
//!
//! Theory of operation. A package `<id>-<version>.plugin` is one zstd frame that holds one archive in
//! the POSIX ustar format: `plugin.toml`, programs below `bin/`, and assets. The format is as narrow
//! as it can be, so that there is little to get wrong: regular files and directories, no extension
//! header of any kind, portable names, bounded everything ([`limits`]). [`reader`] is the only code
//! that understands those bytes; it checks and hands on, and what it hands on goes to a [`sink`]:
//! into a directory ([`unpack`], which runs in a compartment of its own), or nowhere (`pack`, which
//! reads back what it wrote before it gives it a name, so that whatever it makes can be opened).
//!
//! Signatures are about the compressed bytes and are checked before any of this. The published
//! description is `docs/packages.md`.

mod fault;
mod header;
mod inspect;
pub(crate) mod limits;
mod member;
mod pack;
mod reader;
mod sink;
mod source;
pub(crate) mod unpack;

#[cfg(any(test, fuzzing))]
pub(crate) use fault::ReadError;
pub(crate) use inspect::{check_name, inspect, open, unreadable};
pub(crate) use pack::pack;
#[cfg(any(test, fuzzing))]
pub(crate) use {reader::read, sink::Sink};

#[cfg(test)]
mod tests;
