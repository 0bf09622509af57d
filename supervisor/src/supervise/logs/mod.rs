//! What plugins say: standard output, standard error, and the SDK's log calls, line by line.
//!
//! Theory of operation. A pipe that is read and not yet written down loses what it held when the
//! reader dies. So the bytes go by splice(2) from the pipe into a *spool* file, which a `kill -9`
//! cannot tear, and lines are read from the spool. Each record in the *book* (`current.jsonl`)
//! carries the position in its stream up to which it accounts; a supervisor that comes back reads
//! the positions from the book and goes on in the spool right there: no line lost, none twice.
//! At a plugin's end what the pipe still holds is taken; nobody waits for a pipe to end, as any
//! left-over process could hold it open.

mod book;
mod capture;
#[cfg(test)]
mod tests;

pub(crate) use book::{Book, Level, LogCounts, Record, Stream};
pub(crate) use capture::{capture, finish_spools};
