//! Ids for appointments that come without one.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::fhir::Appointment;

/// An id that `taken` does not know, made from the start and the participants: the same request gives the same id
/// unless it is taken, so that ids tell something and tests repeat.
pub(crate) fn fresh(appointment: &Appointment, taken: impl Fn(&str) -> bool) -> String {
    let stamp = appointment.start.at().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut hasher = DefaultHasher::new();
    for one in &appointment.participant {
        one.actor.reference.hash(&mut hasher);
        one.actor.display.hash(&mut hasher);
    }
    let who = hasher.finish();
    (0..u64::MAX)
        .map(|nth| format!("{stamp}-{:08x}", (who ^ nth) & 0xffff_ffff))
        .find(|id| !taken(id))
        .expect("there are more numbers than appointments")
}
