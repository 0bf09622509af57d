//! A plugin's data on its way into an archive and out of it again.
//!
//! Theory of operation. `/data` belongs to the plugin: names, links and sizes in it are whatever a
//! hostile one has made of them. So it is read, and written again, by a program that has the plugin's
//! uid and nothing but that directory, in a compartment of its own: [`save()`] writes it as a tar stream
//! to standard output, [`restore()`] makes it again from one on standard input. Whoever keeps the stream
//! meanwhile need not understand it.
//!
//! ```text
//! data/…          files, directories and symbolic links; holes are zeros
//! skipped.json    what could not be kept, and why
//! ```

mod restore;
mod save;
mod sparse;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub(crate) use restore::run as restore;
pub(crate) use save::run as save;
pub(crate) use sparse::Sparse;

/// What all member names of data begin with.
const DATA: &str = "data/";
/// The report at the end of the stream.
const SKIPPED: &str = "skipped.json";
/// Directories within directories: each takes a descriptor of a few dozen.
const MAX_DEPTH: usize = 32;
/// The stream would be longer than was allowed.
pub(crate) const TOO_LARGE: u8 = 3;

/// How a role ends: what is wrong is told by the exit code, as both outputs are taken.
fn end(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => ExitCode::from(TOO_LARGE),
        Err(_) => ExitCode::FAILURE,
    }
}
