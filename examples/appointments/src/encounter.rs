//! From encounters (what took place) to appointments (what was planned).
//!
//! Many systems record an encounter at one moment only. An appointment occupies time, so one of zero length
//! gets the default duration; nothing else about its times is changed.

use serde::Deserialize;
use serde_json::Map;

use crate::fault::{Fault, code};
use crate::fhir::{
    Appointment, AppointmentType, CodeableConcept, Participant, ParticipationStatus, Reference,
    Status, check_id,
};
use crate::instant::Instant;

/// The fields of a FHIR R4 Encounter that an appointment is made from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Encounter {
    id: String,
    status: EncounterStatus,
    class: Option<Class>,
    subject: Option<Reference>,
    period: Option<Period>,
    #[serde(default)]
    reason_code: Vec<CodeableConcept>,
    #[serde(default)]
    location: Vec<Located>,
    #[serde(default)]
    participant: Vec<Participation>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EncounterStatus {
    Planned,
    Arrived,
    Triaged,
    InProgress,
    Onleave,
    Finished,
    Cancelled,
    EnteredInError,
    Unknown,
}

impl EncounterStatus {
    fn of_appointment(self) -> Status {
        match self {
            Self::Planned => Status::Booked,
            Self::Arrived => Status::Arrived,
            Self::Triaged | Self::InProgress | Self::Onleave => Status::CheckedIn,
            Self::Finished => Status::Fulfilled,
            Self::Cancelled => Status::Cancelled,
            Self::EnteredInError => Status::EnteredInError,
            Self::Unknown => Status::Pending,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Class {
    code: Option<String>,
    display: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Period {
    start: Option<String>,
    end: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Located {
    location: Reference,
}

#[derive(Clone, Debug, Deserialize)]
struct Participation {
    #[serde(default, rename = "type")]
    role: Vec<CodeableConcept>,
    individual: Option<Reference>,
}

/// An appointment, and how its length was found.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The appointment; its id is the encounter's, so importing twice makes one of it.
    pub appointment: Appointment,
    /// The encounter had no end, or ended when it started: the default duration was used.
    pub defaulted: bool,
}

impl Encounter {
    /// The appointment that this encounter was, `default_duration` minutes long if it has no length of its own.
    ///
    /// # Errors
    /// A fault with the path in the encounter: no period, a time that is not RFC 3339 with an offset, an end
    /// before its start, a bad id.
    pub fn into_appointment(self, default_duration: u32) -> Result<Converted, Fault> {
        check_id("id", &self.id)?;
        let missing =
            |path: &str, message: &str| Fault::new(code::FIELD_INVALID, path, "", message);
        let period = self
            .period
            .ok_or_else(|| missing("period", "is missing; an appointment needs a start"))?;
        let start = period
            .start
            .ok_or_else(|| missing("period.start", "is missing; an appointment needs a start"))?;
        let start = Instant::parse("period.start", &start)?;
        let end = period.end.map(|end| Instant::parse("period.end", &end)).transpose()?;
        let (end, defaulted) = match end {
            Some(end) if end < start => {
                let message = format!("is before the start, {start}");
                return Err(Fault::new(code::PERIOD_INVALID, "period.end", end, &message));
            }
            Some(end) if end > start => (end, false),
            _ => (start.later(default_duration)?, true),
        };
        let subject = self
            .subject
            .ok_or_else(|| missing("subject", "is missing; an appointment needs a patient"))?;

        let description = self.class.and_then(|class| class.display.or(class.code));
        let mut appointment = Appointment {
            resource_type: AppointmentType::Appointment,
            supporting_information: vec![Reference::new(
                "Encounter",
                &format!("Encounter/{}", self.id),
            )],
            id: self.id,
            status: self.status.of_appointment(),
            start,
            end,
            minutes_duration: None,
            description,
            reason_code: self.reason_code,
            cancelation_reason: None,
            participant: participants(subject, self.participant, self.location),
            other: Map::new(),
        };
        appointment.minutes_duration = appointment.whole_minutes();
        appointment.check()?;
        Ok(Converted { appointment, defaulted })
    }
}

fn participants(
    subject: Reference,
    individuals: Vec<Participation>,
    locations: Vec<Located>,
) -> Vec<Participant> {
    let one = |kind: &str, role: Vec<CodeableConcept>, actor: Reference| {
        let kind = actor.kind().unwrap_or(kind).to_owned();
        let actor = Reference { kind: Some(kind), ..actor };
        Participant { role, actor, status: ParticipationStatus::Accepted, other: Map::new() }
    };
    let mut all = vec![one("Patient", Vec::new(), subject)];
    all.extend(individuals.into_iter().filter_map(|individual| {
        Some(one("Practitioner", individual.role, individual.individual?))
    }));
    all.extend(locations.into_iter().map(|at| one("Location", Vec::new(), at.location)));
    all
}

#[cfg(test)]
#[path = "encounter_tests.rs"]
mod tests;
