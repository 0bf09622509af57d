//! The service `appointments` 1.0.0: its methods, what they take and what they give.
//!
//! Consumers link this module to call the service with types. Everything is JSON on the wire, in camelCase, with
//! FHIR R4 resources inside.

use bulkhead_plugin_sdk::{Method, Topic};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::fhir::{Appointment, Status};
use crate::instant::Instant;
use crate::overlap::Overlap;

pub use crate::import::{ImportReport, ImportRequest};

/// The name under which the service is provided.
pub const SERVICE: &str = "appointments";

/// `import`: takes FHIR resources, as NDJSON. Needs `write:appointments`.
pub struct Import;

impl Method for Import {
    const NAME: &'static str = "import";
    const IDEMPOTENT: bool = true;
    type Request = ImportRequest;
    type Reply = ImportReport;
}

/// `list`: appointments of a time, a patient, a practitioner, page by page. Needs `read:appointments`.
pub struct List;

impl Method for List {
    const NAME: &'static str = "list";
    const IDEMPOTENT: bool = true;
    type Request = ListRequest;
    type Reply = ListReply;
}

/// What `list` looks for. Each criterion that is given must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListRequest {
    /// Only what ends after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Instant>,
    /// Only what starts before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Instant>,
    /// A patient's id, or a reference to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// A practitioner's id, or a reference to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<String>,
    /// Only these statuses; empty for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// At most so many in this page: 1 to 1000, 200 if not given. A page is also cut at 512 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of appointments, in the order of their starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListReply {
    /// The appointments.
    pub appointments: Vec<Appointment>,
    /// Where the next page begins; nothing when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `get`: one appointment. Needs `read:appointments`.
pub struct Get;

impl Method for Get {
    const NAME: &'static str = "get";
    const IDEMPOTENT: bool = true;
    type Request = GetRequest;
    type Reply = Appointment;
}

/// Which appointment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {
    /// Its id.
    pub id: String,
}

/// `create`: books an appointment, if the time is free. Needs `write:appointments`.
///
/// Repeating it with the same id and content gives the same appointment and changes nothing.
pub struct Create;

impl Method for Create {
    const NAME: &'static str = "create";
    type Request = CreateRequest;
    type Reply = Appointment;
}

/// What to book.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateRequest {
    /// The appointment; without an id it gets one.
    pub appointment: Appointment,
    /// Book although its patient or practitioner has another appointment at that time.
    #[serde(default)]
    pub allow_conflicts: bool,
}

/// `cancel`: cancels an appointment that has not taken place. Needs `write:appointments`.
pub struct Cancel;

impl Method for Cancel {
    const NAME: &'static str = "cancel";
    const IDEMPOTENT: bool = true;
    type Request = CancelRequest;
    type Reply = Appointment;
}

/// What to cancel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Its id.
    pub id: String,
    /// Why, in words; kept in `cancelationReason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `reschedule`: moves an appointment that has not taken place, if the new time is free. Needs `write:appointments`.
pub struct Reschedule;

impl Method for Reschedule {
    const NAME: &'static str = "reschedule";
    const IDEMPOTENT: bool = true;
    type Request = RescheduleRequest;
    type Reply = Appointment;
}

/// What to move, and to when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RescheduleRequest {
    /// Its id.
    pub id: String,
    /// The new start.
    pub start: Instant,
    /// The new end; without it the length stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Instant>,
    /// Move although its patient or practitioner has another appointment at that time.
    #[serde(default)]
    pub allow_conflicts: bool,
}

/// `expire`: cancels what was never agreed upon and whose time is over. Called by the clock, each night.
pub struct Expire;

impl Method for Expire {
    const NAME: &'static str = "expire";
    const IDEMPOTENT: bool = true;
    /// What a schedule gives.
    type Request = ();
    type Reply = ExpireReply;
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireReply {
    /// How many were cancelled.
    pub expired: usize,
}

/// `stats`: how much there is. Needs `read:appointments`.
pub struct Stats;

impl Method for Stats {
    const NAME: &'static str = "stats";
    const IDEMPOTENT: bool = true;
    type Request = StatsRequest;
    type Reply = StatsReply;
}

/// Nothing to say.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsRequest {}

/// How much there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsReply {
    /// Appointments of any status.
    pub appointments: usize,
    /// Appointments by status.
    pub by_status: std::collections::BTreeMap<String, usize>,
    /// Patients on record.
    pub patients: usize,
    /// Different practitioners among the appointments.
    pub practitioners: usize,
    /// Pairs of busy appointments that claim the same person at the same time.
    pub overlaps: usize,
    /// The earliest start.
    pub first_start: Option<Instant>,
    /// The latest start.
    pub last_start: Option<Instant>,
}

/// `details` of the error [`CONFLICT`](crate::fault::code::CONFLICT).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictDetails {
    /// What takes the time, at most 20 of them.
    pub conflicts: Vec<Overlap>,
}

/// `details` of the error [`IMPORT_INVALID`](crate::fault::code::IMPORT_INVALID).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportDetails {
    /// How many lines were refused.
    pub refused: usize,
    /// The first of them, at most 100.
    pub faults: Vec<Fault>,
}

/// The topic on which each change of an appointment is published, as [`Changed`].
pub const CHANGED: &str = "appointments.changed";

/// What changed. As a [`Topic`], it is its own data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// `created`, `cancelled`, `rescheduled` or `imported`.
    pub change: String,
    /// The appointment; nothing for an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many appointments were written.
    pub count: usize,
}

impl Topic for Changed {
    const NAME: &'static str = CHANGED;
    type Data = Self;
}
