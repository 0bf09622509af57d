//! Which appointments claim the same person at the same time.
//!
//! An appointment occupies `[start, end)`: one that begins when another ends is no conflict. Rooms are not
//! looked at: in the records at hand a location is a whole hospital.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fhir::Appointment;
use crate::instant::Instant;

/// The types of participant that can be in one place only.
const SINGLE: [&str; 2] = ["Patient", "Practitioner"];

/// Two appointments that overlap, and whom both claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// The one that starts first.
    pub first: Brief,
    /// The other.
    pub second: Brief,
    /// Whom both claim.
    pub shared: Vec<Shared>,
    /// Where the overlap begins: the start of the second.
    pub start: Instant,
    /// Where it ends: the earlier of both ends.
    pub end: Instant,
}

/// An appointment in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// Its id.
    pub id: String,
    /// When it begins.
    pub start: Instant,
    /// When it ends.
    pub end: Instant,
    /// The patient's name, or reference where the name is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
}

/// A participant whom two appointments claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// `Patient` or `Practitioner`.
    #[serde(rename = "type")]
    pub kind: String,
    /// FHIR id.
    pub id: String,
}

impl Brief {
    /// The appointment in short.
    pub fn of(appointment: &Appointment) -> Self {
        let patient = appointment.actors("Patient").next();
        Self {
            id: appointment.id.clone(),
            start: appointment.start.clone(),
            end: appointment.end.clone(),
            patient: patient.and_then(|who| who.display.clone().or_else(|| who.reference.clone())),
        }
    }
}

/// A type of participant and an id.
type Person<'a> = (&'a str, &'a str);

/// The participants of type Patient and Practitioner, as (type, id), each once.
fn people(appointment: &Appointment) -> Vec<Person<'_>> {
    let mut people: Vec<_> = SINGLE
        .iter()
        .flat_map(|kind| appointment.actors(kind).filter_map(move |who| Some((*kind, who.id()?))))
        .collect();
    people.sort_unstable();
    people.dedup();
    people
}

/// Whether two busy appointments overlap in time and claim someone in common; then, whom.
pub fn between(one: &Appointment, other: &Appointment) -> Option<Overlap> {
    let (first, second) = if one.start <= other.start { (one, other) } else { (other, one) };
    if !first.status.is_busy() || !second.status.is_busy() || first.end <= second.start {
        return None;
    }
    let theirs = people(second);
    let shared: Vec<_> = people(first).into_iter().filter(|who| theirs.contains(who)).collect();
    (!shared.is_empty()).then(|| overlap(first, second, &shared))
}

/// Gives every overlap among `appointments`, which must be in the order of their starts, to `emit`, in the order
/// of the second one's start. Takes `n log n` steps and one for each overlap.
pub fn sweep<'a>(
    appointments: impl IntoIterator<Item = &'a Appointment>,
    mut emit: impl FnMut(Overlap),
) {
    let mut open: HashMap<Person, Vec<(usize, &Appointment)>> = HashMap::new();
    let mut last = Timestamp::MIN;
    for (nth, second) in appointments.into_iter().enumerate() {
        debug_assert!(last <= second.start.at(), "appointments come in the order of their starts");
        last = second.start.at();
        if !second.status.is_busy() {
            continue;
        }
        let mut clashes: BTreeMap<usize, (&Appointment, Vec<Person>)> = BTreeMap::new();
        for who in people(second) {
            let running = open.entry(who).or_default();
            running.retain(|(_, earlier)| earlier.end.at() > second.start.at());
            for (earlier, first) in running.iter() {
                clashes.entry(*earlier).or_insert_with(|| (first, Vec::new())).1.push(who);
            }
            running.push((nth, second));
        }
        for (first, shared) in clashes.into_values() {
            emit(overlap(first, second, &shared));
        }
    }
}

fn overlap(first: &Appointment, second: &Appointment, shared: &[Person]) -> Overlap {
    let shared =
        shared.iter().map(|(kind, id)| Shared { kind: (*kind).to_owned(), id: (*id).to_owned() });
    Overlap {
        first: Brief::of(first),
        second: Brief::of(second),
        shared: shared.collect(),
        start: second.start.clone(),
        end: first.end.clone().min(second.end.clone()),
    }
}

#[cfg(test)]
#[path = "overlap_tests.rs"]
mod tests;
