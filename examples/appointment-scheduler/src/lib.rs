//! The plugin `appointment-scheduler`: books appointments within a clinic's working hours, finds free slots, reports
//! conflicts, shows a day.
//!
//! It keeps nothing itself. Appointments are the plugin `appointments`' business, which it calls through the host;
//! what is here is the clinic's clock (`clinic`), reading times as people write them (`moment`) and arithmetic on
//! intervals (`slots`), all without I/O.

mod agenda;
pub mod api;
mod booking;
mod clinic;
pub mod fault;
mod moment;
mod plugin;
mod provider;
mod slots;

pub use clinic::{Config, Day, WorkingHours};
pub use plugin::Scheduler;
