//! What is checked before an appointment is booked or moved.

use appointments::fhir::{
    Appointment, AppointmentType, Participant, ParticipationStatus, Reference, Status,
};
use jiff::SignedDuration;
use serde_json::Map;

use crate::api::BookRequest;
use crate::clinic::{Clinic, LONGEST, Window};
use crate::fault::{Fault, code};
use crate::moment::moment;

/// The time that `start` and `duration` ask for, which must be within the working hours unless `outside_hours`.
///
/// # Errors
/// A fault with the path of the field.
pub(crate) fn time(
    clinic: &Clinic,
    start: &str,
    duration: u32,
    outside_hours: bool,
) -> Result<Window, Fault> {
    check_duration("duration", duration)?;
    let begin = moment(clinic, "start", start)?;
    let end = begin.checked_add(SignedDuration::from_mins(duration.into())).map_err(|_| {
        Fault::new(code::TIME_INVALID, "start", start, "plus its duration is past the year 9999")
    })?;
    let wanted = Window { start: begin, end };
    let inside = clinic.window(clinic.date(begin)).is_some_and(|hours| hours.contains(&wanted));
    if inside || outside_hours {
        return Ok(wanted);
    }
    let zone = clinic.zone();
    let message = format!(
        "is outside the working hours, {}: it would be {} to {}; choose another time, or set outsideHours",
        clinic.hours(),
        zone.to_datetime(begin).strftime("%a %Y-%m-%d %H:%M"),
        zone.to_datetime(end).strftime("%H:%M"),
    );
    Err(Fault::new(code::OUTSIDE_WORKING_HOURS, "start", start, &message))
}

/// Checks a number of minutes.
///
/// # Errors
/// [`code::FIELD_INVALID`] with `path` unless it is 1 to a day.
pub(crate) fn check_duration(path: &str, minutes: u32) -> Result<(), Fault> {
    if (1..=LONGEST).contains(&minutes) {
        return Ok(());
    }
    let message = format!("is not 1 to {LONGEST} minutes");
    Err(Fault::new(code::FIELD_INVALID, path, minutes, &message))
}

/// The appointment that a request asks for, at a time that was checked.
///
/// # Errors
/// [`code::FIELD_INVALID`] when patient or practitioner is empty.
pub(crate) fn appointment(
    clinic: &Clinic,
    request: &BookRequest,
    at: Window,
) -> Result<Appointment, Fault> {
    let mut participant = vec![who("Patient", "patient", &request.patient)?];
    if let Some(practitioner) = &request.practitioner {
        participant.push(who("Practitioner", "practitioner", practitioner)?);
    }
    let mut appointment = Appointment {
        resource_type: AppointmentType::Appointment,
        id: request.id.clone().unwrap_or_default(),
        status: Status::Booked,
        start: clinic.local(at.start),
        end: clinic.local(at.end),
        minutes_duration: None,
        description: request.description.clone(),
        reason_code: Vec::new(),
        cancelation_reason: None,
        supporting_information: Vec::new(),
        participant,
        other: Map::new(),
    };
    appointment.minutes_duration = appointment.whole_minutes();
    Ok(appointment)
}

fn who(kind: &str, path: &str, text: &str) -> Result<Participant, Fault> {
    if text.trim().is_empty() {
        let message = format!("is empty; give the {path}'s id or a reference such as {kind}/17");
        return Err(Fault::new(code::FIELD_INVALID, path, text, &message));
    }
    let whole = text.contains('/') || text.starts_with("urn:");
    let reference = if whole { text.to_owned() } else { format!("{kind}/{text}") };
    let actor = Reference::new(kind, &reference);
    Ok(Participant {
        role: Vec::new(),
        actor,
        status: ParticipationStatus::Accepted,
        other: Map::new(),
    })
}

#[cfg(test)]
#[path = "booking_tests.rs"]
mod tests;
