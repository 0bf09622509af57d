//! The service `scheduling` 1.0.0: its methods, what they take and what they give. JSON in camelCase.
//!
//! A time in a request is a moment with its offset (`2026-03-09T10:00:00-04:00`) or a time on the clinic's clocks
//! (`2026-03-09T10:00`); where a range is asked for, a day (`2026-03-09`) will do. Replies give times with the
//! clinic's offset.

use appointments::fhir::{Appointment, Status};
use appointments::instant::Instant;
use appointments::overlap::Overlap;
use bulkhead_plugin_sdk::Method;
use serde::{Deserialize, Serialize};

/// The name under which the service is provided.
pub const SERVICE: &str = "scheduling";

/// `book`: books an appointment within the working hours, if the time is free. Needs `write:appointments`.
pub struct Book;

impl Method for Book {
    const NAME: &'static str = "book";
    type Request = BookRequest;
    type Reply = Appointment;
}

/// What to book.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BookRequest {
    /// The patient's id, or a reference to the patient.
    pub patient: String,
    /// The practitioner's id, or a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<String>,
    /// When it begins.
    pub start: String,
    /// Minutes; the clinic's `defaultDuration` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u32>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// An id of the caller's choice: repeating the request with it books once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Book outside the working hours too.
    #[serde(default)]
    pub outside_hours: bool,
    /// Book although patient or practitioner has another appointment then.
    #[serde(default)]
    pub allow_conflicts: bool,
}

/// `reschedule`: moves an appointment, under the same conditions as `book`. Needs `write:appointments`.
pub struct Reschedule;

impl Method for Reschedule {
    const NAME: &'static str = "reschedule";
    const IDEMPOTENT: bool = true;
    type Request = RescheduleRequest;
    type Reply = Appointment;
}

/// What to move, and to when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RescheduleRequest {
    /// The appointment's id.
    pub id: String,
    /// When it begins now.
    pub start: String,
    /// Minutes; its length stays if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u32>,
    /// Move it outside the working hours too.
    #[serde(default)]
    pub outside_hours: bool,
    /// Move it although patient or practitioner has another appointment then.
    #[serde(default)]
    pub allow_conflicts: bool,
}

/// `cancel`: cancels an appointment that has not taken place. Needs `write:appointments`.
pub struct Cancel;

impl Method for Cancel {
    const NAME: &'static str = "cancel";
    const IDEMPOTENT: bool = true;
    type Request = appointments::api::CancelRequest;
    type Reply = Appointment;
}

/// `slots`: free slots within the working hours. Needs `read:appointments`.
pub struct Slots;

impl Method for Slots {
    const NAME: &'static str = "slots";
    const IDEMPOTENT: bool = true;
    type Request = SlotsRequest;
    type Reply = SlotsReply;
}

/// Where to look. Without a practitioner and a patient, any appointment of the clinic takes its time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotsRequest {
    /// From this day or moment on.
    pub from: String,
    /// Up to this moment, or to the end of this day; 7 days if not given, 366 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whose time must be free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<String>,
    /// Whose time must be free, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// Minutes; the clinic's `defaultDuration` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u32>,
    /// Minutes from the beginning of one slot to that of the next; the duration if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// At most so many: 1 to 500, 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Free slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotsReply {
    /// The clinic's time zone.
    pub timezone: String,
    /// The length of each, in minutes.
    pub duration: u32,
    /// The slots in order.
    pub slots: Vec<Slot>,
    /// Whether there are more than the limit.
    pub truncated: bool,
}

/// A time that is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// It begins.
    pub start: Instant,
    /// It ends.
    pub end: Instant,
}

/// `conflicts`: who is booked twice at the same time. Needs `read:appointments`.
pub struct Conflicts;

impl Method for Conflicts {
    const NAME: &'static str = "conflicts";
    const IDEMPOTENT: bool = true;
    type Request = ConflictsRequest;
    type Reply = ConflictsReply;
}

/// Where to look; everywhere if nothing is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConflictsRequest {
    /// From this day or moment on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this moment, or to the end of this day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only conflicts of this patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// Only conflicts of this practitioner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<String>,
    /// List at most so many: 1 to 500, 50 if not given. All are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Who is booked twice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictsReply {
    /// How many pairs of appointments overlap.
    pub total: usize,
    /// How many appointments were looked at.
    pub appointments: usize,
    /// The first of the pairs.
    pub conflicts: Vec<Overlap>,
}

/// `agenda`: a day's appointments. Needs `read:appointments`.
pub struct Agenda;

impl Method for Agenda {
    const NAME: &'static str = "agenda";
    const IDEMPOTENT: bool = true;
    type Request = AgendaRequest;
    type Reply = AgendaReply;
}

/// Which day, and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgendaRequest {
    /// The day, in the clinic's time zone.
    pub date: String,
    /// Only this practitioner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub practitioner: Option<String>,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgendaReply {
    /// The day.
    pub date: String,
    /// The clinic's time zone.
    pub timezone: String,
    /// The working hours of the day; nothing on a day off.
    pub open: Option<Slot>,
    /// The appointments in order.
    pub appointments: Vec<AgendaEntry>,
    /// Minutes of the working hours that nobody has taken.
    pub free_minutes: i64,
    /// Pairs of appointments that claim the same person at the same time.
    pub conflicts: usize,
}

/// An appointment of the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgendaEntry {
    /// Its id.
    pub id: String,
    /// It begins.
    pub start: Instant,
    /// It ends.
    pub end: Instant,
    /// Where it stands.
    pub status: Status,
    /// The patient's name, or reference.
    pub patient: Option<String>,
    /// The practitioner's name, or reference.
    pub practitioner: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// It overlaps another one that claims the same person.
    pub conflict: bool,
    /// It is not, or not wholly, within the working hours.
    pub outside_hours: bool,
}
