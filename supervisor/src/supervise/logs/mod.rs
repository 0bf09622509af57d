//! What plugins say: standard output, standard error, and the SDK's log calls, line by line.
//!
//! Theory of operation. A pipe that is read and not yet written down loses what it held when the
//! reader dies. So the bytes go by splice(2) from the pipe into a *spool* file, which a `kill -9`
//! cannot tear, and lines are read from the spool. Each record in the *book* (`current.jsonl`)
//! carries the position in its stream up to which it accounts; a supervisor that comes back reads
//! the positions from the book and goes on in the spool right there: no line lost, none twice.
//!
//! A plugin may write so much a second ([`rate`]). What is beyond is read, dropped and counted, and a
//! record stands in its place with the count; until that is written the spool's name holds it, so that
//! it is exact whatever dies. To make the plugin wait instead would stop one that logs too much in the
//! midst of a call. Yet its pipe is left alone for some milliseconds after each time that lines of it
//! were dropped: what it then writes faster waits for us, and what a flood costs is bounded.
//!
//! At a plugin's end what the pipe still holds is taken; nobody waits for a pipe to end, as any
//! left-over process could hold it open.

mod book;
mod capture;
mod journal;
mod line;
mod rate;
#[cfg(test)]
mod rate_tests;
mod reading;
mod spool;
#[cfg(test)]
mod tests;

pub(crate) use book::{Book, Level, LogCounts, Record, Rules, Stream};
pub(crate) use capture::{capture, finish_spools};
pub(crate) use journal::Journalled;
pub(crate) use line::Source;
#[cfg(test)]
pub(crate) use line::lost;
#[cfg(any(test, fuzzing))]
pub(crate) use line::records;
pub(crate) use rate::{Dropped, Rate};
pub(crate) use reading::{Found, Selection};
