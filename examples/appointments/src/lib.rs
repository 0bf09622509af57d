//! The plugin `appointments`: keeps a clinic's appointments as FHIR R4 resources, and provides the service of the
//! same name to other plugins.
//!
//! One way through: a request comes in as [`api`] types; [`import`] and [`calendar`] decide, without any I/O, what
//! it changes; `store` writes that to the host's state, one key for each appointment, and only then does the
//! index in memory say so. After a restart the index is read back from the state.

pub mod api;
mod batch;
pub mod calendar;
pub mod encounter;
pub mod fault;
pub mod fhir;
mod id;
pub mod import;
pub mod instant;
mod measures;
pub mod ndjson;
pub mod overlap;
mod page;
pub mod patient;
mod plugin;
mod store;

pub use plugin::{Appointments, Config};
pub use store::Store;
