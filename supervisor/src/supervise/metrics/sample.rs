//! What the last sampling found.

use crate::supervise::plugin::Kept;
use crate::supervise::usage::{LimitEvents, Stalls, Usage};

/// Of a plugin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// None once the process that it is of has ended.
    pub(crate) process: Option<ProcessSample>,
    /// None: it could not be told.
    pub(crate) kept: Option<Kept>,
}

/// Of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessSample {
    pub(crate) generation: u64,
    pub(crate) usage: Usage,
    pub(crate) limit_events: LimitEvents,
    pub(crate) stalls: Stalls,
    /// Bytes received and sent through its own network namespace.
    pub(crate) network: Option<(u64, u64)>,
}

/// Of the service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceSample {
    /// Seconds since the epoch; zero before the first sampling.
    pub(crate) time: f64,
    /// None: the store could not be asked.
    pub(crate) store: Option<crate::supervise::store::Extent>,
}
