//! Who did what: every operation that somebody asks for, with its outcome.
//!
//! Theory of operation. An operation runs in a task of its own, so that it ends as it should even if
//! whoever asked for it goes away meanwhile, and its outcome is written down before it is answered.

mod operation;

pub(crate) use operation::{Action, Operation};
