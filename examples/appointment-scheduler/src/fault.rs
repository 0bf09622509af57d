//! What this plugin refuses. The shape of a refusal is the provider's, so that a caller reads both in one way.

pub use appointments::fault::Fault;
use bulkhead_plugin_sdk::Error;

/// The codes of faults, beside those of the provider.
pub mod code {
    pub use appointments::fault::code::{CONFLICT, FIELD_INVALID, TIME_INVALID};

    /// The configuration names no time zone, or no hours, that can be.
    pub const CONFIG_INVALID: &str = "CONFIG_INVALID";
    /// The appointment is not, or not wholly, within the working hours.
    pub const OUTSIDE_WORKING_HOURS: &str = "OUTSIDE_WORKING_HOURS";
    /// Clocks are put forward past that local time.
    pub const TIME_SKIPPED: &str = "TIME_SKIPPED";
    /// Clocks show that local time twice.
    pub const TIME_AMBIGUOUS: &str = "TIME_AMBIGUOUS";
    /// The range ends before it begins, or is too long.
    pub const RANGE_INVALID: &str = "RANGE_INVALID";
}

/// The error of a fault, for the wire.
pub(crate) fn refused(fault: Fault) -> Error {
    Error::new(fault.code.clone(), fault.to_string()).with_details(&fault)
}
