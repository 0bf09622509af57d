//! The parts of FHIR R4 that this service reads and writes (<https://hl7.org/fhir/R4/appointment.html>).
//!
//! What it does not know about an appointment it keeps: unknown fields survive a round trip.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fault::{Fault, code};
use crate::instant::Instant;

/// A booking of a patient with a practitioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Appointment {
    /// Always `Appointment`.
    pub resource_type: AppointmentType,
    /// FHIR id, 1 to 64 of `A-Z a-z 0-9 - .`; empty in a request that leaves the choice to the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// When it begins.
    pub start: Instant,
    /// When it ends; the moment itself is free again.
    pub end: Instant,
    /// Its length in minutes, where that is a whole number of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes_duration: Option<u32>,
    /// What it is about, as shown in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Coded reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reason_code: Vec<CodeableConcept>,
    /// Why it was cancelled (FHIR spells it with one `l`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelation_reason: Option<CodeableConcept>,
    /// What it was made from, as `Encounter/<id>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supporting_information: Vec<Reference>,
    /// Who and what takes part.
    pub participant: Vec<Participant>,
    /// Every other field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The only value of `Appointment.resourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppointmentType {
    /// `Appointment`.
    #[default]
    Appointment,
}

/// `Appointment.status` (<https://hl7.org/fhir/R4/valueset-appointmentstatus.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not yet agreed.
    Proposed,
    /// Waiting for some participants.
    Pending,
    /// Agreed by all.
    Booked,
    /// The patient is there.
    Arrived,
    /// It took place.
    Fulfilled,
    /// Called off.
    Cancelled,
    /// The patient did not come.
    Noshow,
    /// Should never have been recorded.
    EnteredInError,
    /// The patient is there and registered.
    CheckedIn,
    /// Waiting for a time.
    Waitlist,
}

impl Status {
    /// Whether an appointment with this status occupies its participants' time.
    pub fn is_busy(self) -> bool {
        !matches!(
            self,
            Self::Proposed | Self::Cancelled | Self::Noshow | Self::EnteredInError | Self::Waitlist
        )
    }

    /// Whether the appointment lies ahead, so that it can be moved or cancelled.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Proposed | Self::Pending | Self::Booked | Self::Waitlist)
    }

    /// Whether somebody's word is still missing.
    pub fn is_tentative(self) -> bool {
        matches!(self, Self::Proposed | Self::Pending | Self::Waitlist)
    }

    /// The code as FHIR writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Pending => "pending",
            Self::Booked => "booked",
            Self::Arrived => "arrived",
            Self::Fulfilled => "fulfilled",
            Self::Cancelled => "cancelled",
            Self::Noshow => "noshow",
            Self::EnteredInError => "entered-in-error",
            Self::CheckedIn => "checked-in",
            Self::Waitlist => "waitlist",
        }
    }
}

/// Someone or something that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// In which role.
    #[serde(default, rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub role: Vec<CodeableConcept>,
    /// Who.
    pub actor: Reference,
    /// Whether they agreed.
    pub status: ParticipationStatus,
    /// Every other field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `Appointment.participant.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParticipationStatus {
    /// Will come.
    Accepted,
    /// Will not come.
    Declined,
    /// May come.
    Tentative,
    /// Has not answered.
    NeedsAction,
}

/// A pointer to another resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// `Patient/<id>`, `urn:uuid:<id>` or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The type of the resource, as `Patient`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What to show for it: a name, byte for byte as it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Every other field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Reference {
    /// A reference to the resource `reference`, of type `kind`.
    pub fn new(kind: &str, reference: &str) -> Self {
        Self {
            reference: Some(reference.to_owned()),
            kind: Some(kind.to_owned()),
            ..Self::default()
        }
    }

    /// The id that it ends in: `x` of `Patient/x`, `urn:uuid:x`, `https://ehr.example/fhir/Patient/x` and `x` alone.
    pub fn id(&self) -> Option<&str> {
        self.reference.as_deref().map(id_of)
    }

    /// Its type: as stated, or as its text shows.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref().or_else(|| {
            let (before, _) = self.reference.as_deref()?.rsplit_once('/')?;
            Some(before.rsplit('/').next().unwrap_or(before))
        })
    }
}

/// The id in which a reference ends, so that the ways to write one compare equal.
pub fn id_of(reference: &str) -> &str {
    let reference = reference.strip_prefix("urn:uuid:").unwrap_or(reference);
    reference.rsplit('/').next().unwrap_or(reference)
}

/// A concept: codes, text, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeableConcept {
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Codes and every other field, kept as they came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl CodeableConcept {
    /// A concept in words alone.
    pub fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }
}

/// Longest appointment accepted. Stays of years exist in real records; more than ten is a slip of the pen.
pub const LONGEST_MINUTES: i64 = 10 * 366 * 24 * 60;

impl Appointment {
    /// Its length in minutes, if it is a whole number of them.
    pub fn whole_minutes(&self) -> Option<u32> {
        let length = self.end.at().duration_since(self.start.at());
        let whole = length.subsec_nanos() == 0 && length.as_secs() % 60 == 0;
        whole.then(|| u32::try_from(length.as_mins()).ok()).flatten()
    }

    /// The id of the first participant of type `kind`.
    pub fn participant_id(&self, kind: &str) -> Option<&str> {
        self.actors(kind).find_map(Reference::id)
    }

    /// The participants of type `kind`.
    pub fn actors<'a, 'k>(
        &'a self,
        kind: &'k str,
    ) -> impl Iterator<Item = &'a Reference> + use<'a, 'k> {
        self.participant
            .iter()
            .map(|one| &one.actor)
            .filter(move |actor| actor.kind() == Some(kind))
    }

    /// Checks what the types cannot: the order of its times, its length, its participants.
    ///
    /// # Errors
    /// A fault with the path of the field.
    pub fn check(&self) -> Result<(), Fault> {
        if !self.id.is_empty() {
            check_id("id", &self.id)?;
        }
        if self.end <= self.start {
            let message = format!("is not after its start, {}", self.start);
            return Err(Fault::new(code::PERIOD_INVALID, "end", &self.end, &message));
        }
        if self.end.at().duration_since(self.start.at()).as_mins() > LONGEST_MINUTES {
            let message = format!("is more than ten years after its start, {}", self.start);
            return Err(Fault::new(code::PERIOD_INVALID, "end", &self.end, &message));
        }
        if self.participant.is_empty() {
            let message = "is empty; an appointment has at least one participant";
            return Err(Fault::new(code::FIELD_INVALID, "participant", "", message));
        }
        for (nth, one) in self.participant.iter().enumerate() {
            if one.actor.reference.is_none() && one.actor.display.is_none() {
                let path = format!("participant[{nth}].actor");
                let message = "has neither reference nor display; say who takes part";
                return Err(Fault::new(code::FIELD_INVALID, &path, "", message));
            }
        }
        Ok(())
    }
}

/// Checks a FHIR id (<https://hl7.org/fhir/R4/datatypes.html#id>).
///
/// # Errors
/// [`code::FIELD_INVALID`] with `path`.
pub fn check_id(path: &str, id: &str) -> Result<(), Fault> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(good) {
        let message = "is not a FHIR id: 1 to 64 letters, digits, '-' or '.'";
        return Err(Fault::new(code::FIELD_INVALID, path, id, message));
    }
    Ok(())
}

#[cfg(test)]
#[path = "fhir_tests.rs"]
mod tests;
